"""The client for asyncio.

    async with signalbox.aio.connect(secrets=True) as client:
        await client.wait_ready()
        provider = client.provider("groq")
        async for changes in client.changes():
            ...

The getters are the same: they read memory, and so need no `await`. Owns the waits; the cache is kept by the same thread as the
synchronous client's, so that a busy loop does not hold it up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from ._state import State
from .client import Client, Reader, resolve
from .errors import NotReadyError, RevisionNotReachedError
from .options import Options
from .subscription import AsyncSubscription

__all__ = ["AsyncClient", "connect"]


class AsyncClient(Reader):
    """See `signalbox.Client`. Made by `connect`, ended by `close`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # Shared, so that getters, callbacks and subscriptions are those of the client.
        self._state = client._state
        self._current = client._current
        self._dispatcher = client._dispatcher

    async def wait_ready(self, timeout: float = 10.0) -> None:
        """See `Client.wait_ready`."""
        await until(self._state, self._client._decided, timeout)
        self._client._raise_unless_ready()

    async def wait_revision(self, revision: int, timeout: float = 10.0) -> None:
        """See `Client.wait_revision`."""
        if not await until(self._state, lambda: self._client._reached(revision), timeout):
            raise RevisionNotReachedError(revision, self._state.health.revision)

    async def clear_cache(self, timeout: float = 10.0) -> None:
        """See `Client.clear_cache`."""
        if not await until(self._state, self._client._start_over(), timeout):
            raise NotReadyError(self._state.health.obstacle)

    def changes(self) -> AsyncSubscription:
        """Every change from now on, in order, through a bounded queue: `async for changes in client.changes(): ...`."""
        return AsyncSubscription(self._subscribe)

    async def close(self) -> None:
        """See `Client.close`."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Async{repr(self._client)[1:]}"


async def until(state: State, condition: Callable[[], bool], timeout: float) -> bool:
    """Waits for a condition that is looked at whenever something changes; whether it came to hold."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # A loop that was closed in the middle of a wait is nobody's any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(woken.set)

    forget = state.watch(wake)
    deadline = loop.time() + timeout
    try:
        while not condition():
            if loop.time() >= deadline:
                return False
            woken.clear()
            try:
                # Conditions may also depend on time.
                await asyncio.wait_for(woken.wait(), min(0.05, deadline - loop.time()))
            except asyncio.TimeoutError:
                continue
        return True
    finally:
        forget()


def connect(options: Options | None = None, **changes: Any) -> AsyncClient:
    """See `signalbox.connect`. Reads what it needs from disk at once, and so belongs at the start of a process."""
    return AsyncClient(Client(resolve(options, changes)))
