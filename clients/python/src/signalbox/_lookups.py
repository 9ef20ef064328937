"""The addresses of hosts, found in threads of their own.

Owns what is being looked up in this process. Nothing ends a look-up before it ends by itself, which may take half a minute: who waits
for one waits as long as it wants, and a resolver that does not answer holds one thread for each host, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import httpcore

__all__ = ["addresses", "addresses_async"]

_Key = tuple[str, int]
#: What `socket.getaddrinfo` gives.
_Found = list[tuple[Any, Any, Any, str, tuple[Any, ...]]]

_running: dict[_Key, Future[_Found]] = {}


def addresses(host: str, port: int, timeout: float | None) -> list[str]:
    """Those of a host, in the order in which to try them. Raises `httpcore.ConnectError`, and `ConnectTimeout` when the time is
    over."""
    with _failures(host):
        found = _numeric(host, port)
        return _texts(_look_up(host, port).result(timeout) if found is None else found)


async def addresses_async(host: str, port: int, timeout: float | None) -> list[str]:
    """See `addresses`."""
    with _failures(host):
        found = _numeric(host, port)
        return _texts(await _awaited(_look_up(host, port), timeout) if found is None else found)


@contextlib.contextmanager
def _failures(host: str) -> Iterator[None]:
    try:
        yield
    except (FutureTimeoutError, asyncio.TimeoutError):
        raise httpcore.ConnectTimeout(f"the name of {host} is not found in time") from None
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None


def _numeric(host: str, port: int) -> _Found | None:
    """Of what is an address already, which asks nobody."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


def _texts(found: _Found) -> list[str]:
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _awaited(lookup: Future[_Found], timeout: float | None) -> _Found:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def tell(_: Future[_Found]) -> None:
        # Nobody waits any more in a loop that is closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    # Others may wait for the same look-up, so it is not cancelled with who waits here.
    lookup.add_done_callback(tell)
    await asyncio.wait_for(ended.wait(), timeout)
    return lookup.result()


def _look_up(host: str, port: int) -> Future[_Found]:
    """The look-up of a host that is under way, or a new one."""
    key, own = (host, port), Future[_Found]()
    lookup = _running.setdefault(key, own)
    if lookup is own:
        try:
            threading.Thread(target=_ask, args=(key, own), name="signalbox-lookup", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            # The process has no thread to give, or ends. Others may wait already, and who comes later tries anew.
            _running.pop(key).set_exception(OSError(f"the name of {host} can't be looked up: {error}"))
    return lookup


def _ask(key: _Key, lookup: Future[_Found]) -> None:
    try:
        lookup.set_result(socket.getaddrinfo(*key, type=socket.SOCK_STREAM))
    except Exception as error:
        lookup.set_exception(error)
    finally:
        # Who comes now asks anew: what is found is not kept.
        del _running[key]


if hasattr(os, "register_at_fork"):
    # The threads are the parent's, and so are their answers.
    os.register_at_fork(after_in_child=_running.clear)
