"""What a call does, step by step: who is asked, what is waited for, when it is tried again.

Owns the course of a call. It does nothing itself: it yields steps and is given what became of each, so that one course serves
threads and asyncio. Must not know sockets, threads or loops.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from . import wire
from ._attempts import Attempt, AttemptFailure, Completion, CompletionError, kind_of
from .errors import SignalboxError
from .routing import Route


@dataclass(frozen=True)
class Send:
    """To send an attempt and wait for the beginning of the answer, whose head is given back. What was received before is let
    go of."""

    attempt: Attempt
    deadline: float


@dataclass(frozen=True)
class Receive:
    """To wait for the next bytes of the answer, which are given back; `None` at its end."""

    deadline: float


@dataclass(frozen=True)
class Pause:
    """To let go of the answer, and wait so many seconds."""

    seconds: float


#: What a caller hears: the pieces of an answer, and the whole at the end.
Said = wire.Delta | Completion
Steps = Generator[Send | Receive | Pause | Said, Any, None]
#: Told how long a provider took to answer.
Took = Callable[[str, float], None]


def resumed(steps: Steps, outcome: Any) -> Send | Receive | Pause | Said | None:
    """The next step, given what became of the last: a `SignalboxError` where it failed. `None` at the end."""
    try:
        return steps.throw(outcome) if isinstance(outcome, SignalboxError) else steps.send(outcome)
    except StopIteration:
        return None


def whole(route: Route, took: Took) -> Steps:
    """Asks until somebody has answered. Says the completion."""
    while True:
        attempt = route.next_attempt()
        began = monotonic()
        try:
            head = yield Send(attempt, attempt.deadline)
            body = yield from _rest(attempt.deadline)
            if not head.is_good:
                raise attempt.refused(head, body)
            completion = route.completion(attempt, wire.read_answer(attempt.extractor, body))
        except SignalboxError as error:
            yield Pause(route.failed(attempt, kind_of(error), error))
            continue
        took(attempt.provider.id, monotonic() - began)
        yield completion
        return


def streamed(route: Route, took: Took) -> Steps:
    """As `whole`, piece by piece. Once something was said nobody else is asked."""
    while True:
        attempt = route.next_attempt()
        began, said = monotonic(), False
        deadline = _first_deadline(attempt)
        try:
            reader = wire.StreamReader(attempt.extractor, attempt.exposed)
            head = yield Send(attempt, deadline)
            if not head.is_good:
                raise attempt.refused(head, (yield from _rest(deadline)))
            while not reader.ended and (piece := (yield Receive(deadline))) is not None:
                delta = reader.push(piece)
                if delta is None:
                    continue
                if not said:
                    took(attempt.provider.id, monotonic() - began)
                said, deadline = True, attempt.deadline
                yield delta
            completion = route.completion(attempt, reader.finish())
        except SignalboxError as raised:
            error = attempt.broken(raised)
            if said:
                failure = AttemptFailure(attempt.provider.id, kind_of(error), error)
                raise CompletionError("the answer broke off", (*route.failures, failure)) from None
            yield Pause(route.failed(attempt, kind_of(error), error))
            continue
        yield completion
        return


def _rest(deadline: float) -> Generator[Receive, Any, bytes]:
    """Everything up to the end of the answer."""
    body = bytearray()
    while (piece := (yield Receive(deadline))) is not None:
        body += piece
    return bytes(body)


def _first_deadline(attempt: Attempt) -> float:
    """When something must have been said."""
    first = attempt.first_token
    return attempt.deadline if first is None else min(attempt.deadline, monotonic() + first)
