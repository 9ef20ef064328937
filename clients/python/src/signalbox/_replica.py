"""The state machine that turns the events of streams into snapshots.

Owns the watch contract on the client's side: what is staged, when it is served, where to resume, what is refused. Messages go
in, a snapshot and notifications come out; it must not know sockets, threads, clocks or callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from . import _proto
from .errors import DesyncError
from .events import ChangeEvent, ChangeSet, between, difference
from .resources import view_of
from .settings import Overrides
from .snapshot import Draft, Snapshot
from .status import Rejection

#: A revision that every cursor has passed.
_UNTIL_THE_SWAP = 0
#: Bytes of messages that are put together out of sight at most, and what a whole state may take, unless the options say otherwise. No
#: store holds so much; a server that never comes to an end must not fill the worker's memory.
MAX_STATE_BYTES = 1 << 30
#: What the names may take that are revoked and not passed yet, each with its length and this.
_MAX_REVOKED_BYTES = 16 << 20
_REVOKED_NAME_BYTES = 100
#: Tokens that are longer are not kept: no server would take them back.
_MAX_TOKEN_CHARS = 64 << 10
#: The longest name of a session, by the contract.
_MAX_SESSION_CHARS = 128
#: Resets after which what was served is as true as before, only old.
_TRUE_YET = ("compacted", "lagged")


class DigestError(DesyncError):
    """The digest of the cache is not the server's."""


@dataclass(frozen=True)
class Cursor:
    """Where a new stream goes on. Without a token it begins with a snapshot."""

    resume_token: str = ""
    view_id: str = ""

    @classmethod
    def told(cls, resume_token: str, view_id: str) -> Cursor:
        """As a server gives it."""
        return cls(resume_token, view_id) if len(resume_token) + len(view_id) <= _MAX_TOKEN_CHARS else cls()


@dataclass
class Applied:
    """What one message did."""

    changes: ChangeSet | None = None
    confirmed_age: float | None = None
    """Seconds since the server last heard from the store, where the message says so."""
    synced: bool = False
    session_id: str = ""
    reset: str = ""
    """Why the server begins anew, where it does."""
    refuted: bool = False
    """Whether what is served is known to be wrong, or to be of another life or view: nothing may begin with it again."""
    leave_after: float | None = None
    """Seconds after which to come back, where the server goes away."""
    revoked: bool = False
    rejected: bool = False
    advanced: bool = False
    """Whether it completes a later revision of the store."""
    over: DesyncError | None = None
    """Why the stream can't be followed any further, though this counts."""


@dataclass
class _Staging:
    """A snapshot that is put together out of sight."""

    draft: Draft
    bytes: int = 0
    begun: bool = False
    complete: bool = False


@dataclass
class _Part:
    """A revision of which the last part has not come yet."""

    draft: Draft
    bytes: int = 0
    events: list[ChangeEvent] = field(default_factory=list)


class Replica:
    """The client's copy of the store's state, and how far it has come.

    What is served is what is known, unless `validate` does not accept that: then it is what was accepted last, until a later
    revision is.
    """

    def __init__(
        self,
        served: Snapshot,
        cursor: Cursor,
        validate: Callable[[Snapshot], str | None] = lambda _: None,
        max_bytes: int = MAX_STATE_BYTES,
    ) -> None:
        self.served = served
        #: Where to resume with what is served.
        self.served_at = cursor
        #: The revision that is known and not accepted.
        self.rejection: Rejection | None = None
        self.cursor = cursor
        #: The store's state where the cursor stands.
        self.known = served
        self._validate = validate
        self._max_bytes = max_bytes
        #: A snapshot on its way; `None` where changes follow on what is served.
        self._staging: _Staging | None = None
        self._part: _Part | None = None
        #: A map of revoked names, and what they take.
        self._counted: tuple[Mapping[str, int], int] = ({}, 0)

    @classmethod
    def empty(cls, overrides: Overrides) -> Replica:
        return cls(Snapshot(overrides), Cursor())

    @property
    def is_unfinished(self) -> bool:
        """Whether a state is being put together that is not whole yet."""
        return self._staging is not None or self._part is not None

    def begin_stream(self) -> Cursor:
        """Forgets whatever the last stream left unfinished, and tells where the new one has to begin."""
        self._part = None
        self._staging = None
        if not self.cursor.resume_token:
            self.start_over()
        return self.cursor

    def start_over(self) -> None:
        """The next state comes as a snapshot. What is served is served on."""
        self.cursor = Cursor()
        self._part = None
        self._staging = _Staging(Draft(Snapshot(self.served._overrides)))

    def apply(self, message: Any) -> Applied:
        """Takes in one message. Raises `DesyncError` when the stream can't be followed; drop it then, the next begins with a
        snapshot."""
        kind = message.WhichOneof("event")
        if kind is None:
            # An event of a newer server, which by the rules of compatibility can be left out.
            return Applied()
        try:
            return self._handlers[kind](self, getattr(message, kind))
        except DesyncError:
            self.cursor = self.served_at = Cursor()
            raise

    def _snapshot(self, part: Any) -> Applied:
        staging = self._staging
        if staging is None:
            raise DesyncError("a snapshot without a reset")
        if staging.complete or (staging.begun and staging.draft.revision != part.revision):
            raise DesyncError("a snapshot of several revisions")
        self._grow(staging, part)
        staging.draft.revision = part.revision
        staging.begun = True
        staging.complete = part.last
        for resource in part.resources:
            staging.draft.upsert(view_of(resource))
        self._check_size(staging.draft)
        return Applied()

    def _synced(self, synced: Any) -> Applied:
        staging = self._staging
        if self._part is not None:
            raise DesyncError("synced in the middle of a revision")
        if staging is not None and staging.begun and not staging.complete:
            raise DesyncError("synced in the middle of a snapshot")
        if synced.revision < (self.known if staging is None else staging.draft).revision:
            raise DesyncError("synced below what it completes")
        before, rejected = self.served, False
        if staging is None:
            self._advance(synced.revision)
        else:
            staging.draft.revision = synced.revision
            rejected = not self._offer(staging.draft)
        self._move(Cursor.told(synced.resume_token, synced.view_id))
        self._staging = None
        # A snapshot shares nothing with what was served; after a resume this compares a map with itself.
        return Applied(
            changes=self._change_set(difference(before, self.served)),
            # A stream that resumes is in sync with where it left off; what it has missed is still to come, and only the
            # heartbeat after that confirms the present.
            confirmed_age=None if staging is None else _proto.seconds(synced.confirmed_age),
            synced=True,
            session_id=_session(synced.session_id),
            rejected=rejected,
        )

    def _changes(self, changes: Any) -> Applied:
        if self._staging is not None:
            raise DesyncError("changes before the snapshot is complete")
        part, self._part = self._part, None
        if part is None:
            if changes.revision <= self.known.revision:
                raise DesyncError("changes at or below what was sent before")
            part = _Part(Draft(self.known))
            part.draft.revision = changes.revision
        elif part.draft.revision != changes.revision:
            raise DesyncError("a revision begins before the last part of another")
        self._grow(part, changes)
        for change in changes.changes:
            _take_in(part, change, changes.traceparent, changes.tracestate)
        self._check_size(part.draft)
        if not changes.last:
            self._part = part
            return Applied()
        before, caught_up = self.served, self.rejection is None
        rejected = not self._offer(part.draft)
        self._move(Cursor.told(changes.resume_token, self.cursor.view_id))
        events = tuple(part.events) if caught_up and not rejected else difference(before, self.served)
        return Applied(changes=self._change_set(events), rejected=rejected, advanced=True)

    def _progress(self, progress: Any) -> Applied:
        if self._staging is not None or self._part is not None:
            raise DesyncError("progress ahead of what is still to come")
        if progress.revision < self.known.revision:
            raise DesyncError("progress below what was sent before")
        # A server may leave the digest out; it can't send half of one.
        if progress.digest and progress.digest != self.known.digest:
            if len(progress.digest) != 16:
                raise DesyncError("a digest that is not 16 bytes")
            raise DigestError(f"the digest of the cache at revision {progress.revision} is not the server's")
        self._advance(progress.revision)
        self._move(Cursor.told(progress.resume_token, self.cursor.view_id))
        return Applied(confirmed_age=_proto.seconds(progress.confirmed_age))

    def _reset(self, reset: Any) -> Applied:
        reason = reset.DESCRIPTOR.fields_by_name["reason"].enum_type.values_by_number.get(reset.reason)
        word = "unknown" if reason is None else reason.name.removeprefix("RESET_REASON_").lower()
        self.start_over()
        if word in ("other_store", "ahead") and self.served._revoked:
            # Revisions begin anew. Those of the former life might never be passed, so they hold until the swap.
            self._refuse({name: _UNTIL_THE_SWAP for name in self.served._revoked})
        return Applied(reset=word, refuted=word not in _TRUE_YET)

    def _revoked(self, revoked: Any) -> Applied:
        # While a snapshot is on its way, what is served may be of another life, and its revision no measure.
        if self._staging is None and revoked.revision <= self.served.revision:
            return Applied()
        before, over = self.served, None
        names = dict.fromkeys(revoked.names, revoked.revision)
        held = {name: at for name, at in names.items() if name in before._resources}
        taken = self._revoked_bytes() + _bytes_of(name for name in names if name not in before._revoked)
        if taken > _MAX_REVOKED_BYTES:
            # What is held is refused all the same; the snapshot that brings the rest may be long in coming.
            names, over = held, DesyncError("more names are revoked than can be kept")
            self.cursor = self.served_at = Cursor()
        elif not held:
            # Nothing that is shown changes, so that names without end need not be copied again and again.
            before._revoked.update(names)
            self._counted = (before._revoked, taken)
            return Applied(revoked=True)
        self._refuse({**before._revoked, **names})
        return Applied(self._change_set(difference(before, self.served)), revoked=True, over=over)

    def _revoked_bytes(self) -> int:
        """What the names take that are revoked, counted once for each map."""
        revoked = self.served._revoked
        if self._counted[0] is not revoked:
            self._counted = (revoked, _bytes_of(revoked))
        return self._counted[1]

    def _going_away(self, going_away: Any) -> Applied:
        return Applied(leave_after=_proto.seconds(going_away.reconnect_after))

    def _advance(self, revision: int) -> None:
        """The same resources at a later revision."""
        if self.rejection is not None:
            # What is served does not become a later revision by that.
            self.known = self.known._at(revision)
        elif self._still_revoked(revision) != self.served._revoked:
            draft = Draft(self.served)
            draft.revision = revision
            self._serve(draft.publish(self.served, self._still_revoked(revision)))
        elif revision > self.served.revision:
            self._serve(self.served._at(revision))

    def _move(self, cursor: Cursor) -> None:
        self.cursor = cursor
        if self.rejection is None:
            self.served_at = cursor

    def _offer(self, draft: Draft) -> bool:
        """Serves what the cursor has come to, if it is accepted; tells whether it is. Revocations at or below it are part of
        the state then."""
        offered = draft.publish(self.served, self._still_revoked(draft.revision))
        reason = self._validate(offered)
        if reason is None:
            self._serve(offered)
            return True
        self.known, self.rejection = offered, Rejection(offered.revision, reason)
        # What is gone may be gone because it has leaked.
        gone = self.served._resources.keys() - offered._resources.keys()
        if gone - self.served._revoked.keys():
            self._refuse({**self.served._revoked, **dict.fromkeys(gone, offered.revision)})
        return False

    def _serve(self, snapshot: Snapshot) -> None:
        self.served = self.known = snapshot
        self.rejection = None

    def _still_revoked(self, revision: int) -> Mapping[str, int]:
        return {name: revokes for name, revokes in self.served._revoked.items() if revokes > revision}

    def _refuse(self, revoked: Mapping[str, int]) -> None:
        """Gives out no secret of these names any more."""
        self.served = Draft(self.served).publish(self.served, revoked)
        if self.rejection is None:
            self.known = self.served

    def _grow(self, unfinished: _Staging | _Part, message: Any) -> None:
        """Counts what is put together out of sight, and refuses too much."""
        unfinished.bytes += message.ByteSize()
        if unfinished.bytes > self._max_bytes:
            raise DesyncError(
                f"more than {self._max_bytes} bytes (max_state_bytes) have come before a state is whole"
            )

    def _check_size(self, draft: Draft) -> None:
        if draft.bytes > self._max_bytes:
            raise DesyncError(f"the state is larger than {self._max_bytes} bytes (max_state_bytes)")

    def _change_set(self, events: tuple[ChangeEvent, ...]) -> ChangeSet | None:
        return ChangeSet(events, self.served) if events else None

    _handlers: ClassVar[Mapping[str, Callable[[Any, Any], Applied]]] = {
        "snapshot": _snapshot,
        "synced": _synced,
        "changes": _changes,
        "progress": _progress,
        "reset": _reset,
        "revoked": _revoked,
        "going_away": _going_away,
    }


def _bytes_of(names: Iterable[str]) -> int:
    return sum(len(name) + _REVOKED_NAME_BYTES for name in names)


def _session(name: str) -> str:
    """The name of a session; empty for what is none, and would be refused where it is said again."""
    return name if len(name) <= _MAX_SESSION_CHARS and name.isascii() and name.isprintable() else ""


def _take_in(part: _Part, change: Any, traceparent: str, tracestate: str) -> None:
    if change.type == _proto.DELETED:
        before, after = part.draft.remove(change.name), None
    else:
        # Every other type, those of newer servers included, brings the resource as it is.
        if not change.HasField("resource") or change.resource.name != change.name:
            raise DesyncError("a change without its resource")
        after = view_of(change.resource)
        before = part.draft.upsert(after)
    event = between(
        change.name, part.draft.revision, before, after, change.action, change.actor, traceparent, tracestate
    )
    if event is not None:
        part.events.append(event)
