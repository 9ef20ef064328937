"""The thread that tells the service which revision this process runs.

Owns when it is told, and when not any more. What is told is the present state, so that a report that fails is replaced by the
next, and none is queued. Must not know streams or what a revision holds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any

from . import _proto
from ._backoff import Backoff
from ._replica import Applied
from .errors import EndedError, RpcError, SignalboxError
from .status import Health

_log = logging.getLogger("signalbox")

#: Between two reports.
_INTERVAL = 1.0
#: So late is the first report of a change at most: ten thousand workers hear of it in the same moment.
_SPREAD = 0.2
#: Without any change it is told again so often, because whoever was told may have lost it.
_REFRESH = 30.0
_BACKOFF_FLOOR = 1.0
_BACKOFF_CEILING = 30.0
#: Errors that the next attempt would only meet again: an older service, or a token that may not report.
_LASTING = ("UNIMPLEMENTED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "NOT_FOUND")


class Reporter:
    """Tells what it has heard last."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self._send = send
        self._backoff = Backoff(_BACKOFF_FLOOR, _BACKOFF_CEILING, random)
        self._condition = threading.Condition()
        #: What this process runs; `None` until there is a session to tell of, and once there is none any more.
        self._report: Any = None
        self._due = float("inf")
        #: Not before this, whatever happens.
        self._earliest = 0.0
        self._stopping = False
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="signalbox-report", daemon=True)

    def start(self) -> None:
        """Begins to tell."""
        self._thread.start()

    def heard(self, applied: Applied, health: Health) -> None:
        """What a message has done, in the watching thread."""
        with self._condition:
            if applied.synced:
                self._report = _proto.AppliedReport(session_id=applied.session_id)
            elif self._report is None:
                return
            before = self._report.SerializeToString(deterministic=True)
            if health.rejection is None:
                self._report.applied_revision = health.revision
                self._report.ClearField("rejection")
            else:
                self._report.rejection.revision = health.rejection.revision
                self._report.rejection.reason = health.rejection.reason
            if applied.synced or self._report.SerializeToString(deterministic=True) != before:
                self._plan(monotonic() + _SPREAD * random())

    def stop(self, timeout: float) -> None:
        """Ends, without another word."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def leave(self, timeout: float) -> None:
        """Tells that this process is not to be waited for any more, and ends."""
        with self._condition:
            self._leaving = True
        self.stop(timeout)

    def _plan(self, due: float) -> None:
        due = max(due, self._earliest)
        if due < self._due:
            self._due = due
            self._condition.notify()

    def _run(self) -> None:
        while (report := self._next()) is not None:
            self._tell(report)

    def _next(self) -> Any:
        """Waits until something is to be told, and gives it; `None` at the end."""
        with self._condition:
            while not self._stopping and monotonic() < self._due:
                remaining = self._due - monotonic()
                self._condition.wait(None if remaining == float("inf") else max(0.0, remaining))
            if self._report is None or (self._stopping and not self._leaving):
                return None
            report = _proto.AppliedReport()
            report.CopyFrom(self._report)
            if self._stopping:
                report.leaving = True
                self._report = None
            self._earliest = monotonic() + _INTERVAL
            self._due = monotonic() + _REFRESH
            return report

    def _tell(self, report: Any) -> None:
        try:
            answer = self._send(_proto.ReportAppliedRequest(reports=[report]))
        except RpcError as error:
            if error.code in _LASTING:
                self._silence(report, str(error))
            else:
                self._later(error)
        except EndedError:
            # The next stream brings a session of its own.
            self._silence(report, "")
        except SignalboxError as error:
            self._later(error)
        else:
            self._backoff.reset()
            if answer.unknown_reports:
                self._silence(report, "the session is not known")

    def _later(self, error: SignalboxError) -> None:
        """Tells again after a while: what will be the newest by then."""
        retry = error.details.retry_delay if isinstance(error, RpcError) else None
        delay = max(_INTERVAL, self._backoff.next_delay(), min(retry or 0.0, _REFRESH))
        with self._condition:
            self._earliest = self._due = monotonic() + delay

    def _silence(self, report: Any, why: str) -> None:
        """Tells nothing more of this session."""
        if why:
            _log.info("it is not reported any more which revision runs here: %s", why)
        with self._condition:
            if self._report is not None and self._report.session_id == report.session_id:
                self._report, self._due = None, float("inf")
