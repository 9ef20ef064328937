"""Providers that repeat what they were sent, or that send what can't be borne: nothing of it comes through."""

import asyncio
import json
import socket
import threading
import time

import pytest
from test_executor import Speaker

from signalbox import specs, wire
from signalbox.environment import known_providers
from signalbox.executor import AsyncExecutor, CompletionError, Executor
from signalbox.testing import FakeClient

KEY = "sk-canary-abcdef123456"
HEADER = "hunter2-canary"
OPENAI = dict(known_providers())["openai"]


def configured(url):
    fake = FakeClient()
    headers = {"x-team": {"secret": {"value": HEADER}}, "x-plain": {"plain": "seen"}}
    fake.put("providers/openai", {"provider": {**OPENAI, "base_url": url, "headers": headers}})
    fake.put("providers/openai/apiKeys/main", {"apiKey": {"secret": {"value": KEY}, "active": True}})
    retries = {"maxRetries": 0}
    fake.put("routers/default", {"router": {"primary": "providers/openai", "retries": retries}})
    return fake


def words_of(executor):
    """What a call says of its failure, whole and streamed."""
    for call in (executor.complete, lambda *asked: list(executor.stream(*asked))):
        with pytest.raises(CompletionError) as caught:
            call("Hello", "m")
        yield f"{caught.value} {caught.value.failures}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nAuthorization Bearer %s\r\n\r\n",
        b"%s nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    ],
)
def test_regression_broken_http_does_not_repeat_a_key(answer):
    listener = socket.create_server(("127.0.0.1", 0))

    def speak():
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.replace(b"%s", KEY.encode()))

    threading.Thread(target=speak, daemon=True).start()
    with listener, Executor(configured(f"http://127.0.0.1:{listener.getsockname()[1]}")) as executor:
        for words in words_of(executor):
            assert "RemoteProtocolError" in words
            assert "canary" not in words


@pytest.fixture
def speaker():
    made = Speaker()
    yield made
    made.close()


def test_regression_secret_headers_are_cut_out_of_a_providers_words(speaker):
    said = json.dumps({"error": {"message": f"your x-team: {HEADER} or {KEY} is bad, seen", "code": HEADER}})
    with Executor(configured(f"{speaker.url}/openai")) as executor:
        speaker.lay("openai", (400, said.encode()))
        for words in words_of(executor):
            assert "is bad, seen" in words
            assert "canary" not in words
        speaker.lay("openai", (200, f"data: {said}\n\n".encode()))
        with pytest.raises(CompletionError) as caught:
            list(executor.stream("Hello", "m"))
        assert "is bad, seen" in str(caught.value)
        assert "canary" not in f"{caught.value} {caught.value.failures}"


@pytest.mark.parametrize(
    "delta", [{"tool_calls": [{"function": {"name": "f"}}]}, {"content": "x"}], ids=["calls", "texts"]
)
def test_regression_many_small_pieces_take_little_time(speaker, delta):
    event = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()
    speaker.lay("openai", (200, event * 20_000 + b"data: [DONE]\n\n"))

    async def run():
        async with AsyncExecutor(configured(f"{speaker.url}/openai")) as executor:
            stream = executor.stream("Hello", "m", timeout=60)
            async for _ in stream:
                pass
            return stream.completion.answer

    began = time.process_time()
    answer = asyncio.run(run())
    assert time.process_time() - began < 8, "it took a minute and more"
    assert len(answer.tool_calls) + len(answer.text) == 20_000


def test_half_a_character_is_none():
    reader = wire.StreamReader(
        specs.ResponseExtractor(stream=specs.StreamExtractor(framing="sse", end_data="[DONE]"))
    )
    with pytest.raises(wire.MalformedError):
        reader.push(b'data: {"a": "\\ud800"}\n\n')
    for body in (b'{"a": "\\uDFFF"}', '{"a": 1}'.encode("utf-16"), b'\xef\xbb\xbf{"a": 1}'):
        with pytest.raises(wire.MalformedError):
            wire.reading.document(body)
    assert wire.reading.document(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
