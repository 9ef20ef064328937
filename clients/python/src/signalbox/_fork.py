"""Clients across a fork: each process has a live cache of its own.

Owns the hooks, and the list of the clients that are open. Must not know what a client does in them.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client

_log = logging.getLogger("signalbox")
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
#: Held through a fork, so that one thread's does not wake what another's has stopped; and while a client is closed.
lock = threading.RLock()
#: Those that the fork which is under way has stopped.
_stopped: list[Client] = []


def register(client: Client) -> None:
    """A client that lives through forks from now on, and is closed at the end of the process."""
    _clients.add(client)


def forget(client: Client) -> None:
    """A client that has been closed."""
    _clients.discard(client)


def _before() -> None:
    lock.acquire()
    _stopped[:] = list(_clients)
    _each(lambda client: client._before_fork())


def _in_parent() -> None:
    _each(lambda client: client._after_fork_in_parent())
    _stopped.clear()
    lock.release()


def _in_child() -> None:
    global lock
    lock = threading.RLock()
    _each(lambda client: client._after_fork_in_child())
    _stopped.clear()


def _each(step: Callable[[Client], None]) -> None:
    for client in _stopped:
        try:
            step(client)
        except Exception:
            _log.exception("a client could not be taken across a fork")


def _close_all() -> None:
    for client in list(_clients):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_close_all)
