"""A secret that is revoked while a call is under way is not sent any more, whatever the call's snapshot says."""

import threading

import pytest
from conftest import until
from test_executor import Speaker, good
from test_hostile import SPECS, ask, each_call

from signalbox import SecretError
from signalbox.executor import CompletionError, Executor
from signalbox.testing import FakeClient

MAIN, SPARE = "providers/openai/apiKeys/main", "providers/openai/apiKeys/spare"
AWAY = (503, b"{}")
STREAM = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'


@pytest.fixture
def speaker():
    made = Speaker()
    made.broken = []
    yield made
    made.close()
    assert not made.broken


@pytest.fixture
def client(speaker):
    fake = FakeClient()
    for name in ("openai", "mistral"):
        fake.put(f"providers/{name}", {"provider": {**SPECS[name], "base_url": f"{speaker.url}/{name}"}})
    fake.put(MAIN, {"apiKey": {"secret": {"value": "sk-main"}}})
    fake.put("providers/mistral/apiKeys/main", {"apiKey": {"secret": {"value": "sk-other"}}})
    route(fake)
    return fake


def route(client, *fallbacks):
    retries = {"maxRetries": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s"}
    spec = {"primary": "providers/openai", "fallbacks": list(fallbacks), "retries": retries}
    client.put("routers/default", {"router": spec})


def answer(call):
    return (200, STREAM) if "stream" in call else good()


def once_asked(speaker, act):
    """Does something after the first request was heard, and before it is answered."""
    say, done = speaker.next, threading.Event()

    def next(name):
        if not done.is_set():
            done.set()
            try:
                act()
            except BaseException as error:
                speaker.broken.append(error)
        return say(name)

    speaker.next = next


def sent(speaker):
    return [headers["Authorization"].removeprefix("Bearer ") for _, _, headers, _ in speaker.heard]


@each_call
@pytest.mark.parametrize(
    "withdraw",
    [
        lambda client: client.revoke(MAIN),
        lambda client: client.delete(MAIN),
        lambda client: client.put(MAIN, {"apiKey": {"secret": {"value": "sk-main"}, "active": False}}),
        lambda client: client.put(MAIN, {"apiKey": {"secret": {"value": "sk-new"}}}),
        lambda client: (client.revoke(MAIN), client.put(MAIN, {"apiKey": {"secret": {"value": "sk-new"}}})),
    ],
    ids=["revoked", "deleted", "switched off", "replaced", "revoked and replaced"],
)
def test_a_key_that_is_gone_is_not_sent_again(client, speaker, call, withdraw):
    speaker.lay("openai", AWAY)
    once_asked(speaker, lambda: withdraw(client))
    with pytest.raises(CompletionError) as raised:
        ask(call, client)
    assert sent(speaker) == ["sk-main"]
    last = raised.value.failures[-1].error
    assert isinstance(last, SecretError) and last.reason == "revoked"


@each_call
def test_another_key_or_the_fallback_takes_over(client, speaker, call):
    route(client, "providers/mistral")
    client.put(SPARE, {"apiKey": {"secret": {"value": "sk-spare"}, "weight": 1}})
    client.put(MAIN, {"apiKey": {"secret": {"value": "sk-main"}, "weight": 1000}})
    speaker.lay("openai", AWAY, answer(call))
    speaker.lay("mistral", answer(call))

    once_asked(speaker, lambda: client.revoke(MAIN if sent(speaker) == ["sk-main"] else SPARE))
    assert ask(call, client)
    assert sorted(sent(speaker)) == ["sk-main", "sk-spare"]
    speaker.heard.clear()
    speaker.lay("openai", AWAY)
    client.put(MAIN, {"apiKey": {"secret": {"value": "sk-main"}}})
    client.put(SPARE, {"apiKey": {"secret": {"value": "sk-spare"}}})
    once_asked(speaker, lambda: client.revoke(MAIN, SPARE))
    assert ask(call, client)
    assert len(sent(speaker)) == 2 and sent(speaker)[1] == "sk-other"


@each_call
def test_the_fallbacks_key_may_be_the_one_that_is_gone(client, speaker, call):
    route(client, "providers/mistral")
    speaker.lay("openai", AWAY)
    once_asked(speaker, lambda: client.revoke("providers/mistral/apiKeys/main"))
    with pytest.raises(CompletionError):
        ask(call, client)
    assert set(sent(speaker)) == {"sk-main"}


@each_call
def test_the_value_before_is_not_tried_once_it_is_gone(client, speaker, call):
    both = {"secret": {"value": "sk-new"}, "previousSecret": {"value": "sk-before"}}
    client.put(MAIN, {"apiKey": both})
    speaker.lay("openai", (401, b"{}"))
    once_asked(speaker, lambda: client.put(MAIN, {"apiKey": {"secret": {"value": "sk-new"}}}))
    with pytest.raises(CompletionError):
        ask(call, client)
    assert sent(speaker) == ["sk-new"]


@each_call
def test_a_rotation_and_changes_of_others_do_not_disturb_a_call(client, speaker, call):
    speaker.lay("openai", AWAY, answer(call))

    def change():
        both = {"secret": {"value": "sk-new"}, "previousSecret": {"value": "sk-main"}}
        client.put(MAIN, {"apiKey": both, "labels": {"a": "b"}})
        client.put("settings/a", {"setting": {"intValue": 1}})
        client.revoke("providers/mistral/apiKeys/main")

    once_asked(speaker, change)
    assert ask(call, client)
    assert sent(speaker) == ["sk-main", "sk-main"], "the call goes on with what it has read"


@each_call
def test_a_secret_header_is_not_sent_again(client, speaker, call):
    spec = {**SPECS["openai"], "base_url": f"{speaker.url}/openai"}
    sealed = {**spec, "headers": {"x-team": {"secret": {"value": "team-secret"}}, "x-plain": {"plain": "p"}}}
    client.put("providers/openai", {"provider": sealed})
    speaker.lay("openai", AWAY)
    once_asked(speaker, lambda: client.revoke("providers/openai"))
    with pytest.raises(CompletionError):
        ask(call, client)
    ((_, _, headers, _),) = speaker.heard
    assert (headers["x-team"], headers["x-plain"]) == ("team-secret", "p")


def test_a_snapshot_calls_by_itself(client, speaker):
    """Who hands over a snapshot has said which state counts."""
    speaker.lay("openai", AWAY, good())
    kept = client.snapshot()
    client.delete(MAIN)
    with Executor(kept) as executor:
        assert executor.complete("Hello", "m").text
    assert sent(speaker) == ["sk-main"] * 2


def test_a_leaked_key_is_not_sent_after_the_callback(server, speaker, connect):
    """The real service: the callback has been told before the answer comes, and the retry goes without."""
    spec = {"type": "PROVIDER_TYPE_OPENAI", "baseUrl": f"{speaker.url}/openai"}
    server.put("providers/openai", provider=spec)
    server.put(MAIN, apiKey={"secret": {"value": "sk-leaked"}})
    retries = {"maxRetries": 2, "initialBackoff": "0.01s"}
    server.put("routers/default", router={"primary": "providers/openai", "retries": retries})
    client = connect(server)
    client.wait_ready()
    told = []
    client.on_change(told.append, "providers/openai/apiKeys/*")

    def leak():
        rotation = {"name": MAIN, "secret": {"value": "sk-new"}, "revokePrevious": True}
        server.call("ApiKeyService.RotateApiKey", rotation)
        until(lambda: [event for event in told if event.kind == "revoked"])

    speaker.lay("openai", AWAY, good())
    once_asked(speaker, leak)
    with Executor(client) as executor:
        with pytest.raises(CompletionError, match="was revoked"):
            executor.complete("Hello", "m")
        assert sent(speaker) == ["sk-leaked"]
        until(lambda: client.api_key("openai", "main").active)
        assert executor.complete("Hello", "m").text
    assert sent(speaker) == ["sk-leaked", "sk-new"]
