"""How attempts travel: one request, no redirects, a bounded answer, each step within its time.

Owns deadlines, and where a secret may go. Must not know who is asked next, or what an answer means.

httpx bounds each read by itself, so that whoever sends a byte now and then is waited for without end. asyncio cuts a step from
outside; without it each operation on the socket gets what is left of the time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, TypeVar

from . import wire
from .errors import OptionsError, SignalboxError
from .routing import Attempt

try:
    import httpcore
    import httpx
except ImportError:
    raise OptionsError("the executor needs the extra `executor` of signalbox-client, which brings httpx") from None

__all__ = [
    "ConnectionFailedError",
    "HeaderError",
    "PlaintextError",
    "TimedOutError",
    "bound",
    "httpx",
    "plaintext_hosts",
    "sent",
    "sent_async",
]

#: Bytes of an answer at most.
_ANSWER_BYTES = 16 << 20
#: As much of a request is written between two looks at the clock.
_WRITTEN_BYTES = 64 << 10
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

_T = TypeVar("_T")


class ConnectionFailedError(SignalboxError):
    """No connection to a provider came about, or it broke."""


class TimedOutError(SignalboxError):
    """A provider has not answered in time."""


class PlaintextError(SignalboxError):
    """A secret would go over the network in the clear. Nothing was sent."""


class HeaderError(SignalboxError):
    """A header can't be sent as it is configured. Its value is not shown: it may be a secret."""


class Reply:
    """An answer that has begun."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self._pieces = response.iter_bytes()
        self._taken = 0

    def piece(self, deadline: float) -> bytes | None:
        """The next bytes; `None` at the end."""
        piece = _within(deadline, lambda: next(self._pieces, None))
        self._taken = _bounded(self._taken, piece)
        return piece

    def rest(self, deadline: float) -> bytes:
        """Everything up to the end."""
        body = bytearray()
        while (piece := self.piece(deadline)) is not None:
            body += piece
        return bytes(body)


class AsyncReply:
    """See `Reply`."""

    def __init__(self, response: httpx.Response, pieces: AsyncIterator[bytes]) -> None:
        self.status = response.status_code
        self._pieces = pieces
        self._taken = 0

    async def piece(self, deadline: float) -> bytes | None:
        """See `Reply.piece`."""
        piece = await _awaited(deadline, _next(self._pieces))
        self._taken = _bounded(self._taken, piece)
        return piece

    async def rest(self, deadline: float) -> bytes:
        """See `Reply.rest`."""
        body = bytearray()
        while (piece := await self.piece(deadline)) is not None:
            body += piece
        return bytes(body)


@contextmanager
def sent(http: httpx.Client, attempt: Attempt, deadline: float, plaintext: frozenset[str]) -> Iterator[Reply]:
    """Sends, and waits for the beginning of the answer. Its connection is given back or closed at the end."""
    asked = _request(http, attempt, deadline, plaintext)
    # A key goes to the address that it was saved for, and to no other.
    response = _within(deadline, lambda: http.send(asked, stream=True, follow_redirects=False))
    try:
        yield Reply(response)
    finally:
        response.close()


@asynccontextmanager
async def sent_async(
    http: httpx.AsyncClient, attempt: Attempt, deadline: float, plaintext: frozenset[str]
) -> AsyncIterator[AsyncReply]:
    """See `sent`."""
    asked = _request(http, attempt, deadline, plaintext)
    response = await _awaited(deadline, http.send(asked, stream=True, follow_redirects=False))
    try:
        async with aclosing(response.aiter_bytes()) as pieces:  # type: ignore[type-var]
            yield AsyncReply(response, pieces)
    finally:
        await response.aclose()


def plaintext_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """The option `allow_plaintext`."""
    if isinstance(hosts, str):
        raise OptionsError("allow_plaintext: must be a list of hosts, not a text")
    return frozenset(host.lower() for host in hosts)


def _request(
    http: httpx.Client | httpx.AsyncClient, attempt: Attempt, deadline: float, plaintext: frozenset[str]
) -> httpx.Request:
    remaining = max(0.001, deadline - monotonic())
    connect = remaining if attempt.connect is None else min(attempt.connect, remaining)
    with _failures():
        request = http.build_request(
            attempt.rendered.method,
            attempt.rendered.url,
            headers=_headers(attempt),
            content=attempt.content,
            timeout=httpx.Timeout(remaining, connect=connect),
        )
    if attempt.has_secrets:
        _check_plaintext(attempt, request.url, plaintext)
    return request


def _headers(attempt: Attempt) -> dict[str, str]:
    headers = {}
    for name, value in attempt.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise HeaderError(f"{attempt.provider.name}: {name!r} is no name of a header")
        if not _HEADER_VALUE.fullmatch(value):
            raise HeaderError(
                f"{attempt.provider.name}: the value of the header {name} is none; it may have printable ASCII only: "
                "set the key or the header again"
            )
        # Blanks around a value are no part of it.
        headers[name] = value.strip(" \t")
    return headers


def _check_plaintext(attempt: Attempt, url: httpx.URL, allowed: frozenset[str]) -> None:
    host = url.host.lower()
    if url.scheme == "https" or _is_loopback(host) or host in allowed:
        return
    raise PlaintextError(
        f"{attempt.provider.name}: no secret goes to {host} over plain http; give the provider a base_url with https, "
        "or name the host in the executor's allow_plaintext"
    )


def _is_loopback(host: str) -> bool:
    """Whether a host can only be the machine itself."""
    bare = host.strip("[]").removesuffix(".")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _bounded(taken: int, piece: bytes | None) -> int:
    taken += len(piece or b"")
    if taken > _ANSWER_BYTES:
        raise wire.TooLargeError("the provider's answer is too large")
    return taken


class _failures:
    """Turns what httpx raises into errors of ours, whose texts hold no header."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.TimeoutException | asyncio.TimeoutError):
            raise TimedOutError(f"no answer in time ({type(error).__name__})") from None
        if isinstance(error, httpx.LocalProtocolError | httpx.InvalidURL):
            # Its words may show what was to be sent.
            raise ConnectionFailedError(type(error).__name__) from None
        if isinstance(error, httpx.HTTPError):
            raise ConnectionFailedError(f"{type(error).__name__}: {error}") from None


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    async for piece in pieces:
        return piece
    return None


async def _awaited(deadline: float, step: Awaitable[_T]) -> _T:
    with _failures():
        return await asyncio.wait_for(step, max(0.0, deadline - monotonic()))


class _Limit(threading.local):
    """When what this thread does on a socket has to be done."""

    deadline: float | None = None


_limit = _Limit()


def _within(deadline: float, step: Callable[[], _T]) -> _T:
    if monotonic() >= deadline:
        raise TimedOutError("no answer in time")
    before, _limit.deadline = _limit.deadline, deadline
    try:
        with _failures():
            return step()
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


def bound(http: httpx.Client) -> None:
    """Makes the connections of a client keep to deadlines. httpx has no option for it; transports that are not its own stay as
    they are, and are looked at between two pieces only."""
    for transport in (http._transport, *http._mounts.values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore.NetworkBackend) and not isinstance(backend, _Backend):
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr]


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Backend(httpcore.NetworkBackend):
    """Connections whose operations keep to the thread's deadline."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        # One address after the other: by itself a host of many would get the time once for each.
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):
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
