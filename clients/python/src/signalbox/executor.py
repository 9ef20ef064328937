"""Calls models, by configuration alone: `complete` and `stream`, over httpx (the extra `executor`).

    executor = signalbox.executor.Executor(client)
    print(executor.complete("Hello").text)

The active provider answers, or the next one on the router's terms; a call may name its provider and its model. Each call reads
one snapshot, whose revision is told with the answer. As long as neither the service nor a cache on disk has given one, the
environment variables of the providers count (`GROQ_API_KEY` and so on), at revision 0. What is sent and read is
`signalbox.wire`'s, who is asked is `signalbox.routing`'s, how it travels is `signalbox._http`'s.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from random import random
from time import monotonic
from typing import Any, overload

from . import _http, wire
from ._calls import Messages, Parameters, Tools, call_of, legacy
from ._http import ConnectionFailedError, HeaderError, PlaintextError, TimedOutError, httpx
from .client import Reader
from .environment import environment_snapshot
from .errors import ClosedError, SignalboxError
from .routing import Attempt, AttemptFailure, Completion, CompletionError, Route, kind_of
from .snapshot import Getters

#: How much the newest time counts in the average by which the fastest provider is found.
_NEWEST = 0.3

__all__ = [
    "AsyncCompletionStream",
    "AsyncExecutor",
    "CompletionStream",
    "ConnectionFailedError",
    "Executor",
    "HeaderError",
    "PlaintextError",
    "TimedOutError",
]


class _Calls:
    """What calls have in common, however they are sent."""

    def __init__(self, client: Getters, allow_plaintext: Iterable[str]) -> None:
        self._client = client
        self._plaintext = _http.plaintext_hosts(allow_plaintext)
        self._latencies: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._closed = False

    def _route(
        self, call: Callable[[Any], wire.Call], provider: str | None, router: str, timeout: float | None
    ) -> Route:
        if self._closed:
            raise ClosedError("the executor is closed")
        snapshot = self._client._current()
        if isinstance(self._client, Reader) and not self._client.status().loaded:
            # Neither the service nor a cache on disk: the providers' own variables are better than nothing.
            snapshot = environment_snapshot(os.environ, snapshot._overrides)
        return Route(
            snapshot,
            call(snapshot),
            provider=provider,
            router=router,
            timeout=timeout,
            latencies=self._latencies,
            turns=self._turns,
            random=random,
        )

    def _took(self, attempt: Attempt, began: float) -> None:
        id, took = attempt.provider.id, monotonic() - began
        known = self._latencies.get(id, took)
        self._latencies[id] = known + _NEWEST * (took - known)


class Executor(_Calls):
    """Calls models. May be used from any thread; after a fork, make one for each process. Keys and secret headers go over
    plain http to the machine itself only, and to the hosts of `allow_plaintext`."""

    def __init__(
        self,
        client: Getters,
        *,
        http: httpx.Client | None = None,
        allow_plaintext: Iterable[str] = (),
    ) -> None:
        super().__init__(client, allow_plaintext)
        self._http = http or httpx.Client()
        self._own = http is None
        _http.bound(self._http)

    @overload
    def complete(
        self,
        messages: Messages,
        model: str | None = None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion: ...

    @overload
    def complete(
        self,
        messages: Messages,
        model: str | None,
        temperature: float | None,
        max_tokens: int | None = None,
        stream: bool = False,
        tools: Tools = (),
        /,
    ) -> Completion | CompletionStream: ...

    def complete(self, messages: Messages, model: str | None = None, *params: Any, **options: Any) -> Any:
        """Asks, and waits for the whole answer. `messages` is a text, or messages (`wire.Message`, or dicts with `role` and
        `content`); parameters are dicts with the names that the API has. Raises `wire.CallError` for a call that is wrong,
        `CompletionError` when nobody has answered.

        The older form `complete(messages, model, temperature, max_tokens, stream, tools)` is still taken, with a warning.
        """
        older = legacy(params)
        if older is None:
            return self._complete(messages, model, *params, **options)
        generation, streamed, tools = older
        ask: Any = self.stream if streamed else self._complete
        return ask(messages, model, generation, tools=tools, **options)

    def _complete(
        self,
        messages: Messages,
        model: str | None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion:
        call = call_of(messages, model, generation_params, reasoning_params, chat_params, tools, stream=None)
        route = self._route(call, provider, router, timeout)
        while True:
            attempt = route.next_attempt()
            began = monotonic()
            try:
                answer = self._answer(attempt)
            except SignalboxError as error:
                time.sleep(route.failed(attempt, _kind(error), error))
                continue
            self._took(attempt, began)
            return route.completion(attempt, answer)

    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> CompletionStream:
        """As `complete`, piece by piece: iterate over what this gives. Once something was said nobody else is asked."""
        call = call_of(messages, model, generation_params, reasoning_params, chat_params, tools, stream=True)
        return CompletionStream(self, self._route(call, provider, router, timeout))

    def close(self) -> None:
        """Closes its connections. Calls after that raise `ClosedError`."""
        self._closed = True
        if self._own:
            self._http.close()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, attempt: Attempt) -> wire.Answer:
        with _http.sent(self._http, attempt, attempt.deadline, self._plaintext) as reply:
            body = reply.rest(attempt.deadline)
        return _read(attempt, reply.status, body)


class CompletionStream:
    """The pieces of an answer. `completion` is the whole, once the last piece has come."""

    def __init__(self, executor: Executor, route: Route) -> None:
        self._executor = executor
        self._route = route
        self.completion: Completion | None = None

    def __iter__(self) -> Iterator[wire.Delta]:
        while True:
            attempt = self._route.next_attempt()
            began, said = monotonic(), False
            try:
                for delta in self._pieces(attempt):
                    if not said:
                        self._executor._took(attempt, began)
                    said = True
                    yield delta
                return
            except SignalboxError as error:
                if said:
                    raise _broken(self._route, attempt, error) from error
                time.sleep(self._route.failed(attempt, _kind(error), error))

    def _pieces(self, attempt: Attempt) -> Iterator[wire.Delta]:
        reader = wire.StreamReader(attempt.extractor, attempt.exposed)
        first = _first_deadline(attempt)
        http, plaintext = self._executor._http, self._executor._plaintext
        with _http.sent(http, attempt, first, plaintext) as reply:
            if not _is_good(reply.status):
                raise attempt.refused(reply.status, reply.rest(first))
            while not reader.ended and (piece := reply.piece(first)) is not None:
                delta = reader.push(piece)
                if delta is not None:
                    first = attempt.deadline
                    yield delta
        self.completion = self._route.completion(attempt, reader.finish())


class AsyncExecutor(_Calls):
    """The executor for asyncio."""

    def __init__(
        self,
        client: Getters,
        *,
        http: httpx.AsyncClient | None = None,
        allow_plaintext: Iterable[str] = (),
    ) -> None:
        super().__init__(client, allow_plaintext)
        self._http = http or httpx.AsyncClient()
        self._own = http is None

    @overload
    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        model: str | None,
        temperature: float | None,
        max_tokens: int | None = None,
        stream: bool = False,
        tools: Tools = (),
        /,
    ) -> Completion | AsyncCompletionStream: ...

    async def complete(
        self, messages: Messages, model: str | None = None, *params: Any, **options: Any
    ) -> Any:
        """See `Executor.complete`."""
        older = legacy(params)
        if older is None:
            return await self._complete(messages, model, *params, **options)
        generation, streamed, tools = older
        if streamed:
            return self.stream(messages, model, generation, tools=tools, **options)
        return await self._complete(messages, model, generation, tools=tools, **options)

    async def _complete(
        self,
        messages: Messages,
        model: str | None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion:
        call = call_of(messages, model, generation_params, reasoning_params, chat_params, tools, stream=None)
        route = self._route(call, provider, router, timeout)
        while True:
            attempt = route.next_attempt()
            began = monotonic()
            try:
                answer = await self._answer(attempt)
            except SignalboxError as error:
                await asyncio.sleep(route.failed(attempt, _kind(error), error))
                continue
            self._took(attempt, began)
            return route.completion(attempt, answer)

    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        generation_params: Parameters = None,
        reasoning_params: Parameters = None,
        *,
        chat_params: Parameters = None,
        tools: Tools = (),
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> AsyncCompletionStream:
        """See `Executor.stream`: `async for delta in executor.stream(...)`."""
        call = call_of(messages, model, generation_params, reasoning_params, chat_params, tools, stream=True)
        return AsyncCompletionStream(self, self._route(call, provider, router, timeout))

    async def close(self) -> None:
        """Closes its connections. Calls after that raise `ClosedError`."""
        self._closed = True
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncExecutor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _answer(self, attempt: Attempt) -> wire.Answer:
        async with _http.sent_async(self._http, attempt, attempt.deadline, self._plaintext) as reply:
            body = await reply.rest(attempt.deadline)
        return _read(attempt, reply.status, body)


class AsyncCompletionStream:
    """See `CompletionStream`."""

    def __init__(self, executor: AsyncExecutor, route: Route) -> None:
        self._executor = executor
        self._route = route
        self.completion: Completion | None = None

    async def __aiter__(self) -> AsyncIterator[wire.Delta]:
        while True:
            attempt = self._route.next_attempt()
            began, said = monotonic(), False
            try:
                async for delta in self._pieces(attempt):
                    if not said:
                        self._executor._took(attempt, began)
                    said = True
                    yield delta
                return
            except SignalboxError as error:
                if said:
                    raise _broken(self._route, attempt, error) from error
                await asyncio.sleep(self._route.failed(attempt, _kind(error), error))

    async def _pieces(self, attempt: Attempt) -> AsyncIterator[wire.Delta]:
        reader = wire.StreamReader(attempt.extractor, attempt.exposed)
        first = _first_deadline(attempt)
        http, plaintext = self._executor._http, self._executor._plaintext
        async with _http.sent_async(http, attempt, first, plaintext) as reply:
            if not _is_good(reply.status):
                raise attempt.refused(reply.status, await reply.rest(first))
            while not reader.ended and (piece := await reply.piece(first)) is not None:
                delta = reader.push(piece)
                if delta is not None:
                    first = attempt.deadline
                    yield delta
        self.completion = self._route.completion(attempt, reader.finish())


def _kind(error: SignalboxError) -> str:
    if isinstance(error, TimedOutError):
        return "timeout"
    return "connection" if isinstance(error, ConnectionFailedError) else kind_of(error)


def _first_deadline(attempt: Attempt) -> float:
    first = attempt.first_token
    return attempt.deadline if first is None else min(attempt.deadline, monotonic() + first)


def _is_good(status: int) -> bool:
    return 200 <= status < 300


def _read(attempt: Attempt, status: int, body: bytes) -> wire.Answer:
    if not _is_good(status):
        raise attempt.refused(status, body)
    return wire.read_answer(attempt.extractor, body)


def _broken(route: Route, attempt: Attempt, error: SignalboxError) -> CompletionError:
    failure = AttemptFailure(attempt.provider.id, _kind(error), error)
    return CompletionError("the answer broke off", (*route.failures, failure))
