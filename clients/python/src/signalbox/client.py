"""The handle that a worker holds.

Owns the life of the threads, the waits, and what happens around a fork. Reads go to the published snapshot.
"""

from __future__ import annotations

import inspect
import logging
import os
import socket
import time
from collections.abc import Callable
from importlib import metadata
from random import random
from typing import Any
from urllib.parse import urlsplit

from . import _fork
from ._clock import monotonic
from ._disk_cache import DiskCache, identity, read_key_file
from ._hosts import is_loopback
from ._replica import Applied, Cursor
from ._reporter import Reporter
from ._saver import Saver
from ._state import CountingState, State
from ._transport import Dialer, Subject, TokenSource
from ._validation import Validation
from ._watcher import Position, Watcher, watch_request
from .environment import environment_snapshot
from .errors import CacheError, ClosedError, NotReadyError, RevisionNotReachedError
from .events import ChangeEvent
from .options import Options, as_path
from .selectors import Selector, selectors
from .settings import Overrides
from .snapshot import Getters, Snapshot
from .status import Status
from .subscription import Callback, Dispatcher, Subscription

__all__ = ["Client", "Reader", "connect"]

_log = logging.getLogger("signalbox")

#: How long a start waits for the server when there is a cache on disk that would do.
_DISK_GRACE = 0.1
#: How long a thread of ours may take to end.
_JOIN = 2.0
#: How long a fork waits for the service to name the session of a stream that was opened just before.
_SETTLE = 1.0
#: How long the parent of a fork waits for the next one before it connects again: a server forks all its workers in a row.
_AFTER_FORK = 0.3


class Reader(Getters):
    """What a client and a fake have in common: the getters, the waits for a change, the listening."""

    def __init__(self, state: State) -> None:
        self._state = state
        # Bound once: each read goes through it.
        self._current = state.current
        self._dispatcher = Dispatcher(self.subscribe)

    def snapshot(self) -> Snapshot:
        """The present state, all of one revision: take one for each piece of work that reads several things."""
        return self._state.current()

    def status(self) -> Status:
        """How the client is now."""
        return self._state.status()

    def subscribe(self) -> Subscription:
        """Every change from now on, in order, through a bounded queue: `for changes in client.subscribe(): ...`."""
        return self._subscribe(None)

    def on_change(
        self, call: Callable[[ChangeEvent], object], selector: str | Selector | list[str | Selector] = "*"
    ) -> Callback:
        """Calls back, in a thread of its own and in order, for each change of a resource that a selector picks as it was or as
        it is. One that falls behind the queue gets the differences to the present instead of each change; one that raises is
        logged and called again for the next."""
        if inspect.iscoroutinefunction(call):
            raise TypeError(
                "on_change calls in a thread, where no loop runs: iterate over changes() with async for"
            )
        callback = Callback(selectors(selector), call)
        self._dispatcher.register(callback)
        return callback

    def _subscribe(self, on_offer: Callable[[], None] | None) -> Subscription:
        if self._state.closed:
            raise ClosedError("the client has been closed")
        return self._state.feed.subscribe(lambda: self._state.served, on_offer)


class Client(Reader):
    """A worker's view of the configuration, kept up to date by a thread. Made by `connect`, ended by `close`.

    Every getter reads the present snapshot from memory: no lock, no I/O. Two getters in a row may see two revisions; to read
    several things of one, take `snapshot`. All methods may be called from any thread, and after a fork: the child has a live
    cache of its own, which begins with the parent's.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        overrides = Overrides.of(options.environment, options.defaults)
        kind = State if options.metrics is None else CountingState
        super().__init__(kind(overrides, options.staleness, options.event_queue))
        self._began = monotonic()
        self._watcher: Watcher | None = None
        self._saver: Saver | None = None
        self._reporter: Reporter | None = None
        self._reads_told = 0
        #: How many streams had brought anything when a fork has waited for one in vain.
        self._unanswered: int | None = None
        self._token = _token_source(options)
        self._cache = _disk_cache(options, self._token) if options.enabled else None
        if not options.enabled:
            # Nothing confirms it, and nothing has to.
            always: dict[str, Any] = {"last_message": float("inf"), "confirmed_at": float("inf")}
            snapshot = environment_snapshot(os.environ, overrides)
            self._state.publish(snapshot, None, loaded=True, source="environment", **always)
            return
        _warn_of_plaintext(options)
        position = self._load(overrides) or Position(self._state.served, Cursor())
        # Another thread's fork waits: it would not know of the stream that begins here.
        with _fork.lock:
            self._watch(position)
            _fork.register(self)

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Waits until there is something to read: the state of the service, or, where that does not answer at once, the last
        one known from disk. `status().ready` says whether it is fresh.

        Raises `NotReadyError` with what stands in the way: when the time is over, or before that when only a person can mend
        it (`is_fatal`). The client goes on trying in either case.
        """
        self._state.wait(self._decided, monotonic() + timeout)
        self._raise_unless_ready()

    def wait_revision(self, revision: int, timeout: float = 10.0) -> None:
        """Waits until the cache has come to a revision, for example that of one's own write. Raises
        `RevisionNotReachedError` when the time is over."""
        if not self._state.wait(lambda: self._reached(revision), monotonic() + timeout):
            raise RevisionNotReachedError(revision, self._state.health.revision)

    def clear_cache(self, timeout: float = 10.0) -> None:
        """Forgets where the stream was, removes the cache on disk, and waits until a new snapshot has replaced the old state,
        which is served on meanwhile. Raises `NotReadyError` when the time is over."""
        replaced = self._start_over()
        if not self._state.wait(replaced, monotonic() + timeout):
            raise NotReadyError(self._state.health.obstacle)

    def close(self) -> None:
        """Ends the stream, the threads and all subscriptions. What was read stays readable."""
        self._end(float("inf"))

    def _end(self, deadline: float) -> None:
        """As `close`, which waits for nothing beyond a moment."""

        def patience() -> float:
            return min(_JOIN, max(0.0, deadline - monotonic()))

        if self._reporter is not None and self._watcher is not None and not self._state.closed:
            # No goodbye can be said for a session without a name, and the service would wait a minute for this worker.
            self._watcher.settle(min(_SETTLE, patience()))
        with _fork.lock:
            if self._state.closed:
                return
            _fork.forget(self)
            if self._reporter is not None:
                self._reporter.leave(patience())
            if self._watcher is not None:
                self._watcher.stop(patience())
            # Within the lock, so that a child of another thread's fork has a client that is closed wholly, or not at all.
            self._state.close()
        if self._saver is not None:
            self._saver.stop(patience())
        self._dispatcher.close(patience())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {', '.join(self._options.urls)}: {self._state.served!r}>"

    def _decided(self) -> bool:
        health = self._state.health
        if health.source in ("stream", "environment") or (
            health.last_error is not None and health.last_error.is_fatal
        ):
            return True
        waited = health.last_error is not None or monotonic() - self._began >= _DISK_GRACE
        return self._state.closed or (health.loaded and waited)

    def _raise_unless_ready(self) -> None:
        health = self._state.health
        self._check_open()
        fatal = health.last_error is not None and health.last_error.is_fatal and health.source != "stream"
        if fatal or not health.loaded:
            raise NotReadyError(health.obstacle, None if health.loaded else health.cache_error)

    def _reached(self, revision: int) -> bool:
        health = self._state.health
        if health.loaded and health.revision >= revision:
            return True
        self._check_open()
        return False

    def _check_open(self) -> None:
        if self._state.closed:
            raise ClosedError("the client has been closed")

    def _start_over(self) -> Callable[[], bool]:
        """Begins anew, and returns what tells whether a new snapshot is there."""
        self._check_open()
        session = self._state.health.session_id
        streams = self._state.health.streams
        if self._watcher is None:
            return lambda: True
        # From here on what was to be written is not written any more.
        self._watcher.start_over()
        if self._saver is not None:
            self._saver.remove()
        elif self._cache is not None:
            self._cache.remove()

        def replaced() -> bool:
            self._check_open()
            health = self._state.health
            return health.streams > streams and health.session_id != session and health.obstacle is None

        return replaced

    def _watch(self, position: Position, delay: float = 0.0) -> None:
        """Watches from a position on, after so many seconds. The threads begin once everything is in its place."""
        options = self._options
        files = (as_path(options.ca_file), as_path(options.cert_file), as_path(options.key_file))
        watcher = self._watcher = Watcher(
            Dialer(options.urls, self._token, *files),
            self._request,
            options.progress_interval,
            position,
            self._state,
            random,
            self._heard,
            Validation(options.validate),
            options.max_state_bytes,
        )
        if self._cache is not None and self._saver is None:
            self._saver = Saver(self._cache, self._state, self._position)
        if options.report:
            self._reporter = Reporter(watcher.report)
            self._reporter.start()
        watcher.start(delay)

    def _position(self) -> Position:
        assert self._watcher is not None
        return self._watcher.position

    def _request(self) -> Any:
        options = self._options
        worker_id = options.worker_id or f"{socket.gethostname()[:100]}-{os.getpid()}"
        request = watch_request(
            options.watched,
            options.secrets,
            options.progress_interval,
            worker_id,
            options.worker_labels,
            _VERSION,
        )
        request.worker.silent = not options.report
        request.previous_session_id = self._state.health.session_id
        return request

    def _heard(self, applied: Applied, _position: Position) -> None:
        """After each message, in the watcher's thread."""
        if self._reporter is not None:
            self._reporter.heard(applied, self._state.health)
        if self._saver is not None:
            if applied.changes is not None or applied.synced or applied.refuted:
                self._saver.changed(urgent=applied.revoked or applied.refuted)
            elif applied.confirmed_age is not None:
                self._saver.confirmed()
        if self._options.metrics is not None:
            self._measure(applied)

    def _measure(self, applied: Applied) -> None:
        health, tell = self._state.health, self._options.metrics
        assert tell is not None
        known, self._reads_told = self._reads_told, self._state.reads
        try:
            tell("revision", health.revision)
            tell("reads", self._reads_told - known)
            if applied.changes is not None:
                tell("changes", len(applied.changes.events))
            if applied.confirmed_age is not None:
                tell("confirmed_age", applied.confirmed_age)
            if applied.synced:
                tell("load_seconds", health.load_seconds)
                tell("reconnects", max(0, health.streams - 1))
                tell("digest_mismatches", health.digest_mismatches)
            if applied.reset:
                tell("resets", health.resets)
            if applied.revoked:
                tell("revocations", 1)
        except BaseException:
            _log.exception("the metrics hook failed")

    def _load(self, overrides: Overrides) -> Position | None:
        """Begins with what is on disk, where that can be used."""
        if self._cache is None:
            return None
        try:
            saved = self._cache.load(overrides)
        except CacheError as error:
            _log.warning("%s", error)
            self._state.record(cache_error=error)
            return None
        if saved is None:
            return None
        confirmed_at = monotonic() - max(0.0, time.time() - saved.confirmed)
        self._state.publish(saved.snapshot, None, loaded=True, source="disk", confirmed_at=confirmed_at)
        _log.info("configuration of revision %d was read from disk", saved.snapshot.revision)
        return Position(saved.snapshot, saved.cursor, saved.subject)

    def _before_fork(self) -> None:
        # gRPC's core does not live through a fork while a thread is in it, so the stream is left for that moment.
        if self._watcher is not None:
            # A server that says nothing is waited for once, and not by each fork of a row.
            if self._state.health.streams != self._unanswered and not self._watcher.settle(_SETTLE):
                self._unanswered = self._state.health.streams
            self._watcher.stop(_JOIN, forking=True)
        if self._reporter is not None:
            self._reporter.stop(_JOIN)

    def _after_fork_in_parent(self) -> None:
        if self._watcher is not None and not self._state.closed:
            self._watch(self._watcher.resume_from(), _AFTER_FORK)

    def _after_fork_in_child(self) -> None:
        self._state.after_fork()
        # The session is the parent's, and goes on.
        self._state.record(session_id="")
        self._saver = None
        if self._watcher is not None:
            self._watch(self._watcher.resume_from())
        self._dispatcher.restart()


def connect(options: Options | None = None, **changes: Any) -> Client:
    """Starts to watch, and returns at once. From then on the client reconnects by itself, until it is closed.

    Without options they come from the environment, and each can be given by name, for example `connect(secrets=True)`: see
    `Options`. Raises `OptionsError` for options that can't work, `CredentialFileError` for a key file that can't be used.
    """
    return Client(resolve(options, changes))


def resolve(options: Options | None, changes: dict[str, Any]) -> Options:
    """The options as they are meant."""
    if options is None:
        return Options.from_environment(**changes)
    if changes:
        raise TypeError("either options, or single ones by name")
    return options


def _warn_of_plaintext(options: Options) -> None:
    token = (options.token, options.token_file, options.token_callback)
    if not options.secrets and all(each is None for each in token):
        return
    for url in options.urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            _log.warning(
                "the token and what it opens go to %s over plain http, for anybody on the way to read: use https",
                parts.netloc,
            )


def _token_source(options: Options) -> TokenSource:
    return TokenSource(options.token, as_path(options.token_file), options.token_callback)


def _disk_cache(options: Options, token: TokenSource | None = None) -> DiskCache | None:
    path, key_file = as_path(options.cache_file), as_path(options.cache_key_file)
    if path is None:
        return None
    if key_file is not None:
        secret = read_key_file(key_file)
    else:
        key = options.cache_key or ""
        secret = key.encode() if isinstance(key, str) else key
    source = token or _token_source(options)

    def of(subject: Subject) -> bytes:
        return identity(options.urls, options.watched, options.secrets, subject)

    client = f"signalbox-python/{_VERSION}"
    return DiskCache(path, secret, of, options.cache_max_age, client, source.subject)


def _version() -> str:
    try:
        return metadata.version("signalbox-client")
    except metadata.PackageNotFoundError:
        return "0"


_VERSION = _version()
