"""Which providers have asked to be left alone, and until when: what one call was told counts for those that come after.

Owns that memory. Must not know why a provider asks, or who is asked instead.
"""

from __future__ import annotations

from time import monotonic

#: Whoever asks for longer is tried again after this, in seconds.
_LONGEST = 3_600.0
#: Providers that are remembered at most.
_MOST = 1_024


class LeftAlone:
    """Of one executor, by the ids of providers. May be used from any thread."""

    def __init__(self) -> None:
        # Each step is one of the dictionary's own: a lock would not live through a fork.
        self._until: dict[str, float] = {}

    def told(self, provider: str, seconds: float) -> None:
        """A provider asks to be left alone for so long."""
        now = monotonic()
        for known, until in list(self._until.items()):
            if until <= now:
                self._until.pop(known, None)
        if provider in self._until or len(self._until) < _MOST:
            self._until[provider] = now + min(seconds, _LONGEST)

    def answered(self, provider: str) -> None:
        """A provider has answered all the same."""
        self._until.pop(provider, None)

    def __contains__(self, provider: str) -> bool:
        return self._until.get(provider, 0.0) > monotonic()
