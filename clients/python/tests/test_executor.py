"""Calls of models: a local server speaks each family of providers, as the vectors have it."""

import asyncio
import http.server
import json
import threading
import time

import pytest
from conftest import PATIENCE, streamed_bytes, until, vectors
from google.protobuf import json_format
from test_fleet import worker

import signalbox
from signalbox import OptionsError, _proto, specs, wire
from signalbox.environment import known_providers
from signalbox.executor import AsyncExecutor, Executor
from signalbox.routing import CompletionError
from signalbox.testing import FakeClient

FAMILIES = vectors("wire.json")["families"]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family["family"])


class Speaker:
    """An HTTP server that answers, by the first segment of the path, what a test has laid ready."""

    def __init__(self):
        speaker = self
        self.ready = {}
        self.heard = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = self.path.split("/")[1]
                speaker.heard.append((name, self.path, dict(self.headers), body))
                status, answer, pause, more = speaker.next(name)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Connection", "close")
                for header in more.items():
                    self.send_header(*header)
                self.end_headers()
                half = len(answer) // 2
                self.wfile.write(answer[:half])
                self.wfile.flush()
                time.sleep(pause)
                self.wfile.write(answer[half:])
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def lay(self, name, *answers):
        """Answers in their order, the last one for ever: status, body, the pause in its middle, and further headers."""
        left_open = (0.0, {})
        self.ready[name] = [(*answer, *left_open[len(answer) - 2 :]) for answer in answers]

    def next(self, name):
        laid = self.ready[name]
        return laid.pop(0) if len(laid) > 1 else laid[0]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def speaker():
    made = Speaker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(shared, speaker):
    """Every family is configured, with the local server as its address, and a key of its own."""
    for family in FAMILIES:
        name = f"providers/{family['family']}"
        shared.put(name, provider={**family["provider"], "baseUrl": f"{speaker.url}/{family['family']}"})
        revision = shared.put(
            f"{name}/apiKeys/main", apiKey={"secret": {"value": f"sk-{family['family']}-key"}}
        )
    options = signalbox.Options(url=shared.url, token=shared.token(), secrets=True)
    with signalbox.connect(options) as made:
        made.wait_revision(revision)
        yield made


@pytest.fixture
def executor(client, speaker):
    speaker.heard.clear()
    with Executor(client) as made:
        yield made


def route(shared, client, primary, *fallbacks, **router):
    spec = {"primary": f"providers/{primary}", "fallbacks": [f"providers/{each}" for each in fallbacks]}
    spec["retries"] = {"maxRetries": 1, "initialBackoff": "0.01s", "maxBackoff": "0.01s"}
    client.wait_revision(shared.put("routers/default", router={**spec, **router}))


def spoken_by(speaker, name):
    """A provider of OpenAI's type that this speaker plays, without a model of its own."""
    known = dict(known_providers())["openai"]
    own = {"type": "PROVIDER_TYPE_OPENAI", "default_model": "", "base_url": f"{speaker.url}/{name}"}
    return {**known, **own}


def good(family="openai", at=0):
    body = next(each for each in FAMILIES if each["family"] == family)["answers"][at]["body"]
    return 200, json.dumps(body).encode()


@each_family
def test_each_family_answers(executor, speaker, family):
    name, case = family["family"], family["answers"][0]
    speaker.lay(name, (200, json.dumps(case["body"]).encode()))
    completion = executor.complete("Hello", "some-model", provider=name)
    assert (completion.text, dict(completion.usage)) == (case["expect"]["text"], case["expect"]["usage"])
    assert (completion.provider, completion.model) == (name, "some-model")
    assert completion.revision == executor._client.snapshot().revision
    ((_, _, headers, body),) = speaker.heard
    shown = json.dumps(headers)
    assert (f"sk-{name}-key" in shown) == (name != "ollama")
    assert "{" not in shown.replace("{", "", 1), "no placeholder is left"
    assert "Hello" in json.dumps(body)


@each_family
def test_each_family_streams(executor, speaker, family):
    name = family["family"]
    case = family["streams"][0]
    speaker.lay(name, (200, streamed_bytes(case)))
    stream = executor.stream("Hello", "some-model", provider=name)
    assert "".join(delta.text for delta in stream) == case["expect"]["text"]
    assert dict(stream.completion.usage) == case["expect"]["usage"]


@each_family
def test_each_family_refuses(executor, speaker, family):
    name, case = family["family"], family["errors"][0]
    body = case["text"] if "text" in case else json.dumps(case["body"])
    speaker.lay(name, (case["status"], body.encode()))
    with pytest.raises(CompletionError) as refused:
        executor.complete("Hello", "some-model", provider=name, timeout=5)
    failure = refused.value.failures[0].error.failure
    assert (failure.reason, failure.code) == (case["expect"]["reason"], case["expect"]["code"])
    assert f"sk-{name}-key" not in str(refused.value)


@each_family
def test_each_family_has_a_fallback(shared, client, executor, speaker, family):
    name = family["family"]
    other = "mistral" if name != "mistral" else "groq"
    route(shared, client, name, other)
    speaker.lay(name, (503, b"{}"))
    speaker.lay(other, good(other))
    completion = executor.complete("Hello", "some-model")
    assert completion.provider == other
    assert [(each.provider, each.kind) for each in completion.failures] == [(name, "unavailable")] * 2


@pytest.mark.parametrize(
    ("answer", "kind", "attempts"),
    [
        ((429, b"{}"), "rate_limited", 2),
        ((500, b"{}"), "server_error", 1),
        ((401, b"{}"), "authentication", 1),
        ((200, b"<html>"), "bad_answer", 1),
        ((302, b""), "server_error", 1),
        ((0, b""), "connection", 2),
        ((400, b"{}"), "refused", 1),
    ],
)
def test_failures_are_told_apart_and_tried_again_on_the_routers_terms(
    shared, client, executor, speaker, answer, kind, attempts
):
    route(shared, client, "openai", "mistral")
    speaker.lay("openai", answer)
    speaker.lay("mistral", good())
    completion = executor.complete("Hello", "m")
    assert (completion.provider, [each.kind for each in completion.failures]) == (
        "mistral",
        [kind] * attempts,
    )


def test_one_that_recovers_is_not_left(shared, client, executor, speaker):
    route(shared, client, "openai", "mistral")
    speaker.lay("openai", (503, b"{}"), good())
    assert executor.complete("Hello", "m").provider == "openai"


def test_a_slow_answer_is_given_up(shared, client, executor, speaker):
    route(shared, client, "openai", "mistral", timeouts={"request": "0.2s"}, retries={"maxRetries": 0})
    speaker.lay("openai", (*good(), 1.0))
    speaker.lay("mistral", good())
    completion = executor.complete("Hello", "m")
    assert [each.kind for each in completion.failures] == ["timeout"]
    speaker.lay("mistral", (*good(), 1.0))
    began = time.monotonic()
    with pytest.raises(CompletionError, match="in time"):
        executor.complete("Hello", "m", timeout=0.3)
    assert time.monotonic() - began < 0.9


def test_a_key_that_is_refused_makes_room_for_another(shared, client, executor, speaker):
    route(shared, client, "openai")
    shared.put("providers/openai/apiKeys/second", apiKey={"secret": {"value": "sk-second"}, "weight": 1})
    client.wait_revision(
        shared.put("routers/default", labels={"a": "b"}, router={"primary": "providers/openai"})
    )
    speaker.lay("openai", (401, b"{}"), good())
    completion = executor.complete("Hello", "m")
    keys = [headers["Authorization"] for _, _, headers, _ in speaker.heard]
    assert len(set(keys)) == 2 and [each.kind for each in completion.failures] == ["authentication"]
    client.wait_revision(shared.delete("providers/openai/apiKeys/second"))


@pytest.fixture
def rotating(client, speaker):
    """A client whose provider has one key, which is being rotated."""
    speaker.heard.clear()
    filled = _proto.Resource.FromString(client.provider("openai")._packed)
    filled.provider.base_url = f"{speaker.url}/rotating"
    key = {"secret": {"value": "sk-new"}, "previousSecret": {"value": "sk-before"}}
    return FakeClient(
        {
            "providers/openai": json_format.MessageToDict(filled),
            "providers/openai/apiKeys/main": {"apiKey": key},
            "routers/default": {"router": {"primary": "providers/openai", "retries": {"maxRetries": 0}}},
        }
    )


def keys_of(speaker):
    """What was presented, by nobody but these tests: a call that was given up may be heard of late."""
    heard = [headers for name, _, headers, _ in speaker.heard if name == "rotating"]
    return [headers["Authorization"].removeprefix("Bearer ") for headers in heard]


def test_the_value_before_is_tried_while_a_key_is_rotated(rotating, speaker):
    with Executor(rotating) as executor:
        speaker.lay("rotating", (401, b"{}"), good())
        completion = executor.complete("Hello", "m")
        assert keys_of(speaker) == ["sk-new", "sk-before"]
        assert [each.kind for each in completion.failures] == ["authentication"]
        speaker.heard.clear()
        echoes = [
            json.dumps({"error": {"message": f"no key {key}"}}).encode() for key in ("sk-new", "sk-before")
        ]
        speaker.lay("rotating", *((401, echo) for echo in echoes))
        with pytest.raises(CompletionError) as raised:
            list(executor.stream("Hello", "m"))
        assert keys_of(speaker) == ["sk-new", "sk-before"], "each once"
        assert "sk-" not in str(raised.value)


def test_a_right_that_a_key_lacks_is_not_asked_of_the_value_before(rotating, speaker):
    with Executor(rotating) as executor:
        speaker.lay("rotating", (403, b"{}"))
        with pytest.raises(CompletionError):
            executor.complete("Hello", "m")
        assert keys_of(speaker) == ["sk-new"]


def test_a_real_rotation_is_ridden_out(server, speaker, connect):
    """Another worker does not accept the new key, so that the old one is kept."""
    base = f"{speaker.url}/rotating"
    server.put("providers/openai", provider={"type": "PROVIDER_TYPE_OPENAI", "baseUrl": base})
    first = server.put("providers/openai/apiKeys/main", apiKey={"secret": {"value": "sk-before"}})
    server.put("routers/default", router={"primary": "providers/openai", "retries": {"maxRetries": 0}})
    accepts = {"validate": lambda state: None if state.revision <= first + 1 else "not now"}
    connect(server, worker_id="wary", **accepts).wait_revision(first, PATIENCE)
    client = connect(server, worker_id="ready")
    client.wait_ready(PATIENCE)
    rotation = {"name": "providers/openai/apiKeys/main", "secret": {"value": "sk-new"}}
    rotated = server.call("ApiKeyService.RotateApiKey", rotation).revision
    client.wait_revision(rotated, PATIENCE)
    until(lambda: (other := worker(server, "wary")) and other.rejection.revision == rotated, "the refusal")
    speaker.heard.clear()
    speaker.lay("rotating", (401, b"{}"), good())
    with Executor(client) as executor:
        executor.complete("Hello", "m")
        assert keys_of(speaker) == ["sk-new", "sk-before"]
        revision = server.call(
            "ApiKeyService.RotateApiKey", {**rotation, "secret": None, "retireNow": True}
        ).revision
        client.wait_revision(revision, PATIENCE)
        speaker.heard.clear()
        speaker.lay("rotating", (401, b"{}"))
        with pytest.raises(CompletionError):
            executor.complete("Hello", "m")
        assert keys_of(speaker) == ["sk-new"], "what is retired is not used any more"


def test_once_something_was_said_nobody_else_is_asked(shared, client, executor, speaker):
    route(shared, client, "openai", "mistral")
    said = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
    speaker.lay("openai", (200, said))
    stream = executor.stream("Hello", "m")
    pieces = iter(stream)
    assert next(pieces).text == "Hi"
    with pytest.raises(CompletionError, match="broke off"):
        next(pieces)
    speaker.lay("openai", (503, b"{}"))
    speaker.lay("mistral", (200, said + b"data: [DONE]\n\n"))
    stream = executor.stream("Hello", "m")
    assert [delta.text for delta in stream] == ["Hi"]
    assert stream.completion.provider == "mistral"


def test_an_error_in_a_frame_counts_as_what_it_is_until_something_was_said(shared, client, executor, speaker):
    route(shared, client, "bedrock", "mistral")
    speaker.lay("mistral", (200, b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'))
    cases = next(each for each in FAMILIES if each["family"] == "bedrock")["streams"]
    streams = {case["name"]: (200, streamed_bytes(case)) for case in cases}
    for name, kinds in [
        ("throttled before anything is said", ["rate_limited"] * 2),
        ("an error of the transport", ["unavailable"] * 2),
        ("a call that is wrong", ["refused"]),
        ("a page", ["bad_answer"]),
        ("nothing", ["connection"] * 2),
    ]:
        speaker.lay("bedrock", streams[name])
        stream = executor.stream("Hello", "m")
        assert [delta.text for delta in stream] == ["Hi"], name
        assert stream.completion.provider == "mistral", name
        assert [failure.kind for failure in stream.completion.failures] == kinds, name
    speaker.lay("bedrock", streams["throttled before anything is said"], streams["text"])
    stream = executor.stream("Hello", "m")
    assert "".join(delta.text for delta in stream) == "Hi there."
    assert [failure.kind for failure in stream.completion.failures] == ["rate_limited"]
    speaker.lay("bedrock", streams["cut off between frames"])
    pieces = iter(executor.stream("Hello", "m"))
    assert next(pieces).text == "Hi"
    with pytest.raises(CompletionError, match="broke off"):
        next(pieces)


def test_one_whose_answers_come_whole_is_not_asked_for_a_stream(speaker):
    whole, other = spoken_by(speaker, "whole"), spoken_by(speaker, "other")
    extractor = {name: part for name, part in whole["response_extractor"].items() if name != "stream"}
    key = {"apiKey": {"secret": {"value": "sk-own"}}}
    fake = FakeClient(
        {
            "providers/whole": {"provider": {**whole, "response_extractor": extractor}},
            "providers/whole/apiKeys/a": key,
            "providers/other": {"provider": other},
            "providers/other/apiKeys/a": key,
            "routers/default": {"router": {"primary": "providers/whole", "fallbacks": ["providers/other"]}},
        }
    )
    speaker.lay("other", (200, b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'))
    speaker.heard.clear()
    with Executor(fake) as executor:
        stream = executor.stream("Hello", "m")
        assert [delta.text for delta in stream] == ["Hi"]
        with pytest.raises(wire.CallError, match="answers come whole"):
            list(executor.stream("Hello", "m", provider="whole"))
    assert [name for name, *_ in speaker.heard] == ["other"]


def test_round_robin_takes_turns(shared, client, executor, speaker):
    route(shared, client, "openai", "mistral", "groq", strategy="ROUTING_STRATEGY_ROUND_ROBIN")
    for name in ("openai", "mistral", "groq"):
        speaker.lay(name, good(name))
    asked = [executor.complete("Hello", "m").provider for _ in range(6)]
    assert asked == ["openai", "mistral", "groq"] * 2


def test_parameters_in_every_form_reach_the_provider(shared, client, executor, speaker):
    route(shared, client, "openai")
    speaker.lay("openai", good())
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    executor.complete(
        messages, "m", {"maxTokens": 5, "temperature": 0.5, "stop_sequences": ["END"]}, {"effort": "high"}
    )
    body = speaker.heard[-1][3]
    assert body["messages"][1] == {"role": "user", "content": "Hello"}
    assert (body["max_completion_tokens"], body["temperature"], body["stop"]) == (5, 0.5, ["END"])
    assert body["reasoning_effort"] == "high"
    for wrong in (
        lambda: executor.complete("Hello", "m", {"temprature": 1}),
        lambda: executor.complete([], "m"),
        lambda: executor.complete([{"role": "wizard", "content": "x"}], "m"),
        lambda: executor.complete([{"role": "user", "content": [{"type": "image"}]}], "m"),
        lambda: executor.complete("Hello", "m", tools=["tools/none"]),
    ):
        with pytest.raises(wire.CallError):
            wrong()
    with pytest.raises(CompletionError, match="not configured"):
        executor.complete("Hello", "m", provider="nobody")


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ({"messages": None}, "messages"),
        ({"messages": b"Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": 5}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [5]}]}, "messages[0].tool_calls"),
        ({"messages": "half \ud800"}, "messages"),
        ({"model": 5}, "model"),
        ({"generation_params": {"temperature": "hot"}}, "generation.temperature"),
        ({"generation_params": {"maxTokens": float("nan")}}, "generation.max_tokens"),
        ({"generation_params": {"top_k": True}}, "generation.top_k"),
        ({"generation_params": {"stop_sequences": "END"}}, "generation.stop_sequences"),
        ({"reasoning_params": {"effort": 3}}, "reasoning.effort"),
        ({"chat_params": [1]}, "chat"),
        ({"chat_params": {"tool_choice": {"mood": "auto"}}}, "chat.tool_choice.mood"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"name": "f", "parameters": {1, 2}}]}, "tools[0]"),
    ],
)
def test_what_is_wrong_with_a_call_is_told_by_its_path(shared, client, executor, speaker, call, path):
    route(shared, client, "openai")
    speaker.lay("openai", good())
    with pytest.raises(wire.CallError) as raised:
        executor.complete(**{"messages": "Hello", "model": "m", **call})
    assert path in [problem.path for problem in raised.value.problems]
    assert speaker.heard == []


@pytest.mark.parametrize("choice", ["required", {"mode": "required"}, specs.ToolChoice("required")])
def test_a_tool_choice_is_taken_in_every_form(shared, client, executor, speaker, choice):
    route(shared, client, "openai")
    speaker.lay("openai", good())
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    executor.complete("Hello", "m", chat_params={"toolChoice": choice, "stream": True}, tools=[tool])
    body = speaker.heard[-1][3]
    assert body["tool_choice"] == "required" and "stream" not in body


def test_the_older_form_is_taken_with_a_warning(shared, client, executor, speaker):
    route(shared, client, "openai")
    speaker.lay("openai", good())
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.warns(DeprecationWarning):
        assert executor.complete([{"role": "user", "content": "x"}], "m", 0.5, 7, False, [tool]).text
    body = speaker.heard[-1][3]
    assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 7)
    assert body["tools"][0]["function"]["name"] == "f"
    speaker.lay("openai", (200, b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'))
    with pytest.warns(DeprecationWarning):
        assert [delta.text for delta in executor.complete("x", "m", 0.5, None, True)] == ["Hi"]
    with pytest.raises(TypeError):
        executor.complete("x", "m", 1, 2, 3, 4, 5)
    with pytest.warns(DeprecationWarning):
        stream = executor.complete("x", model="m", temperature=0.5, max_tokens=7, stream=True, tools=[tool])
    assert [delta.text for delta in stream] == ["Hi"]
    body = speaker.heard[-1][3]
    assert (body["temperature"], body["max_completion_tokens"], len(body["tools"])) == (0.5, 7, 1)
    for twice in ({"generation_params": {}}, {"tools": [], "stream": True}):
        with pytest.raises(TypeError, match="given twice"):
            executor.complete("x", "m", 0.5, 7, False, [tool], **twice)
    with pytest.raises(TypeError, match="given twice"):
        executor.complete("x", "m", {"top_p": 1}, temperature=0.5)


def test_the_older_form_is_taken_by_asyncio_too(shared, client, speaker):
    async def run():
        route(shared, client, "openai")
        async with AsyncExecutor(client) as executor:
            speaker.lay("openai", good())
            with pytest.warns(DeprecationWarning):
                assert (await executor.complete("x", "m", 0.5, 7)).text
            body = speaker.heard[-1][3]
            assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 7)
            laid = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
            speaker.lay("openai", (200, laid))
            with pytest.warns(DeprecationWarning):
                stream = await executor.complete("x", "m", 0.5, None, True)
            assert [delta.text async for delta in stream] == ["Hi"]
        with pytest.raises(signalbox.ClosedError):
            await executor.complete("x", "m")

    asyncio.run(run())


def test_a_provider_that_there_is_not_is_told_with_what_there_is(executor):
    with pytest.raises(
        CompletionError, match=r"nobody: not configured, or disabled; there is anthropic, .*openai"
    ):
        executor.complete("Hello", "m", provider="nobody")


def test_a_closed_executor_and_a_router_that_there_is_not_are_told(executor):
    with pytest.raises(CompletionError, match="no such router: nowhere"):
        executor.complete("Hello", "m", router="nowhere")
    executor.close()
    with pytest.raises(signalbox.ClosedError, match="executor is closed"):
        executor.complete("Hello", "m")


@pytest.mark.parametrize(
    "vector", vectors("routing.json")["models"], ids=lambda vector: vector["description"]
)
def test_a_model_goes_along_to_another_provider_only_if_that_one_has_it(speaker, vector):
    fake = FakeClient()
    for name in ("first", "second"):
        spec = {**spoken_by(speaker, name), **vector[name]}
        fake.put(f"providers/{name}", {"provider": spec})
        fake.put(
            f"providers/{name}/apiKeys/k", {"apiKey": {"secret": {"value": f"sk-{name}"}, "active": True}}
        )
    if vector["catalogue"] is not None:
        fake.put(vector["catalogue"], {"model": {}})
    router = {"primary": "providers/first", "fallbacks": ["providers/second"], "retries": {"maxRetries": 0}}
    fake.put("routers/default", {"router": router})
    speaker.lay("first", (503, b"{}"))
    speaker.lay("second", good())
    speaker.heard.clear()
    with Executor(fake) as executor:
        completion = executor.complete("Hello", vector["call"] or None)
    assert [body["model"] for _, _, _, body in speaker.heard] == vector["asked"]
    assert (completion.provider, completion.model) == ("second", vector["asked"][1])


def test_the_fake_has_what_the_client_has():
    fake = FakeClient({"settings/a": {"setting": {"intValue": 3}}})
    fake.wait_revision(1, timeout=0)
    fake.clear_cache()
    assert fake.setting_int("a") == 3
    with pytest.raises(signalbox.RevisionNotReachedError):
        fake.wait_revision(2, timeout=0)


def test_regression_a_page_with_a_good_status_was_tried_again_where_it_was_streamed(
    shared, client, executor, speaker
):
    route(shared, client, "openai")
    speaker.lay("openai", (200, b"<!doctype html>\n<html>Welcome</html>\n"))
    for call in (executor.complete, lambda *asked: list(executor.stream(*asked))):
        speaker.heard.clear()
        with pytest.raises(CompletionError) as caught:
            call("Hello", "m")
        assert [each.kind for each in caught.value.failures] == ["bad_answer"]
        assert len(speaker.heard) == 1


def test_an_executor_calls_a_fake_provider_by_its_type_alone():
    import httpx

    heard = []

    def answer(request):
        heard.append(request)
        return httpx.Response(200, json={"choices": [{"message": {"content": "Hi"}}]})

    fake = FakeClient({"providers/groq": {"provider": {"type": "PROVIDER_TYPE_GROQ"}}})
    fake.put("providers/groq/apiKeys/test", {"apiKey": {"secret": {"value": "gsk-test"}}})
    with Executor(fake, http=httpx.Client(transport=httpx.MockTransport(answer))) as executor:
        assert executor.complete("Hello", "m", provider="groq").text == "Hi"

    async def run():
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with AsyncExecutor(fake, http=http) as executor:
            assert (await executor.complete("Hello", "m", provider="groq")).text == "Hi"

    asyncio.run(run())
    assert str(heard[0].url) == "https://api.groq.com/openai/v1/chat/completions"
    assert heard[0].headers["authorization"] == "Bearer gsk-test"
    fake.put("providers/own", {"provider": {"type": "PROVIDER_TYPE_GROQ", "baseUrl": "https://own.example"}})
    assert fake.provider("own").spec.base_url == "https://own.example"
    fake.put("providers/custom", {"provider": {"type": "PROVIDER_TYPE_CUSTOM"}})
    custom = fake.provider("custom").spec
    assert (custom.enabled, custom.method, custom.endpoint_path) == (True, "post", ""), "as the service does"


def test_a_model_and_a_place_come_from_the_environment_as_at_a_first_start():
    from signalbox.environment import environment_snapshot

    def read(**variables):
        return environment_snapshot(variables, FakeClient().snapshot()._overrides)

    assert read(GROQ_API_KEY="k").provider("groq").spec.default_model == "openai/gpt-oss-120b"
    elsewhere = read(GROQ_API_KEY="k", GROQ_BASE_URL="https://llm.example")
    assert elsewhere.provider("groq").spec.default_model == ""
    for host, url in (
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("gpu.local", "http://gpu.local:11434"),
        ("gpu.local:80", "http://gpu.local:80"),
        ("https://ollama.example/", "https://ollama.example"),
    ):
        found = read(OLLAMA_HOST=host)
        assert found.active_provider().id == "ollama"
        assert (found.provider("ollama").spec.base_url, found.active_api_keys("ollama")) == (url, ())
    cloud = read(OLLAMA_API_KEY="k")
    assert cloud.provider("ollama").spec.base_url == "https://ollama.com"
    assert len(cloud.active_api_keys("ollama")) == 1


def test_a_key_that_is_not_shown_is_told_of(shared, client, speaker):
    route(shared, client, "groq")
    options = signalbox.Options(url=shared.url, token=shared.token(), secrets=False)
    with signalbox.connect(options) as masked, Executor(masked) as blind:
        masked.wait_ready()
        with pytest.raises(CompletionError, match="not shown"):
            blind.complete("Hello", "m")


def test_asyncio(shared, client, speaker):
    async def run():
        route(shared, client, "openai", "mistral")
        speaker.lay("openai", (503, b"{}"))
        speaker.lay("mistral", good())
        async with AsyncExecutor(client) as executor:
            completion = await executor.complete("Hello", "m")
            assert (completion.provider, len(completion.failures)) == ("mistral", 2)
            speaker.lay(
                "openai", (200, b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n')
            )
            stream = executor.stream("Hello", "m")
            assert [delta.text async for delta in stream] == ["Hi"]
            assert stream.completion.provider == "openai"
            speaker.lay("openai", (*good(), 5.0))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(executor.complete("Hello", "m"), 0.2)

    asyncio.run(run())


def test_regression_an_executor_failed_in_its_second_loop():
    """Connections that are kept belong to the loop they were made in."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = good()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spec = {**dict(known_providers())["openai"], "base_url": f"http://127.0.0.1:{server.server_port}"}
    fake = FakeClient(
        {
            "providers/openai": {"provider": spec},
            "providers/openai/apiKeys/k": {"apiKey": {"secret": {"value": "sk"}}},
        }
    )
    executor = AsyncExecutor(fake)
    for _ in range(3):
        assert asyncio.run(executor.complete("Hello", "m", provider="openai")).text

    async def end():
        assert (await executor.complete("Hello", "m", provider="openai")).text
        await executor.close()

    asyncio.run(end())
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("disabled", [False, True])
def test_without_a_service_the_providers_own_variables_count(monkeypatch, speaker, disabled):
    for name in ("GROQ_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-mistral-env")
    monkeypatch.setenv("MISTRAL_BASE_URL", f"{speaker.url}/mistral")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic-env")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{speaker.url}/anthropic")
    speaker.lay("mistral", good())
    speaker.lay("anthropic", good("anthropic"))
    options = signalbox.Options.from_environment(
        {"SIGNALBOX_ENABLED": "false"} if disabled else {}, url="http://127.0.0.1:1"
    )
    with signalbox.connect(options) as client, Executor(client) as executor:
        completion = executor.complete("Hello", "m")
        assert (completion.provider, completion.revision) == ("anthropic", 0), (
            "the first in the documented order"
        )
        assert executor.complete("Hello", "m", provider="mistral").provider == "mistral"
        assert client.status().ready is disabled
        if disabled:
            client.wait_ready(timeout=0)
            client.clear_cache()
            assert client.provider("mistral").enabled and client.provider("groq") is None


def test_what_is_known_of_each_type_is_what_the_server_fills_in(shared):
    from google.protobuf import json_format

    from signalbox import _proto
    from signalbox._decode import decode

    with signalbox.connect(signalbox.Options(url=shared.url, token=shared.token())) as client:
        for kind, spec in known_providers():
            name = f"providers/known_{kind}"
            given = {"type": f"PROVIDER_TYPE_{kind.upper()}", "baseUrl": spec["base_url"]}
            client.wait_revision(shared.put(name, provider=given))
            ours = decode(
                json_format.ParseDict({"provider": spec}, _proto.Resource()).SerializeToString()
            ).spec
            assert ours == client.provider(f"known_{kind}").spec, kind


@pytest.mark.parametrize(
    "host", ["*", "a b", "", "llm.internal:8080", "http://llm.internal", "a/b", "[llm]", "[::1", 5]
)
def test_regression_what_is_no_host_is_no_host_for_plaintext(host):
    with pytest.raises(OptionsError, match="without a scheme, a port or a path"):
        Executor(FakeClient({}), allow_plaintext=[host])


def test_hosts_for_plaintext():
    hosts = ["llm.internal", "LLM_1.internal.", "10.0.0.5", "fd00::1", "[fd00::2]", "b\u00fccher.example"]
    Executor(FakeClient({}), allow_plaintext=hosts).close()


@pytest.mark.parametrize(
    ("generation", "path"),
    [({"temperature": 10**400}, "generation.temperature"), ({"temperature": 2.1}, "generation.temperature")],
)
def test_regression_a_number_that_no_call_has_is_refused(generation, path):
    for given in (generation, specs.GenerationParameters(**generation)):
        with Executor(
            FakeClient({"providers/x": {"provider": {"type": "PROVIDER_TYPE_OLLAMA"}}})
        ) as executor:
            with pytest.raises(wire.CallError) as refused:
                executor.complete("x", "m", given, provider="x")
            assert [problem.path for problem in refused.value.problems] == [path]
