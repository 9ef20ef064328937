"""How long to wait before the next attempt.

Owns the arithmetic of delays. Must not know what is attempted, and takes its randomness from outside.
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Exponential backoff with full jitter: the n-th delay is uniform between zero and `floor * factor^n`, at most `ceiling`.

    Full jitter, because ten thousand workers that lost one server must not come back in step.
    """

    def __init__(
        self, floor: float, ceiling: float, random: Callable[[], float], factor: float = 2.0
    ) -> None:
        self._floor = floor
        self._ceiling = ceiling
        self._random = random
        self._factor = factor
        self._failures = 0

    def next_delay(self) -> float:
        """The next delay in seconds, after one more failure in a row."""
        return self.next_cap() * self._random()

    def next_cap(self) -> float:
        """The longest that the next delay may be, after one more failure in a row."""
        cap = min(self._ceiling, self._floor * self._factor ** min(self._failures, 64))
        self._failures += 1
        return cap

    def spread(self, least: float) -> float:
        """A delay of at least `least` and at most a tenth more, for waits that somebody else has asked for."""
        return least + least / 10 * self._random()

    def reset(self) -> None:
        """Forgets the failures: what was attempted has worked."""
        self._failures = 0
