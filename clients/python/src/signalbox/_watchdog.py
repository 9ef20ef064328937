"""Cancels what stays silent for too long.

gRPC's blocking streams have no deadline for a single message, and a half-open connection would be waited on for ever. Owns
one thread. Must not know what it cancels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._clock import monotonic


class Watchdog:
    """Calls `cancel` once, when the deadline passes without having been moved."""

    def __init__(self, cancel: Callable[[], None], deadline: float) -> None:
        self.expired = False
        self._cancel = cancel
        self._deadline = deadline
        self._released = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="signalbox-watchdog", daemon=True)
        self._thread.start()

    def move(self, deadline: float) -> None:
        """Moves the deadline. A later one wakes nobody: the thread looks again when the old one has passed."""
        earlier = deadline < self._deadline
        self._deadline = deadline
        if earlier:
            with self._condition:
                self._condition.notify()

    def release(self) -> None:
        """Nothing is cancelled after this."""
        with self._condition:
            self._released = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._released:
                remaining = self._deadline - monotonic()
                if remaining <= 0:
                    self.expired = True
                    break
                self._condition.wait(remaining)
        if self.expired:
            self._cancel()
