"""Calls models, by configuration alone: `complete` and `stream`, over httpx (the extra `executor`).

    executor = signalbox.executor.Executor(client)
    print(executor.complete("Hello").text)

The active provider answers, or the next one on the router's terms; a call may name its provider and its model. Each call reads
one snapshot, whose revision is told with the answer; a key that is revoked meanwhile is not used any more. As long as neither
the service nor a cache on disk has given one, the environment variables of the providers count (`GROQ_API_KEY` and so on), at
revision 0. What is sent and read is `signalbox.wire`'s, who is asked is `signalbox.routing`'s, the course of a call is
`signalbox._exchange`'s, how it travels is `signalbox._http`'s. Owns nothing but the carrying out, by threads and by asyncio.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from random import random
from typing import Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from . import _fork, _http, wire
from ._attempts import (
    AttemptFailure,
    Completion,
    CompletionError,
    ConnectionFailedError,
    ProviderError,
    TimedOutError,
)
from ._calls import Messages, Parameters, Tools, call_of, modern
from ._exchange import Pause, Receive, Said, Send, Steps, resumed, streamed, whole
from ._http import HeaderError, PlaintextError, httpx
from ._left_alone import LeftAlone
from .client import Reader
from .environment import environment_snapshot
from .errors import ClosedError, OptionsError, SignalboxError
from .routing import Route
from .snapshot import Getters

#: How much the newest time counts in the average by which the fastest provider is found.
_NEWEST = 0.3
#: Seconds that a call may take at most: more than this is never, and more than clocks can hold.
_LONGEST = 2_592_000.0

__all__ = [
    "AsyncCompletionStream",
    "AsyncExecutor",
    "AttemptFailure",
    "Completion",
    "CompletionError",
    "CompletionStream",
    "ConnectionFailedError",
    "Executor",
    "HeaderError",
    "PlaintextError",
    "ProviderError",
    "TimedOutError",
]

_Streamed = TypeVar("_Streamed")


class _Calls(Generic[_Streamed]):
    """What calls have in common, however they are carried out."""

    def __init__(self, client: Getters, allow_plaintext: Iterable[str]) -> None:
        self._client = client
        self._plaintext = _http.plaintext_hosts(allow_plaintext)
        self._latencies: dict[str, float] = {}
        self._turns: dict[str, int] = {}
        self._left_alone = LeftAlone()
        self._closed = False
        #: The process that has used a client that was given.
        self._used_in: int | None = None

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
    ) -> _Streamed:
        """As `complete`, piece by piece: iterate over what this gives. Once something was said nobody else is asked."""
        steps = self._steps(
            True,
            messages,
            model,
            generation_params,
            reasoning_params,
            chat_params=chat_params,
            tools=tools,
            provider=provider,
            router=router,
            timeout=timeout,
        )
        return self._stream_of(steps)

    def _stream_of(self, steps: Steps) -> _Streamed:
        raise NotImplementedError

    def _steps(
        self,
        stream: bool,
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
    ) -> Steps:
        """What a call does. Raises `SignalboxError` for one that can't be made."""
        if self._closed:
            raise ClosedError("the executor is closed")
        if timeout is not None and not (_is_finite(timeout) and timeout > 0):
            raise wire.CallError(
                [wire.Problem("timeout", "must be a number of seconds above 0, or None for the router's")]
            )
        for path, given in (("provider", provider), ("router", router)):
            if not isinstance(given, str | None):
                raise wire.CallError([wire.Problem(path, "must be the id of one, as a text")])
        call = call_of(
            messages, model, generation_params, reasoning_params, chat_params, tools, stream=stream
        )
        snapshot, present = self._client._current(), self._client._current
        if isinstance(self._client, Reader) and not self._client.status().loaded:
            # Neither the service nor a cache on disk: the providers' own variables are better than nothing.
            snapshot = environment_snapshot(os.environ, snapshot._overrides)
            present = snapshot._current
        route = Route(
            snapshot,
            call(snapshot),
            present=present,
            provider=provider,
            router=router,
            timeout=timeout if timeout is None else min(timeout, _LONGEST),
            latencies=self._latencies,
            turns=self._turns,
            left_alone=self._left_alone,
            random=random,
        )
        return (streamed if stream else whole)(route, self._took)

    def _check_given(self) -> None:
        """Raises `OptionsError` where the client that was given is a parent's."""
        if self._used_in is None:
            self._used_in = _fork.generation
        elif self._used_in != _fork.generation:
            raise OptionsError(
                "http: the client was used before the fork, and its connections are the parent's: make an executor with a "
                "client of its own in each process"
            )

    def _took(self, provider: str, seconds: float) -> None:
        self._left_alone.answered(provider)
        known = self._latencies.get(provider, seconds)
        self._latencies[provider] = known + _NEWEST * (seconds - known)


class Executor(_Calls["CompletionStream"]):
    """Calls models. May be used from any thread, and after a fork: the child has connections of its own, unless `http` is given.
    Keys and secret headers go over plain http to the machine itself only, and to the hosts of `allow_plaintext`. Proxies of the
    environment are not used: one that is wanted is given, as `http=httpx.Client(proxy=...)`."""

    def __init__(
        self,
        client: Getters,
        *,
        http: httpx.Client | None = None,
        allow_plaintext: Iterable[str] = (),
    ) -> None:
        super().__init__(client, allow_plaintext)
        self._given = http
        if http is not None:
            _http.bound(http)
        self._own: tuple[int, httpx.Client | None] = (
            _fork.generation,
            _own_client() if http is None else None,
        )

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
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        stream: bool = False,
        tools: Tools = (),
        *,
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion | CompletionStream: ...

    def complete(self, messages: Messages, model: str | None = None, *params: Any, **options: Any) -> Any:
        """Asks, and waits for the whole answer. `messages` is a text, or messages (`wire.Message`, or dicts with `role` and
        `content`); parameters are dicts with the names that the API has. Raises `wire.CallError` for a call that is wrong,
        `CompletionError` when nobody has answered.

        The older form `complete(messages, model, temperature, max_tokens, stream, tools)` is still taken, with a warning.
        """
        params, options, is_streamed = modern(params, options)
        if is_streamed:
            return self.stream(messages, model, *params, **options)
        (completion,) = self._carried_out(self._steps(False, messages, model, *params, **options))
        return completion

    def close(self) -> None:
        """Closes its connections. Calls after that raise `ClosedError`."""
        self._closed = True
        generation, own = self._own
        if own is not None and generation == _fork.generation:
            own.close()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connections(self) -> httpx.Client:
        if self._given is not None:
            self._check_given()
            return self._given
        generation, own = self._own
        if own is None or generation != _fork.generation:
            own = _own_client()
            self._own = (_fork.generation, own)
        return own

    def _stream_of(self, steps: Steps) -> CompletionStream:
        return CompletionStream(self._carried_out(steps))

    def _carried_out(self, steps: Steps) -> Generator[Said, None, None]:
        """Takes the steps of a call, and gives what is said."""
        with closing(_http.Connection(self._connections(), self._plaintext)) as connection:
            outcome: Any = None
            while (step := resumed(steps, outcome)) is not None:
                outcome = None
                try:
                    match step:
                        case Send(attempt, deadline):
                            outcome = connection.send(attempt, deadline)
                        case Receive(deadline):
                            outcome = connection.receive(deadline)
                        case Pause(seconds):
                            connection.close()
                            time.sleep(seconds)
                        case said:
                            yield said
                except SignalboxError as error:
                    outcome = error


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _own_client() -> httpx.Client:
    http = httpx.Client(**_http.own_options())
    _http.bound(http)
    return http


class CompletionStream:
    """The pieces of an answer, once. `completion` is the whole, once the last piece has come. One that is given up before is closed,
    or used in a `with`: it holds its connection until then."""

    def __init__(self, said: Generator[Said, None, None]) -> None:
        self._said = said
        self.completion: Completion | None = None

    def close(self) -> None:
        """Lets go of the answer. There is nothing to close once the last piece has come."""
        self._said.close()

    def __enter__(self) -> CompletionStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[wire.Delta]:
        with closing(self._said) as said:
            for each in said:
                if isinstance(each, Completion):
                    self.completion = each
                else:
                    yield each


class AsyncExecutor(_Calls["AsyncCompletionStream"]):
    """The executor for asyncio, see `Executor`. May be used in several loops: each has connections of its own, unless `http` is
    given."""

    def __init__(
        self,
        client: Getters,
        *,
        http: httpx.AsyncClient | None = None,
        allow_plaintext: Iterable[str] = (),
    ) -> None:
        super().__init__(client, allow_plaintext)
        self._given = http
        if http is not None:
            _http.bound(http)
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._made_in = _fork.generation

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
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        stream: bool = False,
        tools: Tools = (),
        *,
        provider: str | None = None,
        router: str = "default",
        timeout: float | None = None,
    ) -> Completion | AsyncCompletionStream: ...

    async def complete(
        self, messages: Messages, model: str | None = None, *params: Any, **options: Any
    ) -> Any:
        """See `Executor.complete`."""
        params, options, is_streamed = modern(params, options)
        if is_streamed:
            return self.stream(messages, model, *params, **options)
        steps = self._steps(False, messages, model, *params, **options)
        async with aclosing(self._carried_out(steps)) as said:
            return [each async for each in said][-1]

    async def close(self) -> None:
        """Closes its connections. Calls after that raise `ClosedError`."""
        self._closed = True
        own = self._of_loops.pop(asyncio.get_running_loop(), None)
        if own is not None and self._made_in == _fork.generation:
            await own.aclose()

    async def __aenter__(self) -> AsyncExecutor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _connections(self) -> httpx.AsyncClient:
        """The connections of the present loop: those of another one can't be used here."""
        if self._given is not None:
            self._check_given()
            return self._given
        if self._made_in != _fork.generation:
            self._of_loops, self._made_in = WeakKeyDictionary(), _fork.generation
        loop = asyncio.get_running_loop()
        known = self._of_loops.get(loop)
        if known is None:
            known = self._of_loops[loop] = httpx.AsyncClient(**_http.own_options())
            _http.bound(known)
        return known

    def _stream_of(self, steps: Steps) -> AsyncCompletionStream:
        return AsyncCompletionStream(self._carried_out(steps))

    async def _carried_out(self, steps: Steps) -> AsyncGenerator[Said, None]:
        """See `Executor._carried_out`."""
        async with aclosing(_http.AsyncConnection(self._connections(), self._plaintext)) as connection:
            outcome: Any = None
            while (step := resumed(steps, outcome)) is not None:
                outcome = None
                try:
                    match step:
                        case Send(attempt, deadline):
                            outcome = await connection.send(attempt, deadline)
                        case Receive(deadline):
                            outcome = await connection.receive(deadline)
                        case Pause(seconds):
                            await connection.aclose()
                            await asyncio.sleep(seconds)
                        case said:
                            yield said
                except SignalboxError as error:
                    outcome = error


class AsyncCompletionStream:
    """See `CompletionStream`; used in an `async with`."""

    def __init__(self, said: AsyncGenerator[Said, None]) -> None:
        self._said = said
        self.completion: Completion | None = None

    async def close(self) -> None:
        """See `CompletionStream.close`."""
        await self._said.aclose()

    async def __aenter__(self) -> AsyncCompletionStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[wire.Delta]:
        # No generator: who leaves a loop drops it, and asyncio would close it while this one is closed.
        return self

    async def __anext__(self) -> wire.Delta:
        async for each in self._said:
            if not isinstance(each, Completion):
                return each
            self.completion = each
        raise StopAsyncIteration
