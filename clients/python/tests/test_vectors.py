"""What clients in every language compute alike."""

import json

import pytest
from conftest import vectors
from google.protobuf import json_format

from signalbox import Options, Selector, _proto
from signalbox._decode import decode
from signalbox._model_id import segment_of
from signalbox._replica import Cursor
from signalbox._setting_key import normalise
from signalbox.client import _disk_cache
from signalbox.errors import SettingTypeError
from signalbox.flags import bucket, evaluate
from signalbox.resources import view_of
from signalbox.settings import Overrides
from signalbox.snapshot import Draft, Snapshot
from signalbox.testing import FakeClient
from signalbox.wire.words import without_keys

FLAGS = vectors("flags.json")


def test_names_of_models():
    for vector in vectors("routing.json")["names"]:
        assert segment_of(vector["id"]) == vector["segment"], vector


def test_regression_a_model_is_found_by_its_id():
    fake = FakeClient({"models/cf/meta+llama": {"model": {}}})
    fake.put("models/cf/cf+llama", {"model": {"modelId": "@cf/llama"}})
    for getters in (fake, fake.snapshot()):
        for model_id in ("meta/llama", "meta+llama"):
            assert getters.model("cf", model_id).name == "models/cf/meta+llama"
        assert getters.model("cf", "@cf/llama").id == getters.model("cf", "cf/llama").id == "cf+llama"
        assert getters.model("cf", "~cf/llama") is None, "another id that comes to the same name"
        assert getters.model("cf", "/") is None


def test_regression_a_key_with_a_name_of_another_form_is_nobodys():
    fake = FakeClient({"providers/a": {"provider": {}}})
    draft = Draft(fake.snapshot())
    odd = {"name": "apikeybad", "apiKey": {"secret": {"value": "sk-1"}, "active": True}}
    message = json_format.ParseDict(odd, _proto.Resource())
    draft.upsert(view_of(message))
    assert draft.publish(fake.snapshot(), {}).active_api_keys("a") == ()


def test_texts_of_settings():
    def read(text, of):
        settings = FakeClient({}, environment={"SIGNALBOX_SETTING_X": text}).setting("x")
        return getattr(settings, of)()

    known = vectors("settings.json")
    for vector in known["durations"]:
        if vector["seconds"] is not None:
            assert read(vector["text"], "as_duration").total_seconds() == vector["seconds"], vector
        elif vector["text"]:
            with pytest.raises(SettingTypeError):
                read(vector["text"], "as_duration")
    for vector in known["documents"]:
        if vector["good"]:
            assert read(vector["text"], "as_json") == json.loads(vector["text"]), vector
        elif vector["text"]:
            with pytest.raises(SettingTypeError):
                read(vector["text"], "as_json")


def test_buckets():
    for vector in FLAGS["buckets"]:
        assert bucket(vector["salt"], vector["key"]) == vector["bucket"], vector


@pytest.mark.parametrize("vector", FLAGS["evaluations"], ids=lambda vector: vector["description"])
def test_flags(vector):
    flag = json.loads(json.dumps(vector["flag"]))
    for rule in flag.get("rules", []):
        # An operator of the future, which JSON can't carry by its name.
        if rule["operator"] == "FEATURE_FLAG_OPERATOR_FROM_THE_FUTURE":
            rule["operator"] = 99
    message = json_format.ParseDict({"name": "featureFlags/f", "featureFlag": flag}, _proto.Resource())
    spec = decode(message.SerializeToString()).spec
    for case in vector["cases"]:
        assert evaluate(spec, case["key"], case["attributes"]) is case["on"], case


@pytest.mark.parametrize(
    "vector", vectors("digest.json")["vectors"], ids=lambda vector: vector["description"]
)
def test_digests(vector):
    empty = Snapshot(Overrides())
    draft = Draft(empty)
    for resource in vector["resources"]:
        draft.upsert(
            view_of(_proto.Resource(name=resource["name"], update_revision=int(resource["update_revision"])))
        )
    assert draft.publish(empty, {}).digest.hex() == vector["digest_hex"]
    for resource in vector["resources"]:
        draft.remove(resource["name"])
    assert draft.publish(empty, {}).digest == bytes(16), "what went in comes out again"


@pytest.mark.parametrize("vector", vectors("words.json")["cases"], ids=lambda vector: vector["description"])
def test_words_of_others(vector):
    assert without_keys(vector["text"], vector["key"]) == vector["shown"]


# The same pairs as in `src/setting_key.rs`.
@pytest.mark.parametrize(
    ("key", "normal"),
    [
        ("max_retries", "max_retries"),
        ("maxRetries", "max_retries"),
        ("MaxRetries", "max_retries"),
        ("max-retries", "max_retries"),
        ("MAX_RETRIES", "max_retries"),
        ("Max_Retries", "max_retries"),
        ("max__retries_", "max_retries"),
        ("HTTPTimeout", "http_timeout"),
        ("timeoutHTTP", "timeout_http"),
        ("openAIKey", "open_ai_key"),
        ("openaiApiKey", "openai_api_key"),
        ("OPENAI_API_KEY", "openai_api_key"),
        ("gpt4Turbo", "gpt4_turbo"),
        ("topP", "top_p"),
        ("aB", "a_b"),
        ("A", "a"),
        ("allowedURLs", "allowed_urls"),
        ("URLsAllowed", "urls_allowed"),
        ("llm.maxRetries", "llm.max_retries"),
        ("llm._x", "llm.x"),
        ("openaiAPIKey", "openai_api_key"),
        ("top2Results", "top2_results"),
    ],
)
def test_setting_keys(key, normal):
    assert normalise(key) == normal
    assert normalise(normal) == normal


def test_a_cache_on_disk(tmp_path):
    """The file that the client in Rust opens as well."""
    vector = vectors("cache.json")
    options = Options(
        url=vector["urls"],
        token=vector["token"],
        secrets=True,
        selectors=[
            Selector(),
            Selector(prefix="providers/", labels={"tier": "gold", "area": "eu"}),
            "settings/a",
            "kind:setting",
        ],
        cache_file=tmp_path / "cache",
        cache_key=vector["secret"],
        cache_max_age=1e12,
    )
    (tmp_path / "cache").write_bytes(bytes.fromhex(vector["file"]))
    (tmp_path / "cache").chmod(0o600)
    cache = _disk_cache(options)
    assert cache is not None and cache._identity(cache._subject()).hex() == vector["identity"]
    saved = cache.load(Overrides())
    assert saved is not None
    assert (saved.confirmed, saved.cursor) == (vector["confirmed"], Cursor()), "of another client"
    snapshot = saved.snapshot
    assert (snapshot.revision, snapshot.digest.hex()) == (vector["revision"], vector["digest"])
    assert snapshot.setting_int("a") == 5
    assert snapshot.api_key("groq", "prod").secret().expose() == "gsk-vector"
    assert snapshot._revoked == {"settings/a": 12}
