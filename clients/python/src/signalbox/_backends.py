"""Connections that keep to a deadline: each operation on a socket gets what is left of it, and names are looked up off the way.

Owns how a client of httpx connects. Must not know what is sent, nor to whom.

httpx bounds each read by itself, so that whoever sends a byte now and then is waited for without end.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpcore
import httpx

from . import _lookups

__all__ = ["bound", "limited"]

#: As much of a request is written between two looks at the clock.
_WRITTEN_BYTES = 64 << 10
#: How long asyncio waits for one address of a host before it tries the next beside it, in seconds.
_STAGGER = 0.25


class _Limit(threading.local):
    """When what this thread does on a socket has to be done."""

    deadline: float | None = None


_limit = _Limit()


@contextmanager
def limited(deadline: float) -> Iterator[None]:
    """What this thread does on sockets meanwhile has to be done by then."""
    before, _limit.deadline = _limit.deadline, deadline
    try:
        yield
    finally:
        _limit.deadline = before


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """Of a timeout, what the deadline leaves."""
    if _limit.deadline is None:
        return timeout
    left = _limit.deadline - monotonic()
    if left <= 0:
        raise late("the time is over")
    return left if timeout is None else min(timeout, left)


def bound(http: httpx.Client | httpx.AsyncClient) -> None:
    """Makes the connections of a client keep to deadlines, look-ups of names included. httpx has no option for it; transports that
    are not its own stay as they are, and are looked at between two pieces only."""
    for transport in (http._transport, *http._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore.NetworkBackend) and not isinstance(backend, _Backend):
            pool._network_backend = _Backend(backend)
        if isinstance(backend, httpcore.AsyncNetworkBackend) and not isinstance(backend, _AsyncBackend):
            pool._network_backend = _AsyncBackend(backend)


class _Backend(httpcore.NetworkBackend):
    """Connections whose operations keep to the thread's deadline."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        # One address after the other: by itself a host of many would get the time once for each.
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _lookups.addresses(host, port, _left(timeout, httpcore.ConnectTimeout)):
            left = _left(timeout, httpcore.ConnectTimeout)
            try:
                return _Stream(self._inner.connect_tcp(address, port, left, *args, **options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_unix_socket(path, timeout, *args, **options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(_left(seconds, httpcore.ConnectTimeout) or 0.0)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _WRITTEN_BYTES):
            part = buffer[at : at + _WRITTEN_BYTES]
            self._inner.write(part, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """Connections whose hosts are looked up outside of the loop's default executor, which is the application's: one name that is not
    found in time would hold a thread of it for each call, until nothing ran there any more."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        deadline = None if timeout is None else monotonic() + timeout

        def connect(address: str) -> Awaitable[httpcore.AsyncNetworkStream]:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            return self._inner.connect_tcp(address, port, left, *args, **options)

        return await _raced(connect, await _lookups.addresses_async(host, port, timeout))

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        return await self._inner.connect_unix_socket(path, timeout, *args, **options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def _raced(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]], addresses: list[str]
) -> httpcore.AsyncNetworkStream:
    """The connection that is there first. Each address is tried once the one before has failed, or has let wait: one that answers
    nothing must not take all the time."""
    won: list[httpcore.AsyncNetworkStream] = []
    failed: list[Exception] = []
    running: set[asyncio.Task[None]] = set()

    async def attempt(address: str) -> None:
        try:
            stream = await connect(address)
        except Exception as error:
            failed.append(error)
            return
        if won:
            await stream.aclose()
        else:
            won.append(stream)

    waiting = addresses[::-1]
    try:
        while not won and (waiting or running):
            if waiting:
                running.add(asyncio.create_task(attempt(waiting.pop())))
            until = _STAGGER if waiting else None
            _, running = await asyncio.wait(running, timeout=until, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        for stream in won:
            await stream.aclose()
        raise
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if won:
        return won[0]
    raise failed[-1] if failed else httpcore.ConnectError("the host has no address")
