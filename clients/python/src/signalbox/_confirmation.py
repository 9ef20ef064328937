"""By when a stream has to bring word of the store.

Owns the arithmetic. Takes the present from its caller, and must not know what follows where no word comes.
"""

from __future__ import annotations

from ._replica import Applied


class Confirmation:
    """Of one stream."""

    def __init__(self, patience: float, longest: float) -> None:
        #: How old the last word may be, in seconds; and how long there may be none while a stream brings new revisions.
        self.patience = patience
        self._longest = longest
        #: `None` until the stream has brought anything.
        self._by: float | None = None
        self._catch_up_by = 0.0

    def note(self, applied: Applied, now: float, *, fresh: bool, first_sync: bool) -> None:
        """Notes what a message says, at a moment; and whether that is within the staleness bound."""
        # The first word sets the time in which a resumed stream has to come in sync, and that sets it once more.
        begins = first_sync or self._by is None
        if begins or fresh:
            self._catch_up_by = now + self._longest
        # Heartbeats come behind all that is queued, and who has something new to send has its store.
        if begins or applied.advanced:
            by = min(now + self.patience, self._catch_up_by)
        elif applied.confirmed_age is not None:
            by = now + self.patience - applied.confirmed_age
        else:
            return
        self._by = by if self._by is None else max(self._by, by)

    def is_overdue(self, now: float) -> bool:
        """Whether there was no word for too long."""
        return self._by is not None and self._by <= now
