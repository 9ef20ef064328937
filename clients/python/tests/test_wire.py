"""Each family of providers against the shared vectors, by the configuration that a real server has filled in."""

import json

import pytest
from conftest import frame, streamed_bytes, text_frame, vectors
from google.protobuf import json_format

from signalbox import _proto, specs, wire
from signalbox._decode import decode

VECTORS = vectors("wire.json")
FAMILIES = VECTORS["families"]
CUSTOM = VECTORS["custom"]


def parameters(kind, value):
    """Typed parameters from the API's JSON, by way of the spec that holds them."""
    message = json_format.ParseDict({"promptTemplate": {kind: value}}, _proto.Resource())
    return getattr(decode(message.SerializeToString()).spec, kind)


def call_of(value):
    tools = []
    for name in value.get("tools", []):
        message = json_format.ParseDict({"tool": VECTORS["tools"][name]}, _proto.Resource())
        tools.append(wire.OfferedTool(name, decode(message.SerializeToString()).spec))
    messages = tuple(
        wire.Message(
            each["role"].removeprefix("CHAT_ROLE_").lower(),
            each.get("text", ""),
            tuple(
                wire.ToolCall(call["id"], call["functionName"], call.get("argumentsJson", ""))
                for call in each.get("toolCalls", [])
            ),
            each.get("toolCallId", ""),
        )
        for each in value["messages"]
    )
    given = {
        kind: parameters(kind, value[kind]) for kind in ("generation", "chat", "reasoning") if kind in value
    }
    return wire.Call(messages, model=value.get("model", ""), tools=tuple(tools), **given)


def shown(answer):
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "tool_calls": [[call.id, call.function_name, call.arguments_json] for call in answer.tool_calls],
    }


@pytest.fixture(scope="module")
def providers(shared):
    """The spec of each family, as a worker has it once somebody has written this of it."""
    import signalbox

    for family in FAMILIES:
        revision = shared.put(f"providers/{family['family']}", provider=family["provider"])
    with signalbox.connect(signalbox.Options(url=shared.url, token=shared.token())) as client:
        client.wait_revision(revision)
        return {family["family"]: client.provider(family["family"]).spec for family in FAMILIES}


each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family["family"])


@each_family
def test_requests_are_rendered(providers, family):
    provider = providers[family["family"]]
    for case in family["requests"]:
        rendered = wire.render(provider, call_of(case["call"]))
        assert {
            "method": f"HTTP_METHOD_{rendered.method}",
            "url": rendered.url,
            "headers": dict(rendered.headers),
            "body": rendered.body,
            "unused": list(rendered.unused),
        } == case["expect"], case["name"]
    for case in family.get("refused", []):
        with pytest.raises(wire.CallError) as refused:
            wire.render(provider, call_of(case["call"]))
        assert [problem.path for problem in refused.value.problems] == case["paths"], case["name"]


@each_family
def test_answers_are_read(providers, family):
    extractor = providers[family["family"]].response_extractor
    for case in family["answers"]:
        assert shown(wire.read_answer(extractor, json.dumps(case["body"]).encode())) == case["expect"], case[
            "name"
        ]
    for body in family["malformed"]:
        with pytest.raises(wire.MalformedError):
            wire.read_answer(extractor, body.encode())


@pytest.fixture(scope="module")
def written(shared):
    """The specs of providers whose mappings are written by hand."""
    import signalbox

    for at, custom in enumerate(CUSTOM):
        revision = shared.put(f"providers/by-hand-{at}", provider=custom["provider"])
    with signalbox.connect(signalbox.Options(url=shared.url, token=shared.token())) as client:
        client.wait_revision(revision)
        return [client.provider(f"by-hand-{at}").spec for at in range(len(CUSTOM))]


@pytest.mark.parametrize("at", range(len(CUSTOM)), ids=lambda at: CUSTOM[at]["name"])
def test_mappings_that_are_written_by_hand(written, at):
    provider, custom = written[at], CUSTOM[at]
    for case in custom["requests"]:
        rendered = wire.render(provider, call_of(case["call"]))
        assert rendered.body == case["body"], case["name"]
        assert list(rendered.unused) == case["unused"], case["name"]
    for case in custom["refused"]:
        with pytest.raises(wire.CallError) as refused:
            wire.render(provider, call_of(case["call"]))
        assert [problem.path for problem in refused.value.problems] == case["paths"], case["name"]
    for case in custom["answers"]:
        read = wire.read_answer(provider.response_extractor, json.dumps(case["body"]).encode())
        assert shown(read) == case["expect"], case["name"]
    for body in custom["malformed"]:
        with pytest.raises(wire.MalformedError):
            wire.read_answer(provider.response_extractor, body.encode())


def test_regression_a_whole_number_is_what_the_parameter_makes_of_it(written):
    """In JSON of a call it is 1.0 for the server; Python writes 1."""
    provider = written[0]

    def rendered(temperature):
        given = specs.GenerationParameters(temperature=temperature)
        return wire.render(provider, wire.Call((wire.Message("user", "x"),), model="m", generation=given))

    for whole in (0, 1):
        assert rendered(whole) == rendered(float(whole))
    assert rendered(1).body["one"] is True
    body = wire.render(
        specs.ProviderSpec(
            base_url="https://x",
            endpoint_path="/y",
            request_builder=specs.RequestBuilder(
                version="1.0",
                payload_structure={"temperature": specs.RequestEntry(source="param:temperature")},
            ),
        ),
        wire.Call((wire.Message("user", "x"),), generation=specs.GenerationParameters(temperature=1)),
    ).body
    assert json.dumps(body) == '{"temperature": 1.0}'


def test_regression_a_stored_builder_without_the_conversation_is_told_of():
    builder = specs.RequestBuilder(
        version="1.0", payload_structure={"messages": specs.RequestEntry(source="param:system_prompt")}
    )
    with pytest.raises(wire.MappingError, match="param:messages"):
        wire.render(specs.ProviderSpec(request_builder=builder), wire.Call((wire.Message("user", "x"),)))


FAILURES = {
    "malformed": wire.MalformedError,
    "failed": wire.StreamFailedError,
    "cut_off": wire.CutOffError,
    "too_large": wire.TooLargeError,
}


def streamed(extractor, body, size):
    reader = wire.StreamReader(extractor)
    text = ""
    for at in range(0, len(body), size):
        delta = reader.push(body[at : at + size])
        text += delta.text if delta is not None else ""
    answer = reader.finish()
    assert text == answer.text
    return answer


@each_family
@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 30])
def test_streams_are_read_however_they_are_cut(providers, family, size):
    extractor = providers[family["family"]].response_extractor
    for case in family["streams"]:
        body = streamed_bytes(case)
        if "expect" in case:
            assert shown(streamed(extractor, body, size)) == case["expect"], case["name"]
            if "body" in case:
                returned = streamed(extractor, body.replace(b"\n", b"\r\n"), size)
                assert shown(returned) == case["expect"], case["name"]
            continue
        with pytest.raises(FAILURES[case["fails"]]) as failed:
            streamed(extractor, body, size)
        for told in {"message", "reason", "code"} & case.keys():
            assert getattr(failed.value.failure, told) == case[told], case["name"]


@each_family
def test_errors_are_read(providers, family):
    extractor = providers[family["family"]].response_extractor
    for case in family["errors"]:
        body = case["text"] if "text" in case else json.dumps(case["body"])
        failure = wire.read_failure(extractor, case["status"], body.encode(), case.get("key"))
        shown_failure = {"reason": failure.reason, "message": failure.message, "code": failure.code}
        assert shown_failure == case["expect"], case["name"]


def test_whatever_a_provider_answers_is_an_error_of_ours(providers):
    """No answer leads to an exception that a caller has not been told of."""
    bodies = [
        b"",
        b"7",
        b"null",
        b"[]",
        b"\xff",
        b"NaN",
        b"[" * 100_000,
        b'{"choices": 3, "content": {}, "usage": []}',
    ]
    bodies += [b'{"choices":[null]}', b'{"choices":[{"message":{"content":[1]}}]}', b'"' + b"a" * 2_000_000]
    for spec in providers.values():
        extractor = spec.response_extractor
        for body in bodies:
            with pytest.raises(wire.MalformedError):
                wire.read_answer(extractor, body)
            assert wire.read_failure(extractor, 500, body, "sk-key").reason
            with pytest.raises((wire.MalformedError, wire.CutOffError, wire.TooLargeError)):
                streamed(extractor, b"data: " + body + b"\n\n" + body, 999_983)
            with pytest.raises((wire.MalformedError, wire.CutOffError, wire.TooLargeError)):
                streamed(extractor, frame(b"", body) + text_frame({":message-type": "event"}, "{}"), 999_983)


def test_a_provider_without_a_mapping_is_told_of():
    with pytest.raises(wire.MappingError):
        wire.render(specs.ProviderSpec(), wire.Call((wire.Message("user", "x"),)))


def test_regression_builders_do_not_multiply_without_a_bound():
    def many(name):
        return json.dumps([f"{{{name}}}"] * 400)

    entry = specs.RequestEntry(
        source="param:messages",
        template_json=many("value"),
        message_format=specs.MessageFormat(text_json=many("text")),
    )
    entries = {f"x{at}": entry for at in range(25)}
    builder = specs.RequestBuilder(version="1.0", payload_structure=entries)
    provider = specs.ProviderSpec(base_url="https://x", endpoint_path="/y", request_builder=builder)
    with pytest.raises(wire.CallError) as refused:
        wire.render(provider, wire.Call((wire.Message("user", "x" * 3000),), model="m"))
    assert [problem.path for problem in refused.value.problems] == ["messages"]


def test_regression_a_path_is_not_called_without_what_belongs_into_it():
    def entry(value, when):
        return specs.RequestEntry(source=f'literal:"{value}"', target="url:v", when=when)

    entries = {"a": entry("on", "temperature"), "b": entry("off", "seed")}
    builder = specs.RequestBuilder(version="1.0", payload_structure=entries)
    provider = specs.ProviderSpec(base_url="https://x", endpoint_path="/y/{v}", request_builder=builder)

    def url(**generation):
        given = specs.GenerationParameters(**generation)
        return wire.render(provider, wire.Call((wire.Message("user", "x"),), model="m", generation=given)).url

    assert (url(temperature=0.5), url(seed=1)) == ("https://x/y/on", "https://x/y/off")
    with pytest.raises(wire.CallError) as refused:
        url()
    assert [problem.path for problem in refused.value.problems] == [
        "generation.temperature",
        "generation.seed",
    ]
