"""The thread that looks for a server which hears of the store, while a stream is followed whose server does not.

Owns whom it asks, how often, and what counts as better. The stream goes on meanwhile: it is not given up for a server that is no
better. Must not know streams.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ._backoff import Backoff
from .errors import RpcError, SignalboxError

#: Between two questions: all workers of a service that has lost its store ask.
_FLOOR = 1.0
_CEILING = 30.0
#: How long the end may take.
_JOIN = 1.0


class Asked(Protocol):
    """A connection to a server."""

    def confirmed_age(self) -> float: ...

    def close(self) -> None: ...


class Lookout:
    """Asks one server after the other, and calls `found` once."""

    def __init__(
        self,
        connect: Callable[[int], Asked],
        patience: float,
        found: Callable[[], object],
        random: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._patience = patience
        self._call = found
        self._backoff = Backoff(_FLOOR, _CEILING, random)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connection: Asked | None = None
        self._found: Asked | None = None
        self._thread = threading.Thread(target=self._run, name="signalbox-lookout", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> Asked | None:
        """Ends, and gives the connection to a server that hears of the store, where there is one."""
        self._stopping.set()
        with self._lock:
            asked, found = self._connection, self._found
            self._connection = self._found = None
        if asked is not None:
            asked.close()
        if self._thread.ident is not None:
            self._thread.join(_JOIN)
        return found

    def _run(self) -> None:
        further = 0
        while not self._stopping.wait(self._backoff.next_delay()):
            # The one that is followed comes last: behind its name there may be others.
            further += 1
            try:
                connection = self._connect(further)
            except SignalboxError:
                continue
            if self._is_better(connection):
                return

    def _is_better(self, connection: Asked) -> bool:
        with self._lock:
            self._connection = None if self._stopping.is_set() else connection
        better = not self._stopping.is_set() and self._hears(connection)
        with self._lock:
            # Otherwise it was taken away, and closed.
            better = better and self._connection is connection
            self._connection = None
            if better:
                # Told at once: who has ended this by now hears of nothing.
                self._found = connection
                self._call()
        if not better:
            connection.close()
        return better

    def _hears(self, connection: Asked) -> bool:
        try:
            return connection.confirmed_age() <= self._patience
        except RpcError as error:
            # Who can't be asked is no worse than one that does not hear of its store.
            return error.code == "UNIMPLEMENTED"
        except SignalboxError:
            return False
