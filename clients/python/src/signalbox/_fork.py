"""Clients across a fork, and to the end of a process: each has a live cache of its own, and says goodbye.

Owns the hooks, the list of the clients that are open, and the count by which others know that they are in a child. Must not know
what a client does in the hooks.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable
from multiprocessing import util
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client

_log = logging.getLogger("signalbox")
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
#: Held through a fork, so that one thread's does not wake what another's has stopped; and while a client is made or closed.
lock = threading.RLock()
#: How many forks have led to this process: what was made at another count is the parent's.
generation = 0
#: Those that the fork which is under way has stopped.
_stopped: list[Client] = []
#: How long the end of a process of `multiprocessing` waits for its clients, in seconds.
_GOODBYE = 1.0


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
    global lock, generation
    lock = threading.RLock()
    generation += 1
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


def _say_goodbye() -> None:
    deadline = monotonic() + _GOODBYE
    for client in list(_clients):
        client._end(deadline)


def _at_end_of_child(_: object) -> None:
    # Processes of `multiprocessing` end by os._exit, which calls nothing of atexit's. This waits for what it bids by a priority
    # only, and comes after the queues of higher ones.
    util.Finalize(None, _say_goodbye, exitpriority=0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_close_all)
# A forked child forgets what is to be done at its end, and asks this anew; a spawned one imports this itself.
util.register_after_fork(_at_end_of_child, _at_end_of_child)
if multiprocessing.parent_process() is not None:
    _at_end_of_child(None)
