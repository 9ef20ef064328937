"""How long is waited before a provider is asked again, and when that is too long.

Owns that rule, which `tests/vectors/routing.json` of the repository holds in every language. Must not know why a call failed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wait:
    """What the pause before a provider is asked again depends on, in seconds."""

    own: float
    """The longest that the router's own pause may be this time."""

    longest: float
    """The longest that any pause may be."""

    asked: float | None
    """How long the provider asks to be left alone, if it does."""

    others: bool
    """Whether another provider is left that can be asked."""

    left: float
    """What is left of the call's time."""

    def length(self, random: float) -> float | None:
        """How long it is, by a random number from 0 to 1. `None` where the provider asks for more than is waited for: it is not
        asked again in this call. While another one can be asked, that is more than the router would wait by itself."""
        own = self.own * random
        if self.asked is None:
            return min(own, self.left)
        most = self.own if self.others else self.longest
        # Own time on top: many are told the same, and must not come back as one.
        return min(self.asked + own, self.left) if self.asked <= most and self.asked < self.left else None
