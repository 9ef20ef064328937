"""How attempts travel: one request, no redirects, a bounded answer, each step within its time.

Owns deadlines, and where a secret may go. Must not know who is asked next, or what an answer means.

asyncio cuts a step from outside; without it each operation on the socket gets what is left of the time (`signalbox._backends`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import monotonic
from typing import Any, TypeVar

from . import _fork, wire
from ._attempts import Attempt, ConnectionFailedError, Head, TimedOutError
from ._hosts import is_address, is_loopback
from .errors import ClosedError, OptionsError, SignalboxError

try:
    import httpcore
    import httpx

    from ._backends import bound, limited
except ImportError:
    raise OptionsError(
        "the executor needs the extra `executor` of signalbox-client, which brings httpx"
    ) from None

__all__ = [
    "AsyncConnection",
    "Connection",
    "HeaderError",
    "PlaintextError",
    "bound",
    "httpx",
    "own_options",
    "plaintext_hosts",
]

#: Bytes of an answer at most.
_ANSWER_BYTES = 16 << 20
#: The name of a host, in letters of any script.
_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PROXIES = (httpcore.HTTPProxy, httpcore.AsyncHTTPProxy, httpcore.SOCKSProxy, httpcore.AsyncSOCKSProxy)

_T = TypeVar("_T")


class PlaintextError(SignalboxError):
    """A secret would go over the network in the clear. Nothing was sent."""


class HeaderError(SignalboxError):
    """A header can't be sent as it is configured. Its value is not shown: it may be a secret."""


def own_options() -> dict[str, Any]:
    """How a client of httpx is made that is ours: it takes no proxy from the environment, which would read what goes over plain
    http, and keeps no cookie of an answer, which would tell one key's calls from another's. The authorities to trust are httpx's,
    those of `SSL_CERT_FILE` included."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return {"trust_env": False, "verify": httpx.create_ssl_context(), "cookies": jar}


class _Owned:
    """What is of the process that made it: a forked child shares the sockets, and would take the parent's answers."""

    def __init__(self) -> None:
        self._generation = _fork.generation

    def _check_process(self) -> None:
        if self._generation != _fork.generation:
            raise ConnectionFailedError("the call was begun in the parent process, and is answered there")


class Connection(_Owned):
    """Sends one request after the other, and reads the answer to each. Closing it lets go of the present one."""

    def __init__(self, http: httpx.Client, plaintext: frozenset[str]) -> None:
        super().__init__()
        self._http = http
        self._plaintext = plaintext
        self._answer: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._taken = 0

    def send(self, attempt: Attempt, deadline: float) -> Head:
        """Sends, and gives the head of the answer that begins."""
        self.close()
        self._check_process()
        _check_open(self._http)
        asked = _request(self._http, attempt, deadline, self._plaintext)
        # A key goes to the address that it was saved for, and to no other.
        answer = _within(deadline, lambda: self._http.send(asked, stream=True, follow_redirects=False))
        # What a transport of a test has made is read already.
        pieces = answer.iter_bytes() if answer.is_stream_consumed else answer.iter_raw()
        self._answer, self._pieces, self._taken = answer, pieces, 0
        return Head(answer.status_code, answer.headers.get("Retry-After"))

    def receive(self, deadline: float) -> bytes | None:
        """The next bytes of the answer; `None` at its end."""
        self._check_process()
        piece = _within(deadline, lambda: next(self._pieces, None))
        self._taken = _bounded(self._taken, piece)
        return piece

    def close(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()


class AsyncConnection(_Owned):
    """See `Connection`."""

    def __init__(self, http: httpx.AsyncClient, plaintext: frozenset[str]) -> None:
        super().__init__()
        self._http = http
        self._plaintext = plaintext
        self._answer: httpx.Response | None = None
        self._pieces: Any = None
        self._taken = 0

    async def send(self, attempt: Attempt, deadline: float) -> Head:
        """See `Connection.send`."""
        await self.aclose()
        self._check_process()
        _check_open(self._http)
        asked = _request(self._http, attempt, deadline, self._plaintext)
        answer = await _awaited(deadline, self._http.send(asked, stream=True, follow_redirects=False))
        pieces = answer.aiter_bytes() if answer.is_stream_consumed else answer.aiter_raw()
        self._answer, self._pieces, self._taken = answer, pieces, 0
        return Head(answer.status_code, answer.headers.get("Retry-After"))

    async def receive(self, deadline: float) -> bytes | None:
        """See `Connection.receive`."""
        self._check_process()
        piece = await _awaited(deadline, _next(self._pieces))
        self._taken = _bounded(self._taken, piece)
        return piece

    async def aclose(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await self._pieces.aclose()
            await answer.aclose()


def _check_open(http: httpx.Client | httpx.AsyncClient) -> None:
    if http.is_closed:
        raise ClosedError("the executor was closed, or the client of httpx that it was given")


def plaintext_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """The option `allow_plaintext`."""
    if isinstance(hosts, str):
        raise OptionsError("allow_plaintext: must be a list of hosts, not a text")
    try:
        return frozenset(_plaintext_host(host) for host in hosts)
    except TypeError:
        raise OptionsError("allow_plaintext: must be a list of hosts") from None


def _plaintext_host(host: object) -> str:
    try:
        if isinstance(host, str) and (_HOST_NAME.fullmatch(host) or is_address(host)):
            return _host(httpx.URL(scheme="http", host=host))
    except httpx.InvalidURL:
        pass
    raise OptionsError(
        f"allow_plaintext: {host!r} is no host; each is a name or an address alone, such as `llm.internal`, without a scheme, "
        "a port or a path, and none stands for several"
    )


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
            _check_proxy(attempt, http, request.url)
    return request


def _headers(attempt: Attempt) -> dict[str, str]:
    # Nothing is put into a variable that an error would be reported with.
    for name in attempt.headers:
        if not _HEADER_NAME.fullmatch(name):
            raise HeaderError(f"{attempt.provider.name}: {name!r} is no name of a header")
        if not _HEADER_VALUE.fullmatch(attempt.headers[name]):
            raise HeaderError(
                f"{attempt.provider.name}: the value of the header {name} is none; it may have printable ASCII only: "
                "set the key or the header again"
            )
    # What is packed could unpack to any size, so nothing packed is asked for, and none is unpacked. Blanks around a value are no
    # part of it.
    given = {name: value.strip(" \t") for name, value in attempt.headers.items()}
    return {"Accept-Encoding": "identity", **given}


def _check_plaintext(attempt: Attempt, url: httpx.URL, allowed: frozenset[str]) -> None:
    host = _host(url)
    if url.scheme == "https" or is_loopback(host) or host in allowed:
        return
    raise PlaintextError(
        f"{attempt.provider.name}: no secret goes to {host} over plain http; give the provider a base_url with https, "
        "or name the host in the executor's allow_plaintext"
    )


def _host(url: httpx.URL) -> str:
    """As it goes over the wire: not every name of a host can be shown in the letters that it stands for."""
    return url.raw_host.decode("ascii").lower()


def _check_proxy(attempt: Attempt, http: httpx.Client | httpx.AsyncClient, url: httpx.URL) -> None:
    # A client that was given may have a proxy. It only passes https on; anything else it reads.
    pool = getattr(http._transport_for_url(url), "_pool", None)
    if url.scheme == "http" and isinstance(pool, _PROXIES):
        raise PlaintextError(
            f"{attempt.provider.name}: no secret goes to {_host(url)} over plain http through a proxy; give the provider a "
            "base_url with https, or the executor a client without a proxy for this host"
        )


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
        if isinstance(error, httpx.NetworkError | httpx.UnsupportedProtocol):
            raise ConnectionFailedError(f"{type(error).__name__}: {error}") from None
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
            # Its words may show what was to be sent, or what came back: a server may repeat a key.
            raise ConnectionFailedError(type(error).__name__) from None
        if isinstance(error, UnicodeError):
            # httpx looks at the letters that an encoded host stands for, and there may be none.
            raise ConnectionFailedError(f"no name of a host: {type(error).__name__}") from None


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    async for piece in pieces:
        return piece
    return None


async def _awaited(deadline: float, step: Awaitable[_T]) -> _T:
    with _failures():
        return await asyncio.wait_for(step, max(0.0, deadline - monotonic()))


def _within(deadline: float, step: Callable[[], _T]) -> _T:
    if monotonic() >= deadline:
        raise TimedOutError("no answer in time")
    with _failures(), limited(deadline):
        return step()
