"""What a worker reads: getters, secrets, settings, staleness, and that none of it can be changed or printed."""

import asyncio
import copy
import pickle
from datetime import datetime, timedelta, timezone

import pytest

import signalbox
from signalbox import Options, OptionsError, SecretError, Selector, SettingTypeError, StaleError, Staleness
from signalbox.resources import VIEWS
from signalbox.specs import SPECS
from signalbox.testing import AsyncFakeClient, FakeClient

CANARY = "sk-canary-1c0ffee"


@pytest.fixture
def fake():
    with FakeClient(
        {
            "providers/groq": {
                "provider": {
                    "type": "PROVIDER_TYPE_GROQ",
                    "models": ["a", "b"],
                    "headers": {"x-plain": {"plain": "p"}, "x-key": {"secret": {"value": CANARY}}},
                },
                "labels": {"team": "search"},
            },
            "providers/groq/apiKeys/prod": {"apiKey": {"secret": {"value": CANARY}, "weight": 3}},
            "providers/groq/apiKeys/off": {"apiKey": {"secret": {"value": CANARY}, "active": False}},
            "providers/groq2/apiKeys/prod": {"apiKey": {"secret": {"value": CANARY}}},
            "databases/main": {
                "database": {
                    "type": "DATABASE_TYPE_POSTGRESQL",
                    "password": {"value": CANARY},
                    "options": {"sslpassword": {"secret": {"value": CANARY}}, "app": {"plain": "w"}},
                }
            },
            "routers/default": {"router": {"primary": "providers/groq"}},
            "promptTemplates/hello": {"promptTemplate": {"template": "Hello {{name}}"}},
            "cachePolicies/short": {"cachePolicy": {"ttl": "1.5s"}},
            "featureFlags/new_ui": {
                "featureFlag": {
                    "type": "FEATURE_FLAG_TYPE_PERCENTAGE",
                    "salt": "new_ui",
                    "rolloutBasisPoints": 4942,
                }
            },
        }
    ) as made:
        yield made


def test_every_kind_of_the_api_has_a_view():
    assert set(VIEWS) == set(SPECS)


def test_specs_are_typed_and_words(fake):
    provider = fake.provider("groq")
    assert (provider.id, provider.kind, provider.enabled) == ("groq", "provider", True)
    assert (provider.spec.type, provider.spec.models) == ("groq", ("a", "b"))
    assert dict(provider.labels) == {"team": "search"}
    assert provider.spec.headers["x-key"].secret == "present"
    assert fake.cache_policy("short").ttl == timedelta(seconds=1.5)
    assert fake.active_provider() is provider
    assert fake.prompt_template("hello").spec.template == "Hello {{name}}"
    assert fake.provider("none") is None and fake.database("none") is None
    assert fake.get("providers/groq") is provider


def test_secrets_are_read_by_their_owner(fake):
    assert fake.provider("groq").header("x-key").expose() == CANARY
    assert fake.provider("groq").header("x-plain").expose() == "p"
    assert fake.provider("groq").header("none") is None
    assert fake.database("main").password().expose() == CANARY
    assert fake.database("main").option("sslpassword").expose() == CANARY
    assert fake.database("main").option("app").expose() == "w"
    keys = fake.active_api_keys("groq")
    assert [(each.id, each.weight, each.secret().expose()) for each in keys] == [("prod", 3, CANARY)]
    assert fake.api_key("groq", "prod") is keys[0]
    with pytest.raises(SecretError) as refused:
        fake.database("main").secret_at("database.other")
    assert refused.value.reason == "absent"


@pytest.mark.parametrize(
    ("state", "reason"),
    [("ABSENT", "absent"), ("PRESENT", "masked"), ("MISSING", "missing"), ("UNDECRYPTABLE", "undecryptable")],
)
def test_a_secret_says_why_there_is_none(fake, state, reason):
    fake.put("providers/groq/apiKeys/x", {"apiKey": {"secret": {"state": f"STATE_{state}"}}})
    with pytest.raises(SecretError) as refused:
        fake.api_key("groq", "x").secret()
    assert refused.value.reason == reason


def test_nothing_prints_a_secret(fake):
    things = [fake, fake.snapshot(), fake.status(), *fake.select()]
    things += [each.spec for each in fake.select()] + [fake.api_key("groq", "prod").secret()]
    things.append(Options(token=CANARY, cache_key=CANARY * 3, environment={"SIGNALBOX_SETTING_X": CANARY}))
    for thing in things:
        assert CANARY not in f"{thing!r} {thing}"


def test_resources_can_neither_be_changed_nor_pickled(fake):
    provider = fake.provider("groq")
    with pytest.raises(AttributeError):
        provider.name = "other"
    with pytest.raises(AttributeError):
        provider.spec.base_url = "https://evil.example"
    with pytest.raises(TypeError):
        provider.spec.headers["x"] = None
    for each in (fake.api_key("groq", "prod"), fake.api_key("groq", "prod").secret()):
        with pytest.raises(TypeError):
            pickle.dumps(each)
        with pytest.raises(TypeError):
            copy.deepcopy(each)


def test_a_snapshot_stays_what_it_was(fake):
    before = fake.snapshot()
    fake.put("providers/groq", {"provider": {"type": "PROVIDER_TYPE_OPENAI"}})
    fake.delete("databases/main")
    assert (before.provider("groq").spec.type, before.database("main").id) == ("groq", "main")
    assert (fake.provider("groq").spec.type, fake.database("main")) == ("openai", None)
    assert fake.snapshot().revision == before.revision + 2


def test_selectors_pick_as_the_server_does(fake):
    def picked(selector):
        return [each.name for each in fake.select(selector)]

    assert picked("providers/groq/*") == ["providers/groq/apiKeys/off", "providers/groq/apiKeys/prod"]
    assert picked("kind:provider") == picked(Selector(labels={"team": "search"})) == ["providers/groq"]
    assert picked("routers/default") == ["routers/default"]
    assert len(picked("*")) == len(fake.snapshot())
    for wrong in ("", "providers*", "kind:unicorn", "unicorn:provider", "providers"):
        with pytest.raises(OptionsError):
            Selector.parse(wrong)


def test_settings_by_precedence():
    made = FakeClient(
        {
            "settings/a": {"setting": {"intValue": "3"}},
            "settings/b": {"setting": {"intValue": "3"}},
            "users/u/settings/b": {"setting": {"intValue": "4"}},
        },
        environment={"SIGNALBOX_SETTING_A": "2", "SIGNALBOX_SETTING_EMPTY": "", "OTHER_A": "9"},
        defaults={"b": 1, "maxRetries": 1},
    )
    assert [made.setting(key).source for key in ("a", "b", "max_retries")] == [
        "environment",
        "global",
        "default",
    ]
    assert (made.setting_int("a"), made.setting_int("b"), made.setting_int("max-retries")) == (2, 3, 1)
    assert (made.setting_int("b", user="u"), made.setting_int("b", user="v")) == (4, 3)
    assert made.setting("b", "u").source == "user"
    assert (made.setting_int("none"), made.setting_int("none", 7), made.setting("empty")) == (None, 7, None)
    made.put("settings/b", {"setting": {"intValue": "5"}})
    assert made.setting_int("b") == 5, "what is remembered of a snapshot ends with it"


def test_settings_by_type():
    stored = {
        "text": {"stringValue": "t"},
        "int": {"intValue": "-5"},
        "float": {"floatValue": 0.5},
        "bool": {"boolValue": False},
        "time": {"durationValue": "90s"},
        "json": {"jsonValue": '{"a": [1]}'},
        "secret": {"secretValue": {"value": CANARY}},
    }
    made = FakeClient({f"settings/{key}": {"setting": value} for key, value in stored.items()})
    assert made.setting_str("text") == "t"
    assert (made.setting_int("int"), made.setting_float("int"), made.setting_float("float")) == (
        -5,
        -5.0,
        0.5,
    )
    assert made.setting_bool("bool") is False
    assert made.setting_duration("time") == timedelta(seconds=90)
    assert made.setting_json("json") == {"a": [1]}
    assert made.setting_secret("secret").expose() == CANARY
    getters = {
        "text": made.setting_str,
        "int": made.setting_int,
        "bool": made.setting_bool,
        "time": made.setting_duration,
        "json": made.setting_json,
        "secret": made.setting_secret,
    }
    for key in stored:
        for of, getter in getters.items():
            if key != of:
                with pytest.raises(SettingTypeError) as refused:
                    getter(key)
                assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("getter", "good", "bad"),
    [
        (
            "int",
            {"7": 7, " -7 ": -7, "+7": 7, str(2**63 - 1): 2**63 - 1},
            ["7.0", "7_0", "", "x", str(2**63), "٧"],
        ),
        ("float", {"1.5": 1.5, "1e3": 1000.0, ".5": 0.5, "5.": 5.0}, ["nan", "inf", "1_0", "", "1e999"]),
        ("bool", {"TRUE": True, "off": False, "1": True, "No": False}, ["2", "y", ""]),
        (
            "duration",
            {"1.5s": timedelta(seconds=1.5), "250ms": timedelta(milliseconds=250)},
            ["5", "-5s", "1w", "9e9d"],
        ),
        ("json", {"[1, 2]": [1, 2]}, ["{", ""]),
    ],
)
def test_text_of_the_environment(getter, good, bad):
    def read(text):
        made = FakeClient(environment={"SIGNALBOX_SETTING_KEY": text or " "})
        return getattr(made, f"setting_{getter}")("key")

    for text, value in good.items():
        assert read(text) == value
    for text in bad:
        with pytest.raises(SettingTypeError):
            read(text)


def test_age_closes_secrets_and_kinds_and_serves_prompts_on(fake):
    fake._state.staleness = Staleness(bound=10, secrets=100, kinds={"router": 50})
    fake.set_age(0)
    held = fake.snapshot()
    assert fake.status().ready
    fake.set_age(60)
    assert not fake.status().ready and fake.status().loaded
    assert fake.api_key("groq", "prod").secret().expose() == CANARY
    with pytest.raises(StaleError):
        fake.router()
    fake.set_age(200)
    for read in (
        lambda: fake.api_key("groq", "prod").secret(),
        lambda: fake.active_api_keys("groq")[0].secret(),
        lambda: fake.provider("groq").header("x-key"),
        lambda: fake.database("main").password(),
        lambda: fake.snapshot().api_key("groq", "prod").secret(),
        lambda: fake.get("providers/groq/apiKeys/prod").secret(),
    ):
        with pytest.raises(SecretError) as refused:
            read()
        assert refused.value.reason == "stale"
    assert fake.prompt_template("hello") is not None
    assert held.api_key("groq", "prod").secret().expose() == CANARY, (
        "one piece of work has one state to its end"
    )
    fake.set_age(0)
    assert fake.router() is not None
    assert fake.api_key("groq", "prod").secret().expose() == CANARY


def test_a_policy_is_checked():
    nan = float("nan")
    wrongs = ({"secrets": 0}, {"kinds": {"unicorn": 5}}, {"kinds": {"router": -1}})
    for wrong in (*wrongs, {"bound": nan}, {"secrets": nan}, {"kinds": {"router": nan}}):
        with pytest.raises(OptionsError):
            Staleness(**wrong)
    assert Staleness(secrets=None).aging(1e9) is None


def test_virtual_keys(caplog):
    import hashlib

    presented = "sbx_01070d13191f252b_MTc9Q0lPVVthZ21zeX-Fi5GXnaOpr7W7wcfN09nf5es"
    spec = {
        "keyId": "01070d13191f252b",
        "keyHash": {"value": hashlib.sha256(presented.encode()).hexdigest()},
        "allowedModels": ["m"],
        "allowedProviders": ["providers/groq"],
        "expireTime": "2030-01-01T00:00:00Z",
    }
    made = FakeClient({"virtualKeys/team": {"virtualKey": spec}})
    now = datetime(2029, 12, 31, tzinfo=timezone.utc)
    key = made.find_virtual_key(presented, now)
    by_id = made.virtual_key("team")
    assert by_id is not None and by_id.key_id == key.key_id, "a getter by id, as all others"
    assert made.virtual_key(presented) is None
    assert (key.id, key.allows_model("m"), key.allows_model("n")) == ("team", True, False)
    assert key.allows_provider("groq") and not key.allows_provider("openai")
    assert made.find_virtual_key(presented, now + timedelta(days=1)) is None, "expired"
    for wrong in ("", "sbx_", presented[:-1], presented + "x" * 300, "sbx_ffff_x", presented[4:]):
        assert made.find_virtual_key(wrong, now) is None
    made.put("virtualKeys/team", {"virtualKey": {**spec, "enabled": False}})
    assert made.find_virtual_key(presented, now) is None
    made.put("virtualKeys/team", {"virtualKey": {**spec, "keyHash": {"state": "STATE_PRESENT"}}})
    with pytest.raises(OptionsError, match=r"connect\(secrets=True\)"):
        made.find_virtual_key(presented, now)
    made.put("virtualKeys/team", {"virtualKey": {**spec, "keyHash": {"state": "STATE_MISSING"}}})
    assert made.find_virtual_key(presented, now) is None
    assert "can't be checked" in caplog.text
    made.put("virtualKeys/team", {"virtualKey": {**spec, "keyId": "ffff"}})
    assert made.find_virtual_key(presented, now) is None
    made.put("virtualKeys/team", {"virtualKey": spec})
    made.revoke("virtualKeys/team")
    assert made.find_virtual_key(presented, now) is None


def test_flags_through_a_client(fake):
    assert fake.flag("new_ui", "alice") and not fake.flag("new_ui", "user-12345")
    assert fake.flag("none", "alice", otherwise=True)


def test_callbacks_and_subscriptions_of_a_fake(fake):
    import threading

    heard, told = [], threading.Event()

    def call(event):
        heard.append((event.kind, event.name))
        if event.kind == "revoked":
            told.set()
        if len(heard) == 1:
            raise ValueError("the first call fails")

    handle = fake.on_change(call, "providers/groq/*")
    subscription = fake.subscribe()
    fake.put("providers/groq/apiKeys/new", {"apiKey": {}})
    fake.put("settings/x", {"setting": {"intValue": 1}})
    fake.delete("providers/groq/apiKeys/new")
    fake.revoke("providers/groq/apiKeys/prod")
    assert told.wait(10)
    name = "providers/groq/apiKeys/new"
    assert heard == [("created", name), ("deleted", name), ("revoked", "providers/groq/apiKeys/prod")]
    handle.cancel()
    assert [changes.events[0].kind for changes in (subscription.next(0) for _ in range(4))] == [
        "created",
        "created",
        "deleted",
        "revoked",
    ]
    assert subscription.next(0) is None


def test_a_slow_subscriber_is_given_the_difference(fake):
    fake._state.feed._capacity = 4
    subscription = fake.subscribe()
    for value in range(25):
        fake.put("settings/x", {"setting": {"intValue": value}})
    fake.delete("databases/main")
    changes = subscription.next(0)
    assert (changes.missed, changes.snapshot.revision) == (26, fake.snapshot().revision)
    assert [(event.kind, event.name) for event in changes.events] == [
        ("deleted", "databases/main"),
        ("created", "settings/x"),
    ]
    fake.put("settings/x", {"setting": {"intValue": 99}})
    assert subscription.next(0).missed == 0
    fake.close()
    assert list(subscription) == []


def test_options_are_checked():
    good = Options()
    assert good.urls == ("http://127.0.0.1:50051",)
    for wrong in (
        {"url": []},
        {"url": "localhost:50051"},
        {"url": "ftp://localhost"},
        {"url": f"http://user:{CANARY}@localhost"},
        {"url": "http://localhost/path"},
        {"url": "http://localhost:99999"},
        {"progress_interval": 0.9},
        {"progress_interval": 61},
        {"progress_interval": 30},
        {"event_queue": 0},
        {"selectors": [f"settings/{n}" for n in range(65)]},
        {"token": "a", "token_file": "b"},
        {"cert_file": "c"},
        {"cache_file": "c"},
        {"cache_file": "c", "cache_key": "short"},
    ):
        with pytest.raises(OptionsError) as refused:
            Options(**wrong)
        assert CANARY not in str(refused.value) and refused.value.is_fatal
    with pytest.raises(OptionsError, match="tokn"):
        signalbox.connect(tokn="x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": "no"},
        {"enabled": "false"},
        {"report": 1},
        {"staleness": 3},
        {"progress_interval": "5"},
        {"cache_max_age": None},
        {"event_queue": 5.5},
        {"worker_id": 7},
        {"worker_labels": {"a": 1}},
        {"worker_labels": ["a"]},
        {"validate": 3},
        {"metrics": "prometheus"},
        {"token": b"x"},
        {"token_callback": CANARY},
        {"url": None},
        {"url": [5]},
        {"selectors": 5},
        {"selectors": [5]},
        {"cache_file": 5},
        {"cache_key": 5},
        {"ca_file": 5},
        {"token_file": 5},
        {"defaults": 5},
        {"defaults": {5: 5}},
        {"max_state_bytes": "1"},
    ],
)
def test_regression_an_option_of_the_wrong_type_was_found_in_the_watching_thread(wrong):
    """Again and again, and the client was never ready."""
    (name,) = wrong
    with pytest.raises(OptionsError, match=f"^{name}: must be ") as refused:
        Options(**wrong)
    assert CANARY not in str(refused.value)


def test_options_come_from_the_environment():
    environment = {
        "SIGNALBOX_URL": "https://a:1, https://b:2",
        "SIGNALBOX_TOKEN": CANARY,
        "SIGNALBOX_TOKEN_FILE": "/nowhere",
        "SIGNALBOX_CA_FILE": "/ca",
        "SIGNALBOX_CLIENT_CERT_FILE": "/c",
        "SIGNALBOX_CLIENT_KEY_FILE": "/k",
        "SIGNALBOX_SETTING_A": "1",
        "HOME": "/root",
    }
    options = Options.from_environment(environment, secrets=True)
    assert (options.urls, options.token, options.token_file) == (("https://a:1", "https://b:2"), CANARY, None)
    assert (options.ca_file, options.cert_file, options.key_file, options.secrets) == (
        "/ca",
        "/c",
        "/k",
        True,
    )
    assert "HOME" not in options.environment
    given = Options.from_environment(environment, token_file="/given")
    assert (given.token, given.token_file) == (None, "/given")


def test_the_value_before_is_there_while_a_key_is_rotated(fake: FakeClient) -> None:
    assert fake.api_key("groq", "prod").previous_secret() is None
    rotating = {"apiKey": {"secret": {"value": "sk-new"}, "previousSecret": {"value": CANARY}}}
    fake.put("providers/groq/apiKeys/prod", rotating)
    key = fake.api_key("groq", "prod")
    previous = key.previous_secret()
    assert previous is not None and previous.expose() == CANARY
    assert key.secret().expose() == "sk-new" and CANARY not in repr(key)
    fake.revoke("providers/groq/apiKeys/prod")
    with pytest.raises(SecretError, match="revoked"):
        fake.api_key("groq", "prod").previous_secret()


def test_what_is_remembered_of_settings_is_true_to_their_types_and_to_the_present():
    fake = FakeClient(defaults={"d": 1}, environment={"SIGNALBOX_SETTING_E": "1"})
    setting = fake.setting("e")
    for _ in range(2):
        read = (setting.as_int(), setting.as_bool(), setting.as_str(), setting.as_float())
        assert read == (1, True, "1", 1.0) and [type(each) for each in read] == [int, bool, str, float]
        assert setting.as_secret().expose() == "1"
    for _ in range(2):
        assert (fake.setting_int("d"), fake.setting_float("d")) == (1, 1.0)
        with pytest.raises(SettingTypeError):
            fake.setting_bool("d")
        assert fake.setting_int("late", 7) == 7 and fake.setting_int("late", 7, user="u") == 7
    fake.put("settings/late", {"setting": {"intValue": 1}})
    assert fake.setting_int("late", 7) == fake.setting_int("late", 7, user="u") == 1
    fake.put("users/u/settings/late", {"setting": {"intValue": 2}})
    assert (fake.setting_int("late"), fake.setting_int("late", user="u")) == (1, 2)
    fake.delete("settings/late")
    assert fake.setting_int("late", 7) == 7


def test_many_users_neither_grow_without_bound_nor_push_out_what_all_read():
    fake = FakeClient({"settings/a": {"setting": {"intValue": 1}}})
    for n in range(10_000):
        assert fake.setting_int("a", user=f"u{n}") == 1
    for n in range(10_000):
        assert fake.setting_int(f"none{n}", 3) == 3
    remembered = fake.snapshot()._settings
    assert len(remembered) <= 4_096 and "none0" in remembered


def test_keys_that_are_remembered_are_those_of_the_present_and_of_its_age():
    name = "providers/p/apiKeys/a"
    fake = FakeClient({name: {"apiKey": {"secret": {"value": "s"}}}})
    assert fake.active_api_keys("none") == ()
    for _ in range(2):
        assert [key.secret().expose() for key in fake.active_api_keys("p")] == ["s"]
    fake.set_age(4_000)
    with pytest.raises(SecretError) as stale:
        fake.active_api_keys("p")[0].secret()
    assert stale.value.reason == "stale"
    fake.set_age(0)
    assert fake.active_api_keys("p")[0].secret().expose() == "s"
    fake.revoke(name)
    assert fake.active_api_keys("p") == ()
    fake.put(name, {"apiKey": {"secret": {"value": "t"}}})
    assert [key.secret().expose() for key in fake.active_api_keys("p")] == ["t"]


def test_a_callback_may_raise_whatever_it_likes(fake):
    import sys
    import threading

    told = threading.Event()
    fake.on_change(lambda _: sys.exit("the callback's own"))
    fake.on_change(lambda event: event.name == "settings/second" and told.set())
    fake.put("settings/first", {"setting": {"intValue": 1}})
    fake.put("settings/second", {"setting": {"intValue": 1}})
    assert told.wait(10)


def test_nobody_changes_what_others_read():
    fake = FakeClient(defaults={"limits": {"a": [1]}})
    with pytest.raises(AttributeError):
        fake.snapshot().revision = 9
    fake.setting_json("limits")["a"].append(2)
    assert fake.setting_json("limits") == {"a": [1]}


def test_the_option_environment_overrides_settings_and_nothing_else(monkeypatch):
    monkeypatch.setenv("SIGNALBOX_URL", "http://127.0.0.1:7")
    options = Options.from_environment(environment={"SIGNALBOX_SETTING_A": "1"})
    assert options.urls == ("http://127.0.0.1:7",)
    assert dict(options.environment) == {"SIGNALBOX_SETTING_A": "1"}
    with pytest.raises(signalbox.OptionsError, match="give url instead of SIGNALBOX_URL"):
        signalbox.connect(environment={"SIGNALBOX_URL": "http://127.0.0.1:8"})


def test_not_ready_says_why_also_of_the_cache_on_disk():
    error = signalbox.NotReadyError(None)
    assert str(error) == "not ready in time: the service has not answered yet"
    cache = signalbox.CacheError("of another key")
    error = signalbox.NotReadyError(signalbox.RpcError("UNAVAILABLE", "gone"), cache)
    assert str(error) == (
        "not ready in time: UNAVAILABLE: gone; the cache on disk could not be used: of another key"
    )
    assert error.cache_error is cache


def test_a_closed_client_is_not_ready():
    with FakeClient() as made:
        assert made.status().ready
    assert not made.status().ready


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("nonsense", {"setting": {"intValue": 1}}),
        ("settings/", {"setting": {"intValue": 1}}),
        (3, {"setting": {"intValue": 1}}),
        ("settings/a", 3),
        ("settings/a", {}),
        ("settings/a", {"setting": {"int": 1}}),
        ("settings/a", {"setting": {"intValue": "x"}}),
        ("providers/p", {"provider": {"type": "PROVIDER_TYPE_NOBODY"}}),
    ],
)
def test_the_fake_refuses_what_is_no_resource(name, resource):
    fake = FakeClient()
    with pytest.raises(signalbox.SignalboxError):
        fake.put(name, resource)
    assert fake.status().revision == 0


def test_the_fake_for_asyncio():
    async def run():
        async with AsyncFakeClient({"settings/a": {"setting": {"intValue": 1}}}) as fake:
            await fake.wait_ready()
            changes = fake.changes()
            asyncio.get_running_loop().call_later(0.01, fake.put, "settings/a", {"setting": {"intValue": 2}})
            await fake.wait_revision(2)
            async for change in changes:
                assert [each.name for each in change.events] == ["settings/a"]
                break
            assert fake.setting_int("a") == 2
            with pytest.raises(signalbox.RevisionNotReachedError):
                await fake.wait_revision(3, timeout=0)
        async for _ in changes:
            raise AssertionError
        assert not fake.status().ready

    asyncio.run(run())
