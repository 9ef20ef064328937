"""The thread that watches: opens a stream, follows it, waits, opens the next.

Owns deadlines, delays and what is recorded about them. What messages mean is the replica's; how a stream is opened is the
transport's. A watcher runs once; who goes on after a fork makes a new one from where this had come.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import _proto
from ._backoff import Backoff
from ._clock import monotonic
from ._confirmation import Confirmation
from ._lookout import Lookout
from ._replica import MAX_STATE_BYTES, Applied, Cursor, DigestError, Replica
from ._state import State
from ._transport import Subject
from ._watchdog import Watchdog
from .errors import DesyncError, EndedError, RpcError, SignalboxError, SilentError, UnconfirmedError
from .snapshot import Snapshot

_log = logging.getLogger("signalbox")

_BACKOFF_FLOOR = 0.1
_BACKOFF_CEILING = 10.0
#: Between attempts that only a person can make succeed.
_FATAL_DELAY = 30.0
#: No server may send a client away for longer.
_MAX_REQUESTED_DELAY = 60.0
#: Until a snapshot is complete a server may be silent for longer: it admits snapshots at a bounded rate.
_SYNC_DEADLINE = 30.0
#: How long a server may take to send a state as a whole, however little it is silent meanwhile.
_WHOLE_DEADLINE = 600.0
#: Heartbeats that may be missed.
_MISSED_INTERVALS = 3
#: Resets after which what was served is no state of the store that there is now.
_OTHER_LIVES = ("other_store", "ahead")


class Transport(Protocol):
    """What opens streams."""

    @property
    def endpoint(self) -> str: ...

    def rotate(self) -> None: ...

    def connect(self, further: int = 0) -> Any: ...

    def go_to(self, found: Any) -> None: ...

    def open(self, request: Any) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Position:
    """How far a watcher has come: what it serves, and where to resume. All of one moment."""

    served: Snapshot
    cursor: Cursor
    subject: Subject = ("", "")
    """Whom the token speaks for that what is served has come with."""
    refuted: bool = False
    """Whether what is served must not be begun with again, until a whole state has taken its place."""


class Watcher:
    """Follows streams until it is stopped."""

    def __init__(
        self,
        transport: Transport,
        request: Callable[[], Any],
        progress_interval: float,
        position: Position,
        state: State,
        random: Callable[[], float],
        on_message: Callable[[Applied, Position], None],
        validate: Callable[[Snapshot], str | None] = lambda _: None,
        max_bytes: int = MAX_STATE_BYTES,
    ) -> None:
        self._transport = transport
        self._request = request
        self._heartbeat = progress_interval * _MISSED_INTERVALS
        self.position = position
        self._replica = Replica(position.served, position.cursor, validate, max_bytes)
        self._state = state
        #: How old the last word of the store may be before another server is looked for, so that there is one before this client is
        #: stale.
        self._patience = max(self._heartbeat, state.staleness.bound / 2)
        self._random = random
        self._backoff = Backoff(_BACKOFF_FLOOR, _BACKOFF_CEILING, random)
        self._on_message = on_message
        self._lock = threading.Lock()
        self._stream: Any = None
        self._stopping = False
        self._forking = False
        self._wake = threading.Event()
        self._start_over = False
        # Of the present stream.
        self._asked = 0.0
        self._opened: float | None = None
        self._synced = False
        self._confirmation = Confirmation(self._patience, _WHOLE_DEADLINE)
        #: While the store is not heard of in time.
        self._lookout: Lookout | None = None
        #: Whether it has been heard of.
        self._confirmed = False
        self._subject: Subject = ("", "")
        #: Whether there may be a session at the service whose name has not come yet.
        self._nameless = False
        self._leave_at: float | None = None
        self._delay = 0.0
        self._thread = threading.Thread(target=self._run, name="signalbox-watch", daemon=True)

    def start(self, delay: float = 0.0) -> None:
        """Begins to watch, after so many seconds."""
        self._delay = delay
        self._thread.start()

    def settle(self, timeout: float) -> bool:
        """Waits until the session of the present stream has a name; whether there is nothing more to wait for. One that ends
        before can't be named by the next, and the service waits for a worker that there is not. Nobody is waited for who has not
        answered last."""
        error = self._state.health.last_error
        answers = error is None or isinstance(error, UnconfirmedError)
        if not answers or self._thread is threading.current_thread():
            return True
        return self._state.wait(lambda: not self._nameless, monotonic() + timeout)

    def stop(self, timeout: float, *, forking: bool = False) -> None:
        """Ends the stream and the thread. One that hangs in a token callback can't be waited for, and publishes nothing
        any more."""
        with self._lock:
            self._stopping, self._forking = True, forking
            self._interrupt()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def resume_from(self) -> Position:
        """Where the next watcher begins, once this one is stopped."""
        return self.position

    def start_over(self) -> None:
        """Asks for a new snapshot, at once."""
        with self._lock:
            self._start_over = True
            self.position = replace(self.position, cursor=Cursor(), refuted=True)
            self._interrupt()

    def report(self, request: Any) -> Any:
        """Reports over the connection of the present stream, and returns the answer. Raises `SignalboxError`."""
        with self._lock:
            stream = self._stream
        if stream is None:
            raise EndedError("there is no stream")
        return stream.report(request)

    def _interrupt(self) -> None:
        self._wake.set()
        if self._stream is not None:
            self._stream.cancel()

    def _run(self) -> None:
        self._wait(self._delay)
        while not self._stopping:
            end: SignalboxError
            try:
                end = self._follow()
            except Exception as error:
                # A defect here must not end the cache for good: the next stream begins with a snapshot.
                _log.exception("the configuration stream could not be followed")
                self._replica.start_over()
                end = DesyncError(f"a defect: {type(error).__name__}")
            if self._stopping:
                break
            resume_at = self._account_for(end)
            self._transport.rotate()
            self._wait(resume_at - monotonic())
        self._transport.close()

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._wake.wait(seconds)
            self._wake.clear()

    def _follow(self) -> SignalboxError:
        """Opens a stream and follows it to its end, which is always an error of some sort."""
        self._opened, self._synced, self._leave_at = None, False, None
        self._confirmation = Confirmation(self._patience, _WHOLE_DEADLINE)
        self._confirmed, self._nameless = False, True
        with self._lock:
            if self._start_over:
                self._start_over = False
                self._replica.start_over()
        watchdog, begun = None, None
        try:
            stream = self._open()
            deadline = monotonic() + self._deadline()
            watchdog = Watchdog(stream.cancel, deadline)
            for message in stream:
                now = monotonic()
                if now > deadline:
                    # Also where this process stood still: what has waited for it meanwhile tells of the past as if it were the
                    # present.
                    return self._silent()
                self._take_in(message, now)
                if self._stopping:
                    break
                begun = (begun or now) if self._replica.is_unfinished else None
                if begun is not None and now - begun > _WHOLE_DEADLINE:
                    self._replica.start_over()
                    return DesyncError(f"a state is not whole after {_WHOLE_DEADLINE:.0f} s")
                # A state on its way has a deadline of its own: nothing confirms it before it is whole.
                overdue = begun is None and self._confirmation.is_overdue(monotonic())
                left = self._look(stream, overdue=overdue)
                if left is not None:
                    return left
                deadline = monotonic() + self._deadline()
                if self._leave_at is not None:
                    deadline = min(deadline, self._leave_at)
                watchdog.move(deadline)
        except SignalboxError as error:
            left = self._unconfirmed()
            if self._look_no_more():
                return left
            return self._silent() if watchdog is not None and watchdog.expired else error
        finally:
            self._look_no_more()
            if watchdog is not None:
                watchdog.release()
            with self._lock:
                stream, self._stream = self._stream, None
            if stream is not None:
                if self._forking:
                    stream.abandon()
                else:
                    stream.close()
            self._nameless = False
        return SilentError("the watcher is stopped")

    def _look(self, stream: Any, *, overdue: bool) -> SignalboxError | None:
        """Looks for another server while this one does not hear of the store. The stream is kept until one is found.

        Gives why the stream is left, where one was found already: then it is cancelled, whatever it has said since.
        """
        if not overdue:
            left = None if self._lookout is None else self._unconfirmed()
            return left if self._look_no_more() else None
        if self._lookout is None:
            error = self._unconfirmed()
            _log.warning("%s: another server is looked for that hears of the store", error)
            self._state.record(last_error=error)
            lookout = Lookout(self._transport.connect, self._patience, stream.cancel, self._random)
            try:
                lookout.start()
            except RuntimeError:
                # No thread is to be had now; the next message tries it again.
                return None
            self._lookout = lookout
        return None

    def _look_no_more(self) -> bool:
        """Ends that, and tells whether another server was found. The next stream is opened there."""
        lookout, self._lookout = self._lookout, None
        found = None if lookout is None else lookout.stop()
        if found is not None:
            self._transport.go_to(found)
        return found is not None

    def _open(self) -> Any:
        cursor = self._replica.begin_stream()
        request = self._request()
        request.resume_token = cursor.resume_token
        request.view_id = cursor.view_id
        self._asked = monotonic()
        stream = self._transport.open(request)
        self._subject = stream.subject
        with self._lock:
            self._stream = stream
            if self._stopping or self._start_over:
                stream.cancel()
        return stream

    def _take_in(self, message: Any, now: float) -> None:
        """Takes in a message that has come at a moment."""
        try:
            applied = self._replica.apply(message)
        except DesyncError as error:
            self._lose(error)
            raise
        health: dict[str, Any] = {"last_message": now}
        if self._opened is None:
            self._opened = now
            health["streams"] = self._state.health.streams + 1
        self._confirm(applied, now, health)
        if applied.synced:
            self._synced = True
            health.update(session_id=applied.session_id, load_seconds=now - self._asked)
            _log.info("configuration is in sync at revision %d", self._replica.known.revision)
        if applied.reset:
            self._synced = False
            health["resets"] = self._state.health.resets + 1
            # What is served on until the snapshot is complete may be of a life of the store that is over.
            health["refuted"] = self._state.health.refuted or applied.reset in _OTHER_LIVES
            _log.warning("configuration is sent anew: %s", applied.reset)
        if applied.leave_after is not None:
            leave_at = now + min(applied.leave_after, _MAX_REQUESTED_DELAY)
            self._leave_at = leave_at if self._leave_at is None else min(leave_at, self._leave_at)
            _log.info("the server goes away, and asks for %.1f s", applied.leave_after)
        if self._stopping:
            return
        rejection = health["rejection"] = self._replica.rejection
        if applied.rejected and rejection is not None:
            _log.warning(
                "configuration of revision %d is not accepted: %s", rejection.revision, rejection.reason
            )
        if rejection is None and (applied.synced or self._state.health.rejection is not None):
            health.update(loaded=True, source="stream", refuted=False)
        self._move(applied)
        self._state.publish(self._replica.served, applied.changes, **health)
        self._on_message(applied, self.position)
        if applied.synced:
            self._nameless = False
        if applied.over is not None:
            raise applied.over

    def _confirm(self, applied: Applied, now: float, health: dict[str, Any]) -> None:
        """Notes what a message says of how fresh the store's word is, and by when it has to be heard again."""
        age = applied.confirmed_age
        if age is not None:
            health["confirmed_at"] = now - age
        fresh = age is not None and age <= self._state.staleness.bound
        self._confirmation.note(applied, now, fresh=fresh, first_sync=applied.synced and self._nameless)
        heard = fresh and not self._confirmation.is_overdue(now)
        self._confirmed = self._confirmed or fresh
        # A server that tells nothing fresh is in the way until one does, however many streams it opens.
        if heard or (applied.synced and not isinstance(self._state.health.last_error, UnconfirmedError)):
            health["last_error"] = None

    def _move(self, applied: Applied) -> None:
        """Notes how far this has come."""
        served, cursor = self._replica.served, self._replica.served_at
        with self._lock:
            subject, refuted = self.position.subject, self.position.refuted or applied.refuted
            if self._synced and not self._start_over and self._replica.rejection is None:
                subject, refuted = self._subject, False
            self.position = Position(served, Cursor() if refuted else cursor, subject, refuted)

    def _lose(self, error: DesyncError) -> None:
        """Notes that nothing may go on from here, before anybody takes this over."""
        refuted = isinstance(error, DigestError)
        with self._lock:
            refuted = self.position.refuted or refuted
            self.position = replace(self.position, cursor=Cursor(), refuted=refuted)
        if isinstance(error, DigestError):
            health = self._state.health
            self._state.record(refuted=True, digest_mismatches=health.digest_mismatches + 1)
            if not self._stopping:
                self._on_message(Applied(refuted=True), self.position)

    def _silent(self) -> SignalboxError:
        return SilentError(f"nothing was heard from {self._transport.endpoint} for {self._deadline():.0f} s")

    def _unconfirmed(self) -> SignalboxError:
        return UnconfirmedError(
            f"{self._transport.endpoint} has confirmed nothing for {self._patience:.0f} s"
        )

    def _deadline(self) -> float:
        """How long the server may be silent at this point, in seconds."""
        return self._heartbeat if self._synced else max(self._heartbeat, _SYNC_DEADLINE)

    def _account_for(self, end: SignalboxError) -> float:
        """Records how a stream ended, and tells when the next may begin."""
        now = monotonic()
        if self._start_over:
            return now
        failed = isinstance(end, DesyncError | UnconfirmedError)
        lived = self._confirmed and self._opened is not None and now - self._opened >= _BACKOFF_CEILING
        # A cache that does not match has not worked, however long it took to find out, nor has a server without its store.
        if lived and not failed:
            self._backoff.reset()
        if self._leave_at is not None and not failed:
            # Else a server that sends everybody away at once would be asked again at once, for ever.
            return self._leave_at if lived else max(self._leave_at, now + self._backoff.next_delay())
        health: dict[str, Any] = {"last_error": end}
        delay = self._delay_after(end)
        _log.warning("the configuration stream was lost (%s), the next attempt is in %.1f s", end, delay)
        self._state.record(**health)
        return now + delay

    def _delay_after(self, end: SignalboxError) -> float:
        if end.is_fatal:
            return self._backoff.spread(_FATAL_DELAY)
        own = self._backoff.next_delay()
        requested = (
            end.details.retry_delay if isinstance(end, RpcError) and end.code != "UNAUTHENTICATED" else None
        )
        if requested is None:
            return own
        return max(own, self._backoff.spread(min(max(requested, 0.0), _MAX_REQUESTED_DELAY)))


def watch_request(
    selectors: Any, secrets: bool, progress_interval: float, worker_id: str, worker_labels: Any, version: str
) -> Any:
    """The request of a stream, but for where it resumes."""
    request = _proto.WatchConfigRequest(include_secrets=secrets)
    for selector in selectors:
        selector.to_wire(request.selectors.add())
    _proto.set_seconds(request.progress_interval, progress_interval)
    request.worker.id = worker_id
    request.worker.labels.update(worker_labels)
    request.worker.client_version = f"signalbox-python/{version}"
    return request
