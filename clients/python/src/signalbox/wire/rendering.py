"""From a call to the HTTP request that a provider wants, with placeholders for what is secret.

Owns the request builder. It sends nothing, and must not know any provider's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

from .. import specs
from .calls import PARAMETERS, Call, CallError, Problem, parameter, plain
from .messages import Conversation
from .paths import MISSING, Json, MappingError, compact, fill, parse, scalar_text

#: The version of the language.
VERSION = "1.0"
#: Stands for the API key.
KEY = "{api_key}"
#: Stands for the value of a sealed header.
SECRET = "{secret}"
#: How large a body may become, in bytes of text and `_NODE_BYTES` for each value: templates repeat what they are given.
_MADE_BYTES = 32 << 20
_NODE_BYTES = 16


@dataclass(frozen=True)
class Rendered:
    """An HTTP request in which nothing is secret."""

    method: str
    url: str
    headers: Mapping[str, str]
    """By name. `{api_key}` stands for the key, `{secret}` for the value of the provider's header of that name."""

    key_header: str | None
    """The header that takes the key."""

    body: Mapping[str, Json]
    streamed: bool
    unused: tuple[str, ...]
    """Parameters that are given and that the builder takes nowhere."""


def render(provider: specs.ProviderSpec, call: Call) -> Rendered:
    """Renders a call. Raises `CallError` with everything that is wrong with it, `MappingError`."""
    builder = provider.request_builder
    if builder is None or builder.version != VERSION:
        raise MappingError("the provider has no request builder of a known version: write it again")
    messages = builder.payload_structure.get("messages")
    if messages is not None and messages.source != "param:messages":
        raise MappingError("the request builder's `messages` must be `param:messages`: correct the provider")
    call = dataclasses.replace(call, model=call.model or provider.default_model)
    problems = call.problems()
    if provider.models and call.model and call.model not in provider.models:
        problems.append(Problem("model", "must be one of the provider's models"))
    streamed = bool(call.chat.stream)
    extractor = provider.response_extractor or specs.ResponseExtractor()
    if streamed and extractor.stream is None and extractor.frame_stream is None:
        problems.append(Problem("chat.stream", "is true, but the provider's answers come whole"))
    takes = {entry.source.removeprefix("param:") for entry in builder.payload_structure.values()}
    body: dict[str, Json] = {}
    in_url: dict[str, str] = {}
    for key, entry in sorted(builder.payload_structure.items()):
        value = _value(key, entry, call, "system_prompt" not in takes, problems)
        if value is MISSING:
            continue
        if entry.target.startswith("url:"):
            text = scalar_text(value) or compact(value)
            if set(text) == {"."}:
                where = PARAMETERS.get(entry.source.removeprefix("param:"), (key,))[0]
                problem = "must not be dots alone, because it becomes a segment of the URL's path"
                problems.append(Problem(where, problem))
            in_url[entry.target.removeprefix("url:")] = text
        else:
            _put(body, (entry.target or key).split("."), value)
    path = (streamed and builder.stream_endpoint_path) or provider.endpoint_path
    problems += _path_problems(builder, path, in_url)
    problems += _budget_problem(builder, call)
    if not problems and _left(_MADE_BYTES, body) <= 0:
        problem = "make a request that is too large: the provider's request builder repeats what it is given"
        problems.append(Problem("messages", problem))
    if problems:
        raise CallError(problems)
    name, _ = key_header(provider)
    url = _url(provider.base_url, path, in_url)
    used = [entry for entry in builder.payload_structure.values() if _applies(entry, call)]
    taken = {entry.source.removeprefix("param:") for entry in used}
    # An entry that is used for a parameter's value tells of it as well.
    taken |= {entry.when.partition("=")[0] for entry in used if "=" in entry.when}
    unused = tuple(each for each in PARAMETERS if _unused(each, taken, builder, call))
    method = (provider.method or "post").upper()
    return Rendered(method, url, _headers(provider), name, body, streamed, unused)


def _path_problems(builder: specs.RequestBuilder, path: str, in_url: Mapping[str, str]) -> Iterator[Problem]:
    """A path without what belongs into it is that of something else."""
    for key, entry in sorted(builder.payload_structure.items()):
        prefix, _, name = entry.target.rpartition(":")
        always = entry.required and not entry.when
        if prefix == "url" and f"{{{name}}}" in path and not in_url.get(name) and not always:
            sources = entry.source.removeprefix("param:"), entry.when.partition("=")[0]
            where = next((PARAMETERS[each][0] for each in sources if each in PARAMETERS), key)
            problem = (
                f"is required: the provider's request builder puts it into the URL's path, for `{{{name}}}`"
            )
            yield Problem(where, problem)


def _budget_problem(builder: specs.RequestBuilder, call: Call) -> Iterator[Problem]:
    """A budget of thoughts beside the bound of the answer that the builder sends where a call has none."""
    tokens = call.reasoning.thinking_tokens
    if tokens is None or call.generation.max_tokens is not None:
        return
    used = [entry for entry in builder.payload_structure.values() if _applies(entry, call)]
    if not any(entry.source == "param:thinking_tokens" for entry in used):
        return
    defaults = (entry.default_json for entry in used if entry.source == "param:max_tokens")
    bound = next((parse(default) for default in defaults if default), None)
    # Where it is no whole number, or a negative one, it bounds nothing.
    if isinstance(bound, int) and not isinstance(bound, bool) and 0 <= bound <= tokens:
        problem = (
            f"must be less than {bound}, which the provider's request builder sends where there is no "
            "`generation.max_tokens`; give that as well, larger than the budget"
        )
        yield Problem("reasoning.thinking_tokens", problem)


def _left(size: int, value: Json) -> int:
    """What is left of a size after a value, which may hold one list many times; not more than it is looked at."""
    size -= _NODE_BYTES
    if isinstance(value, str):
        return size - len(value)
    if isinstance(value, dict):
        size -= sum(map(len, value))
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if size <= 0:
            return 0
        size = _left(size, each)
    return size


def _value(key: str, entry: specs.RequestEntry, call: Call, system: bool, problems: list[Problem]) -> Json:
    """What an entry makes of the call; `MISSING` where nothing is to be sent."""
    if not _applies(entry, call):
        return MISSING
    kind, _, source = entry.source.partition(":")
    if kind == "literal":
        value, where = parse(source), ""
    elif source in PARAMETERS:
        value, where = _given(source, entry, call, system, problems), PARAMETERS[source][0]
    else:
        raise MappingError(f"the request builder's source {entry.source!r} is not known")
    if value is MISSING and entry.default_json:
        value = parse(entry.default_json)
    if value is MISSING:
        if entry.required:
            when = "always"
            if entry.when:
                when = f"where `{entry.when}`: give it, or leave that out"
            elif where == "model":
                when = "always: name one, or give the provider a `default_model`"
            problems.append(
                Problem(where, f"is required: the provider's request builder sends `{key}` {when}")
            )
        return MISSING
    if entry.values:
        value = _replaced(entry, value, where, call, problems)
    if value is MISSING or not entry.template_json:
        return value
    return fill(entry.template_json, {"value": value})


def _applies(entry: specs.RequestEntry, call: Call) -> bool:
    """Whether an entry is used in a call: a parameter has a value other than false, or the one that is wanted."""
    name, separator, text = entry.when.partition("=")
    if not name:
        return True
    value = parameter(name, call)
    if separator:
        found = scalar_text(value)
        return found is not None and plain(name, found) == plain(name, text)
    # 0 is a value, though Python takes it for equal to false.
    return value is not MISSING and value is not False


def _given(source: str, entry: specs.RequestEntry, call: Call, system: bool, problems: list[Problem]) -> Json:
    if source == "messages" and call.messages:
        return Conversation(entry.message_format).render(call, system, problems)
    if source == "tools" and call.tools:
        filled = [fill(entry.item_json, _tool_values(tool.spec)) for tool in call.tools]
        return [each for each in filled if each is not MISSING]
    return parameter(source, call)


def _tool_values(tool: specs.ToolSpec) -> dict[str, Json]:
    values: dict[str, Json] = {"name": tool.function_name}
    if tool.description:
        values["description"] = tool.description
    if tool.parameters_schema:
        values["parameters"] = parse(tool.parameters_schema)
    if tool.strict:
        values["strict"] = True
    return values


def _replaced(
    entry: specs.RequestEntry, value: Json, where: str, call: Call, problems: list[Problem]
) -> Json:
    """The value by the entry's replacements; `MISSING` where it is left out."""
    word = scalar_text(value)
    if word is None:
        return MISSING
    name = entry.source.removeprefix("param:")
    known = {plain(name, text): template for text, template in sorted(entry.values.items())}
    template = known.get(plain(name, word))
    if template is None:
        problems.append(
            Problem(where, f"is not known to the provider, which takes {', '.join(entry.values)}")
        )
        return MISSING
    chosen = call.chosen_tool()
    filled = fill(template, {} if chosen is None else {"tool": chosen.spec.function_name})
    return MISSING if filled is None else filled


def _put(body: dict[str, Json], names: list[str], value: Json) -> None:
    for name in names[:-1]:
        body = cast("dict[str, Json]", body.setdefault(name, {}))
    body[names[-1]] = value


def _unused(name: str, takes: set[str], builder: specs.RequestBuilder, call: Call) -> bool:
    # System messages are among the others where they have no entry of their own.
    told = (
        name in takes or name == "system_prompt" or (name == "stream" and bool(builder.stream_endpoint_path))
    )
    return not told and parameter(name, call) is not MISSING


def key_header(provider: specs.ProviderSpec) -> tuple[str | None, str]:
    """The header that takes the key, and its value with a placeholder."""
    auth = provider.auth
    if auth is not None and auth.scheme == "bearer":
        return "Authorization", f"Bearer {KEY}"
    if auth is not None and auth.scheme == "header" and ":" in auth.header_template:
        name, _, value = auth.header_template.partition(":")
        return name, value.lstrip(" ")
    return None, ""


def _headers(provider: specs.ProviderSpec) -> dict[str, str]:
    name, value = key_header(provider)
    headers = {} if name is None else {name: value}
    for extra, header in provider.headers.items():
        headers[extra] = SECRET if header.plain is None else header.plain
    if not any(each.lower() == "content-type" for each in headers):
        headers["Content-Type"] = "application/json"
    return dict(sorted(headers.items()))


def _url(base_url: str, path: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(value, safe="-._~"))
    return base_url.rstrip("/") + path
