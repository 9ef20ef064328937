"""Providers that ask to be left alone: for how long, and whom they are left for."""

import asyncio
import json
import time
from datetime import datetime, timezone

import pytest
from conftest import vectors
from test_executor import Speaker, good, spoken_by

from signalbox import _left_alone, specs, wire
from signalbox._pause import Wait
from signalbox.executor import AsyncExecutor, CompletionError, Executor
from signalbox.testing import FakeClient

ROUTING = vectors("routing.json")
NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
LATER = {"Retry-After": "25"}
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "25s"}


def by_description(part):
    return pytest.mark.parametrize("vector", ROUTING[part], ids=lambda vector: vector["description"])


@by_description("waits")
def test_what_providers_ask_for_is_read_as_the_vectors_have_it(vector):
    header = None if vector["header"] is None else wire.retry_after(vector["header"], NOW)
    extractor = specs.ResponseExtractor()
    body = wire.read_failure(extractor, 429, json.dumps(vector["body"]).encode(), None).retry_after
    assert (body if header is None else header) == vector["seconds"]


@by_description("pauses")
def test_the_pause_is_as_the_vectors_have_it(vector):
    fields = ("own", "longest", "asked", "others", "left")
    assert Wait(**{name: vector[name] for name in fields}).length(vector["random"]) == vector["pause"]


@pytest.fixture
def speaker():
    made = Speaker()
    yield made
    made.close()


@pytest.fixture
def fake(speaker):
    """The providers `first` and `second`, the one before the other."""
    made = FakeClient()
    for name in ("first", "second"):
        made.put(f"providers/{name}", {"provider": spoken_by(speaker, name)})
        put_key(made, f"providers/{name}/apiKeys/main")
    route(made, "second")
    speaker.lay("second", good())
    return made


def put_key(fake, name):
    fake.put(name, {"apiKey": {"secret": {"value": f"sk-{name}"}, "active": True}})


def route(fake, *fallbacks, longest="5s"):
    retries = {"maxRetries": 1, "initialBackoff": "0.001s", "maxBackoff": longest}
    fallbacks = [f"providers/{each}" for each in fallbacks]
    router = {"primary": "providers/first", "fallbacks": fallbacks, "retries": retries}
    fake.put("routers/default", {"router": router})


@pytest.mark.parametrize(
    "answer",
    [
        (429, b"{}", 0.0, LATER),
        (503, b"{}", 0.0, LATER),
        (429, json.dumps({"error": {"details": [RETRY_INFO]}}).encode()),
    ],
)
def test_regression_a_provider_that_asks_to_be_left_alone_is(fake, speaker, answer):
    speaker.lay("first", answer)
    with Executor(fake) as executor:
        completion = executor.complete("Hello", "m")
        assert (completion.provider, len(completion.failures)) == ("second", 1)
        # Another one that can't be asked anyhow is no reason not to wait, and what is to be waited is too long.
        fake.delete("providers/second/apiKeys/main")
        began = time.monotonic()
        with pytest.raises(CompletionError, match="asks to be left alone for 25 s") as caught:
            executor.complete("Hello", "m")
    assert caught.value.retry_after == 25
    assert time.monotonic() - began < 20
    assert [name for name, *_ in speaker.heard] == ["first", "second", "first"]


def test_regression_a_provider_is_left_alone_by_later_calls_too(fake, speaker):
    """Every call went to it first, and was told the same."""
    speaker.lay("first", (429, b"{}", 0.0, LATER))
    with Executor(fake) as executor:

        def asked(**given):
            speaker.heard.clear()
            try:
                said = executor.complete("Hello", "m", **given).provider
            except CompletionError:
                said = None
            return said, [name for name, *_ in speaker.heard]

        assert asked() == ("second", ["first", "second"])
        assert asked() == ("second", ["second"])
        assert asked(provider="first") == (None, ["first"]), "who names it gets it"
        speaker.lay("second", (429, b"{}", 0.0, LATER))
        assert asked() == (None, ["second", "first"]), "nobody else may answer"
        speaker.lay("first", good())
        assert asked() == ("first", ["first"]), "the first of them is asked"
        speaker.lay("second", good())
        assert asked() == ("first", ["first"]), "it has answered"


def test_who_is_left_alone_is_bounded(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_left_alone, "monotonic", lambda: now[0])
    left_alone = _left_alone.LeftAlone()
    left_alone.told("a", 5)
    left_alone.told("b", 1e9)
    now[0] += 5
    assert "a" not in left_alone and "b" in left_alone
    now[0] += 3_600
    assert "b" not in left_alone
    for number in range(3_000):
        left_alone.told(str(number), 60)
    assert len(left_alone._until) == 1_024 and "0" in left_alone


def test_a_provider_that_nobody_stands_in_for_is_waited_for(fake, speaker):
    route(fake)
    soon = (429, b"{}", 0.0, {"Retry-After": "1"})
    speaker.lay("first", soon, good())
    with Executor(fake) as executor:
        began = time.monotonic()
        assert len(executor.complete("Hello", "m").failures) == 1
        assert time.monotonic() - began >= 1
        # Not beyond the time of the call: that fails at once, and says when to come again.
        speaker.lay("first", soon, good())
        with pytest.raises(CompletionError) as caught:
            executor.complete("Hello", "m", timeout=0.9)
    assert caught.value.retry_after == 1
    assert "in time" not in str(caught.value)


def test_another_key_of_the_provider_was_not_asked_to_wait(fake, speaker):
    put_key(fake, "providers/first/apiKeys/other")
    with Executor(fake) as executor:
        for _ in range(5):
            speaker.heard.clear()
            speaker.lay("first", (429, b"{}", 0.0, LATER), good())
            assert executor.complete("Hello", "m").provider == "first"
            assert len({headers["Authorization"] for _, _, headers, _ in speaker.heard}) == 2


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "5", True])
def test_regression_a_timeout_that_is_none_is_told(fake, timeout):
    with (
        Executor(fake) as executor,
        pytest.raises(wire.CallError, match="timeout must be a number of seconds"),
    ):
        executor.complete("Hello", "m", timeout=timeout)


def test_regression_an_executor_that_is_closed_during_a_call_raises_an_error_of_ours(fake, speaker):
    speaker.lay("first", (503, b"{}"))
    executor = Executor(fake)
    said = executor._carried_out(executor._steps(True, "Hello", "m"))
    executor.close()
    with pytest.raises(CompletionError, match="the executor was closed"):
        list(said)


def test_a_call_without_a_model_says_what_to_set(fake, speaker):
    with (
        Executor(fake) as executor,
        pytest.raises(wire.CallError, match="give the provider a `default_model`"),
    ):
        executor.complete("Hello")


def test_a_stream_that_is_to_wait_goes_elsewhere(fake, speaker):
    said = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    speaker.lay("first", (429, b"{}", 0.0, LATER))
    speaker.lay("second", (200, said))

    async def run():
        async with AsyncExecutor(fake) as executor:
            stream = executor.stream("Hello", "m")
            assert [delta.text async for delta in stream] == ["Hi"]
            return stream.completion

    assert asyncio.run(run()).provider == "second"
