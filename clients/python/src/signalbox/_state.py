"""What a client has published, for its getters and its waiters.

Owns the present snapshot, its freshness, and the waiting for both. Must not know streams; the one who writes it is the
watcher, or a fake.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from typing import Any

from ._clock import monotonic
from .events import ChangeSet
from .settings import Overrides
from .snapshot import Snapshot
from .staleness import Staleness
from .status import Health, Status
from .subscription import Feed


class State:
    """What may be read now. One thread writes, all read."""

    def __init__(self, overrides: Overrides, staleness: Staleness, queue: int) -> None:
        self.served = Snapshot(overrides)
        #: Until this moment of the clock nothing is refused for its age.
        self.fresh_until = float("-inf")
        self.health = Health()
        self.staleness = staleness
        self.feed = Feed(queue)
        self.closed = False
        self._changed = threading.Condition()
        self._watchers: set[Callable[[], object]] = set()
        self._aged: Snapshot | None = None

    def current(self) -> Snapshot:
        """The present snapshot, as it may be read at its age."""
        if monotonic() < self.fresh_until:
            return self.served
        return self._at_its_age()

    @property
    def reads(self) -> int:
        """How often the present snapshot was asked for, where that is counted."""
        return 0

    def publish(self, snapshot: Snapshot, changes: ChangeSet | None, **health: Any) -> None:
        """Makes a snapshot the present one, and tells of what it changes."""
        health.setdefault("revision", snapshot.revision)
        self.served = snapshot
        self.record(**health)
        if changes is not None:
            self.feed.publish(changes)

    def record(self, **health: Any) -> None:
        """Changes the health, and wakes who waits."""
        with self._changed:
            self.health = dataclasses.replace(self.health, **health)
            if self.health.loaded and self.health.confirmed_at is not None:
                self.fresh_until = self.health.confirmed_at + self.staleness.first_limit
            self._changed.notify_all()
            watchers = list(self._watchers)
        for wake in watchers:
            wake()

    def status(self) -> Status:
        status = self.health.status(monotonic(), self.staleness.bound)
        # What has been closed hears nothing any more, however fresh it still is.
        return dataclasses.replace(status, ready=False) if self.closed else status

    def wait(self, until: Callable[[], bool], deadline: float) -> bool:
        """Waits for a condition that is looked at whenever something changes; whether it came to hold."""
        with self._changed:
            while not until():
                # Conditions may also depend on time.
                remaining = min(deadline - monotonic(), 0.05)
                if remaining <= 0 and monotonic() >= deadline:
                    return False
                self._changed.wait(max(0.0, remaining))
            return True

    def watch(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Calls back at each change of the health, until what this returns is called."""
        with self._changed:
            self._watchers.add(wake)
        return lambda: self._watchers.discard(wake)

    def close(self) -> None:
        self.closed = True
        self.feed.close()
        self.record()

    def after_fork(self) -> None:
        """Makes the locks anew: in a forked child nobody is left to release the parent's."""
        self._changed = threading.Condition()
        self._watchers = set()
        self.feed.after_fork()

    def _at_its_age(self) -> Snapshot:
        served, confirmed_at = self.served, self.health.confirmed_at
        if not self.health.loaded or confirmed_at is None:
            # Nothing but overrides and defaults.
            return served
        aging = self.staleness.aging(monotonic() - confirmed_at)
        if aging is None:
            return served
        aged = self._aged
        if aged is None or aged._sequence != served._sequence or aged._aging != aging:
            aged = self._aged = served._aged(aging)
        return aged


class CountingState(State):
    """Counts reads besides, for those who want metrics: it costs each read a little."""

    def __init__(self, overrides: Overrides, staleness: Staleness, queue: int) -> None:
        super().__init__(overrides, staleness, queue)
        # One step of C, so that threads lose none.
        self._reads = itertools.count()

    def current(self) -> Snapshot:
        next(self._reads)
        return super().current()

    @property
    def reads(self) -> int:
        # There is no other way to look at a counter without moving it.
        return int(repr(self._reads)[len("count(") : -1])
