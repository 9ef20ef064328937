"""Providers out of their own environment variables: what a worker runs on where there is no service.

Owns what is known of each type of provider: the same variables, ids and order that the service imports by. How they are spoken
to is data that is made when the package is built. Must not know streams or clients.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from google.protobuf import json_format

from . import _proto
from .resources import view_of
from .settings import Overrides
from .snapshot import Draft, Snapshot

_CHAT = "/chat/completions"


@dataclass(frozen=True)
class _Known:
    """One type of provider."""

    type: str
    id: str
    keys: tuple[str, ...]
    """Variables with its key; the first that is set wins."""
    base_url: str = ""
    """Empty: everybody has one of their own."""
    path: str = _CHAT
    header: str = ""
    """The header that takes the key; empty: as a bearer token."""
    url_variable: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    model: str = ""
    """The model of a call that names none, where the provider is where it always is; as at the service's first start."""
    keyless: bool = False
    """Whether it needs no key where a variable says where it is."""


#: Where Ollama is for those who have a key for it, and say nothing else.
_OLLAMA_CLOUD = "https://ollama.com"

#: The first of these that has a key, or needs none, is the active one.
_KNOWN = (
    _Known(
        "groq",
        "groq",
        ("GROQ_API_KEY",),
        "https://api.groq.com/openai/v1",
        url_variable="GROQ_BASE_URL",
        model="openai/gpt-oss-120b",
    ),
    _Known(
        "openrouter",
        "openrouter",
        ("OPENROUTER_API_KEY",),
        "https://openrouter.ai/api/v1",
        url_variable="OPENROUTER_BASE_URL",
        model="openrouter/auto",
    ),
    _Known(
        "google_ai",
        "google_ai",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        "https://generativelanguage.googleapis.com",
        "/v1beta/models/{model}:generateContent",
        "x-goog-api-key: {api_key}",
        "GEMINI_BASE_URL",
        model="gemini-3.5-flash",
    ),
    _Known(
        "openai",
        "chatgpt",
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        url_variable="OPENAI_BASE_URL",
        model="gpt-5.4-mini",
    ),
    _Known(
        "anthropic",
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com/v1",
        "/messages",
        "x-api-key: {api_key}",
        "ANTHROPIC_BASE_URL",
        (("anthropic-version", "2023-06-01"),),
        model="claude-sonnet-5-5",
    ),
    _Known(
        "azure_openai",
        "azure_openai",
        ("AZURE_OPENAI_API_KEY",),
        "",
        "/openai/v1/chat/completions",
        "api-key: {api_key}",
        "AZURE_OPENAI_ENDPOINT",
    ),
    _Known(
        "mistral",
        "mistral",
        ("MISTRAL_API_KEY",),
        "https://api.mistral.ai/v1",
        url_variable="MISTRAL_BASE_URL",
        model="mistral-large-2512",
    ),
    _Known(
        "cohere",
        "cohere",
        ("CO_API_KEY", "COHERE_API_KEY"),
        "https://api.cohere.com",
        "/v2/chat",
        url_variable="COHERE_BASE_URL",
        model="command-a-03-2025",
    ),
    _Known(
        "together",
        "together",
        ("TOGETHER_API_KEY",),
        "https://api.together.xyz/v1",
        url_variable="TOGETHER_BASE_URL",
    ),
    _Known(
        "deepseek",
        "deepseek",
        ("DEEPSEEK_API_KEY",),
        "https://api.deepseek.com",
        url_variable="DEEPSEEK_BASE_URL",
        model="deepseek-v4-flash",
    ),
    _Known(
        "xai",
        "xai",
        ("XAI_API_KEY",),
        "https://api.x.ai/v1",
        url_variable="XAI_BASE_URL",
        model="grok-4.3",
    ),
    _Known(
        "ollama",
        "ollama",
        ("OLLAMA_API_KEY",),
        "http://localhost:11434",
        "/api/chat",
        url_variable="OLLAMA_HOST",
        keyless=True,
    ),
    _Known(
        "vllm",
        "vllm",
        ("VLLM_API_KEY",),
        "http://localhost:8000/v1",
        url_variable="VLLM_BASE_URL",
        keyless=True,
    ),
    _Known("bedrock", "bedrock", ("AWS_BEARER_TOKEN_BEDROCK",), "", "/model/{model}/converse"),
    # No variable says of one where it is, or what it takes.
    _Known("openai_compatible", "openai_compatible", (), ""),
)


def environment_snapshot(variables: Mapping[str, str], overrides: Overrides) -> Snapshot:
    """What the variables say: `providers/{id}` with `apiKeys/env` for each type that has a key, those that run on one's own
    machine where a variable says where, and `routers/default`, whose primary is the first of them. Revision 0."""
    empty = Snapshot(overrides)
    draft = Draft(empty)
    primary = ""
    for known in _KNOWN:
        key = next((text for name in known.keys if (text := variables.get(name, "").strip())), "")
        needs_none = known.keyless and bool(variables.get(known.url_variable, "").strip())
        spec = _spec(known, variables, bool(key)) if key or needs_none else None
        if spec is None:
            continue
        primary = primary or f"providers/{known.id}"
        _put(draft, f"providers/{known.id}", {"provider": spec})
        if key:
            _put(draft, f"providers/{known.id}/apiKeys/env", {"apiKey": {"secret": {"value": key}}})
    if primary:
        _put(draft, "routers/default", {"router": {"primary": primary}})
    return draft.publish(empty, {})


def known_providers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each type with what is known of it, as the API's JSON."""
    for known in _KNOWN:
        spec = _spec(
            known,
            {known.url_variable: known.base_url or "https://llm.example.com", "AWS_REGION": "us-east-1"},
            has_key=known.type != "ollama",
        )
        assert spec is not None
        yield known.type, spec


def fill_in(provider: Any) -> None:
    """Gives a provider, a message, what the service fills in by its type where it says nothing itself."""
    number = provider.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number.get(provider.type)
    if number is None or number.number == 0:
        return
    word = number.name.removeprefix("PROVIDER_TYPE_").lower()
    # Of a custom one nobody knows more.
    known = dict(known_providers()).get(word) or {"method": "HTTP_METHOD_POST", "enabled": True}
    filled = json_format.ParseDict(known, type(provider)())
    # The model of its type has only who is where the type is, and takes it.
    is_at_home = provider.base_url in ("", filled.base_url)
    if not is_at_home or (provider.models and filled.default_model not in provider.models):
        filled.default_model = ""
    for field, _ in provider.ListFields():
        filled.ClearField(field.name)
    filled.MergeFrom(provider)
    provider.CopyFrom(filled)


def _spec(known: _Known, variables: Mapping[str, str], has_key: bool) -> dict[str, Any] | None:
    """The provider as the API's JSON; `None` where nobody says where it is."""
    given = variables.get(known.url_variable, "").strip()
    base_url = given or known.base_url
    if known.type == "ollama":
        base_url = _ollama(given) if given else _OLLAMA_CLOUD
    if known.type == "bedrock":
        region = variables.get("AWS_REGION", "").strip() or variables.get("AWS_DEFAULT_REGION", "").strip()
        base_url = f"https://bedrock-runtime.{region}.amazonaws.com" if region else ""
    if not base_url:
        return None
    headers = dict(known.headers)
    if known.type == "openai":
        named = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
        headers |= {name: variables[variable] for variable, name in named.items() if variables.get(variable)}
    path = known.path
    if known.type == "azure_openai" and variables.get("OPENAI_API_VERSION"):
        path = f"/openai/deployments/{{model}}/chat/completions?api-version={variables['OPENAI_API_VERSION']}"
    spec = {
        **_families()[known.type],
        "base_url": base_url,
        "endpoint_path": path,
        "headers": {name: {"plain": text} for name, text in headers.items()},
        "auth": _auth(known, has_key),
        "method": "HTTP_METHOD_POST",
        "enabled": True,
    }
    # At the own address of its type, as the service does it.
    if known.model and given in ("", known.base_url):
        spec["default_model"] = known.model
    if "{model}" in path:
        model = spec["request_builder"]["payload_structure"]["model"]
        spec = json.loads(json.dumps(spec))
        spec["request_builder"]["payload_structure"]["model"] = {**model, "target": "url:model"}
    return spec


def _auth(known: _Known, has_key: bool) -> dict[str, str]:
    if not has_key:
        return {"scheme": "AUTH_SCHEME_NONE"}
    if known.header:
        return {"scheme": "AUTH_SCHEME_HEADER", "header_template": known.header}
    return {"scheme": "AUTH_SCHEME_BEARER"}


def _ollama(host: str) -> str:
    """The base URL that is meant: what a server listens on is also said by this variable."""
    scheme, found, rest = host.rstrip("/").rpartition("://")
    # Where it listens on every address, it is called on this machine.
    if rest.startswith(("0.0.0.0", ":")):
        rest = "127.0.0.1" + rest.removeprefix("0.0.0.0")
    if found:
        return f"{scheme}://{rest}"
    has_port = rest.rpartition(":")[2].isdigit() and ":" in rest
    return f"http://{rest}" if has_port else f"http://{rest}:11434"


def _put(draft: Draft, name: str, resource: Mapping[str, Any]) -> None:
    draft.upsert(view_of(json_format.ParseDict({"name": name, **resource}, _proto.Resource())))


@lru_cache(maxsize=1)
def _families() -> dict[str, dict[str, Any]]:
    """How each type is spoken to, by the word for the type."""
    packed = resources.files("signalbox").joinpath("_families.json").read_bytes()
    families: dict[str, dict[str, Any]] = json.loads(packed)
    return families
