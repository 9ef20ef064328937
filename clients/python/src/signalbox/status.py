"""How fresh the cache is, and what has happened to the stream.

Owns the rule of staleness. Takes the present from its caller, by `_clock`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import CacheError, RejectedError, SignalboxError


@dataclass(frozen=True)
class Rejection:
    """A revision that the option `validate` does not accept."""

    revision: int
    reason: str
    """Why not, for people: one line of at most 512 characters."""


@dataclass(frozen=True)
class Status:
    """How a client is at one moment."""

    ready: bool
    """Whether the cache is there and fresh, and the client not closed: what a readiness probe wants to know."""

    loaded: bool
    """Whether there is something to read, fresh or not."""

    stale: bool
    """Whether the cache may be older than the staleness bound. True before there is one."""

    revision: int
    """Revision of the cache; 0 before the first snapshot."""

    source: str
    """Where the cache was filled from last: `none`, `disk`, `stream`, or `environment`
    where the service is not used."""

    confirmed_age: float | None
    """Seconds since the store itself last confirmed the cache, through its server."""

    session_id: str
    """The server's name for the present stream."""

    last_error: SignalboxError | None
    """What stands in the way of following the stream; `None` while it is followed. An `UnconfirmedError` stays until the store
    is heard of again."""

    reconnects: int
    """Streams opened after the first."""

    resets: int
    """Resets that servers announced."""

    digest_mismatches: int
    """Times that the cache was found to differ from the server's, and was built anew."""

    cache_error: CacheError | None
    """Why the cache on disk could not be used or written last; `None` where it could, or where there is none."""

    rejection: Rejection | None
    """The newest revision, where it is not accepted. What was accepted last is served on meanwhile, and `ready` stays as it
    is."""


@dataclass(frozen=True)
class Health:
    """What the status is computed from. Moments are of `_clock`."""

    loaded: bool = False
    revision: int = 0
    source: str = "none"
    last_message: float | None = None
    #: When the store confirmed the cache last.
    confirmed_at: float | None = None
    #: Whether the cache is known to be wrong: it differs from the server's, or is of another life of the store. That is not
    #: fresh, whenever it was confirmed.
    refuted: bool = False
    #: How long the last stream took from being asked for to being in sync, in seconds.
    load_seconds: float = 0.0
    session_id: str = ""
    last_error: SignalboxError | None = None
    streams: int = 0
    resets: int = 0
    digest_mismatches: int = 0
    cache_error: CacheError | None = None
    rejection: Rejection | None = None

    @property
    def obstacle(self) -> SignalboxError | None:
        """What stands in the way of the present state."""
        if self.last_error is None and self.rejection is not None:
            return RejectedError(self.rejection.revision, self.rejection.reason)
        return self.last_error

    def status(self, now: float, bound: float) -> Status:
        """The status at a moment. Stale: nothing heard within the bound, or the server itself has not heard from the store
        within it, or the cache is known to be wrong."""
        age = None if self.confirmed_at is None else max(0.0, now - self.confirmed_at)
        silent = self.last_message is None or now - self.last_message > bound
        stale = not self.loaded or self.refuted or silent or age is None or age > bound
        return Status(
            ready=not stale,
            loaded=self.loaded,
            stale=stale,
            revision=self.revision,
            source=self.source,
            confirmed_age=age,
            session_id=self.session_id,
            last_error=self.last_error,
            reconnects=max(0, self.streams - 1),
            resets=self.resets,
            digest_mismatches=self.digest_mismatches,
            cache_error=self.cache_error,
            rejection=self.rejection,
        )
