"""The thread that keeps the cache on disk up to date.

Owns when it is written: soon after a change, at once after a revocation, and once in a while, so that its age is told right. What
the service has refuted is removed at once, and nothing is written until a whole state has taken its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ._clock import monotonic
from ._disk_cache import DiskCache, Saved
from ._state import State
from ._watcher import Position
from .errors import CacheError

_log = logging.getLogger("signalbox")

#: A burst of changes is written once.
_SETTLE = 1.0
#: Without a change the time of confirmation is written so often.
_REFRESH = 30.0


class Saver:
    """Writes what it was told last."""

    def __init__(self, cache: DiskCache, state: State, position: Callable[[], Position]) -> None:
        self._cache = cache
        self._state = state
        self._position = position
        self._condition = threading.Condition()
        #: Held while the file is touched.
        self._touching = threading.Lock()
        self._removed = False
        self._due = float("inf")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="signalbox-cache", daemon=True)
        self._thread.start()

    def changed(self, *, urgent: bool = False) -> None:
        """What is on disk is not the present state any more."""
        self._plan(monotonic() + (0.0 if urgent else _SETTLE))

    def confirmed(self) -> None:
        """What is on disk is the present state, but was confirmed since."""
        if self._due == float("inf"):
            self._plan(monotonic() + _REFRESH)

    def remove(self) -> None:
        """Removes the file, and what is being written at this moment with it. Raises `CacheError`."""
        with self._touching:
            self._cache.remove()

    def stop(self, timeout: float) -> None:
        """Writes what is due, and ends."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(timeout)

    def _plan(self, due: float) -> None:
        with self._condition:
            if due < self._due:
                self._due = due
                self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._stopping and monotonic() < self._due:
                    remaining = self._due - monotonic()
                    self._condition.wait(None if remaining == float("inf") else max(0.0, remaining))
                due, self._due = self._due, float("inf")
            if due < float("inf"):
                with self._touching:
                    self._save()
            # What became due during a write is written as well.
            if self._stopping and self._due == float("inf"):
                return

    def _save(self) -> None:
        confirmed_at = self._state.health.confirmed_at
        position = self._position()
        if confirmed_at is None or not self._state.health.loaded or (position.refuted and self._removed):
            return
        error = None
        try:
            if position.refuted:
                self._cache.remove()
            else:
                # An older time of confirmation with a newer state is on the safe side; the other way round would not be.
                confirmed = time.time() - (monotonic() - confirmed_at)
                self._cache.save(Saved(position.served, position.cursor, confirmed, position.subject))
            self._removed = position.refuted
        except CacheError as failed:
            error = failed
            _log.warning("%s", failed)
        if error is not None or self._state.health.cache_error is not None:
            self._state.record(cache_error=error)
