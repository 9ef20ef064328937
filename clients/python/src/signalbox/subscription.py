"""How changes reach those who asked for them: bounded queues, and callbacks on top of them.

Owns what happens to a listener that is too slow. Must not know streams.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

from ._trace import of_callback
from .events import ChangeEvent, ChangeSet, difference
from .selectors import Selector
from .snapshot import Snapshot

_log = logging.getLogger("signalbox")


class Subscription:
    """Every change of the cache from a snapshot on, in order, through a bounded queue. Iterate over it, or ask `next`.

    Who falls behind the queue gets the difference to the present in place of each change, and is told so (`missed`).
    """

    def __init__(self, start: Snapshot, capacity: int, on_offer: Callable[[], None] | None = None) -> None:
        self.start = start
        """The state that the first change set follows on."""
        self._seen = start
        self._capacity = capacity
        self._on_offer = on_offer
        self._queue: deque[ChangeSet] = deque()
        self._missed = 0
        self._latest = start
        self._closed = False
        self._condition = threading.Condition()

    def next(self, timeout: float | None = None) -> ChangeSet | None:
        """The next change set; `None` when the time is over, or when the client or this has been closed."""
        deadline = None if timeout is None else monotonic() + timeout
        with self._condition:
            while True:
                changes = self._take()
                remaining = None if deadline is None else deadline - monotonic()
                if changes is not None or self._closed or (remaining is not None and remaining <= 0):
                    return changes
                self._condition.wait(remaining)

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    def close(self) -> None:
        """Ends it. What is queued can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._on_offer is not None:
            self._on_offer()

    def _after_fork(self) -> None:
        """Goes on in a forked child; one that wakes a loop ends, because that loop is the parent's."""
        self._condition = threading.Condition()
        if self._on_offer is not None:
            self._on_offer, self._closed = None, True

    def __iter__(self) -> Iterator[ChangeSet]:
        while (changes := self.next()) is not None:
            yield changes

    def _offer(self, changes: ChangeSet) -> None:
        with self._condition:
            # What comes twice, because this was subscribed in between, is left out.
            if self._closed or changes.snapshot._sequence <= self._seen._sequence:
                return
            self._latest = changes.snapshot
            if self._missed or len(self._queue) >= self._capacity:
                self._missed += len(self._queue) + 1
                self._queue.clear()
            else:
                self._queue.append(changes)
            self._condition.notify_all()
        if self._on_offer is not None:
            self._on_offer()

    def _take(self) -> ChangeSet | None:
        changes = None
        if self._missed:
            changes = ChangeSet(difference(self._seen, self._latest), self._latest, self._missed)
            self._missed = 0
        elif self._queue:
            changes = self._queue.popleft()
        if changes is not None:
            self._seen = changes.snapshot
        return changes


class AsyncSubscription:
    """A subscription for asyncio: `async for changes in client.changes()`."""

    def __init__(self, subscribe: Callable[[Callable[[], None]], Subscription]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._subscription = subscribe(self._offered)
        self.start = self._subscription.start

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> ChangeSet:
        while True:
            self._wake.clear()
            changes = self._subscription.next(0)
            if changes is not None:
                return changes
            if self._subscription.closed:
                raise StopAsyncIteration
            await self._wake.wait()

    def close(self) -> None:
        """Ends it."""
        self._subscription.close()

    def _offered(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            # The loop is gone, and whoever waited in it.
            self._subscription._closed = True


class Feed:
    """Those who listen."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._listeners: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def subscribe(
        self, start: Callable[[], Snapshot], on_offer: Callable[[], None] | None = None
    ) -> Subscription:
        """Every change from now on. It ends with its last reference."""
        with self._lock:
            subscription = Subscription(start(), self._capacity, on_offer)
            self._listeners.add(subscription)
        return subscription

    def publish(self, changes: ChangeSet) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            if listener.closed:
                self._listeners.discard(listener)
            else:
                listener._offer(changes)

    def close(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.close()

    def after_fork(self) -> None:
        """Makes the locks anew: in a forked child nobody is left to release the parent's. Who listens goes on with what the
        child is told."""
        self._lock = threading.Lock()
        for listener in list(self._listeners):
            listener._after_fork()


class Callback:
    """A registered callback. `cancel` ends it; letting go of this does not."""

    def __init__(self, selectors: tuple[Selector, ...], call: Callable[[ChangeEvent], object]) -> None:
        self._selectors = selectors
        self._call = call
        self.cancelled = False

    def cancel(self) -> None:
        """No call begins after this."""
        self.cancelled = True

    def _tell(self, changes: ChangeSet) -> None:
        for event in changes.events:
            if self.cancelled:
                return
            if any(event.matches(selector) for selector in self._selectors):
                try:
                    with of_callback(event.traceparent, event.tracestate, event.revision):
                        self._call(event)
                except BaseException:
                    _log.exception("a callback failed; it is called again for the next change")


class Dispatcher:
    """Calls back, in a thread of its own and in order. One callback that blocks holds up the others, not the cache."""

    def __init__(self, subscribe: Callable[[], Subscription]) -> None:
        self._subscribe = subscribe
        self._lock = threading.Lock()
        self._callbacks: list[Callback] = []
        self._thread: threading.Thread | None = None
        self._subscription: Subscription | None = None

    def register(self, callback: Callback) -> None:
        with self._lock:
            self._callbacks = [each for each in self._callbacks if not each.cancelled] + [callback]
            if self._thread is None:
                self._start()

    def close(self, timeout: float) -> None:
        if self._subscription is not None:
            self._subscription.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def restart(self) -> None:
        """Goes on in a forked child, where no thread of the parent lives."""
        self._lock = threading.Lock()
        if self._subscription is not None:
            # Its reader was the parent's.
            self._subscription.close()
        if self._thread is not None:
            self._start()

    def _start(self) -> None:
        self._subscription = self._subscribe()
        self._thread = threading.Thread(
            target=self._run, args=(self._subscription,), name="signalbox-callbacks", daemon=True
        )
        self._thread.start()

    def _run(self, subscription: Subscription) -> None:
        for changes in subscription:
            for callback in self._callbacks:
                callback._tell(changes)
