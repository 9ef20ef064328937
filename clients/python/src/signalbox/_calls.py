"""Calls in the forms that callers write them in.

Owns the reading of messages, parameters and tools, the older form included. Must not know where a call goes.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from . import specs, wire
from ._setting_key import normalise
from .snapshot import Snapshot

Messages = str | Sequence[wire.Message | Mapping[str, Any]]
Parameters = Mapping[str, Any] | Any | None
Tools = Sequence[str | Mapping[str, Any]]

Spec = TypeVar("Spec")
#: The largest number that is finite, which a whole number of Python may exceed.
_LARGEST = sys.float_info.max
#: What the older form has after the model, in its order.
_OLDER = ("temperature", "max_tokens", "stream", "tools")


def call_of(
    messages: Messages,
    model: str | None,
    generation: Parameters,
    reasoning: Parameters,
    chat: Parameters,
    tools: Tools,
    *,
    stream: bool,
) -> Callable[[Snapshot], wire.Call]:
    """The call that is meant; its tools are those of a snapshot. Whether it is streamed is said by how it is asked for, and not by
    its parameters. Raises `CallError`."""
    problems: list[wire.Problem] = []
    read = _messages(messages, problems)
    if model is not None and not isinstance(model, str):
        problems.append(wire.Problem("model", "must be a text"))
    parts = (
        _parameters("generation", specs.GenerationParameters, generation, problems),
        _parameters("chat", specs.ChatParameters, chat, problems),
        _parameters("reasoning", specs.ReasoningParameters, reasoning, problems),
    )
    said = replace(parts[1], stream=True if stream else None)

    def call(snapshot: Snapshot) -> wire.Call:
        offered = tuple(_tool(f"tools[{at}]", each, snapshot, problems) for at, each in enumerate(tools))
        if problems:
            raise wire.CallError(problems)
        return wire.Call(read, model or "", parts[0], said, parts[2], offered)

    return call


def modern(params: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """What comes after the model, in the present form, and whether a stream is meant. The older positional `temperature,
    max_tokens, stream, tools` is taken with a warning, by name as well."""
    named = [name for name in ("temperature", "max_tokens", "stream") if name in options]
    newer = all(
        each is None or isinstance(each, Mapping | specs.GenerationParameters | specs.ReasoningParameters)
        for each in params
    )
    if len(params) <= 2 and newer and not named:
        return params, options, False
    if len(params) > 4:
        raise TypeError("complete takes messages, model, generation_params and reasoning_params")
    older = dict(zip(_OLDER, params, strict=False))
    mixed = sorted(options.keys() & (older.keys() | {"generation_params"}))
    if mixed or (named and params and newer and params[0] is not None):
        raise TypeError(
            f"{', '.join(mixed or named)}: given twice, or in both forms; generation_params has all"
        )
    warnings.warn(
        "complete(messages, model, temperature, max_tokens, stream, tools) is deprecated: give generation_params, and "
        "call stream for a stream",
        DeprecationWarning,
        stacklevel=3,
    )
    older |= {name: options.pop(name) for name in _OLDER if name in options}
    given = {name: older.get(name) for name in ("temperature", "max_tokens")}
    generation = {name: value for name, value in given.items() if value is not None}
    return (generation,), {"tools": older.get("tools") or (), **options}, bool(older.get("stream"))


def _messages(messages: Any, problems: list[wire.Problem]) -> tuple[wire.Message, ...]:
    if isinstance(messages, str):
        return (wire.Message("user", messages),)
    if not isinstance(messages, Sequence) or isinstance(messages, bytes):
        problems.append(wire.Problem("messages", "must be a text, or a list of messages"))
        return ()
    return tuple(
        each if isinstance(each, wire.Message) else _message(f"messages[{at}]", each, problems)
        for at, each in enumerate(messages)
    )


def _message(path: str, given: Any, problems: list[wire.Problem]) -> wire.Message:
    if not isinstance(given, Mapping):
        problems.append(wire.Problem(path, "must be a wire.Message, or a dict with role and content"))
        return wire.Message("user", "-")
    content = given.get("content", given.get("text"))
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts = [
            part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        ]
        content = "".join(str(text) for text in texts) if len(texts) == len(content) else 0
    if content is not None and not isinstance(content, str):
        problems.append(wire.Problem(f"{path}.content", "must be a text, or a list of parts of type text"))
        content = ""
    role, id = given.get("role"), given.get("tool_call_id")
    calls = _tool_calls(path, given.get("tool_calls") or (), problems)
    return wire.Message(str(role or ""), content or "", calls, str(id or ""))


def _tool_calls(path: str, given: Any, problems: list[wire.Problem]) -> tuple[wire.ToolCall, ...]:
    """Calls of tools, as OpenAI writes them or in a row."""
    calls = []
    for call in given if isinstance(given, Sequence) else (given,):
        if isinstance(call, wire.ToolCall):
            calls.append(call)
            continue
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            problems.append(wire.Problem(f"{path}.tool_calls", "must be a list of calls of tools"))
            return ()
        name = function.get("name", function.get("function_name", ""))
        calls.append(wire.ToolCall(call.get("id", ""), name, function.get("arguments", "{}")))
    return tuple(calls)


def _parameters(part: str, kind: type[Spec], given: Parameters, problems: list[wire.Problem]) -> Spec:
    if isinstance(given, kind):
        # What it holds is looked at as well: nothing has checked it yet.
        given = {each.name: getattr(given, each.name) for each in fields(given)}  # type: ignore[arg-type]
    if given is not None and not isinstance(given, Mapping):
        problems.append(wire.Problem(part, f"must be a dict, or specs.{kind.__name__}"))
        return kind()
    values = {normalise(str(name)): value for name, value in (given or {}).items()}
    known = {each.name: str(each.type) for each in fields(kind)}  # type: ignore[arg-type]
    for name in sorted(values.keys() - known.keys()):
        problems.append(wire.Problem(f"{part}.{name}", f"is not known; {', '.join(sorted(known))} are"))
    taken = {}
    for name, value in values.items():
        if name in known and value is not None:
            taken[name] = _value(f"{part}.{name}", known[name], value, problems)
    return kind(**taken)


def _value(path: str, form: str, value: Any, problems: list[wire.Problem]) -> Any:
    """A value of a parameter, in the form that its field has."""
    if form == "ToolChoice | None":
        given = {"mode": value} if isinstance(value, str) else value
        return _parameters(path, specs.ToolChoice, given, problems)
    wanted, fits = _FORMS[form]
    if not fits(value):
        problems.append(wire.Problem(path, f"must be {wanted}"))
        return None
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


#: By the types of fields: what their values are, in words and in deed.
_FORMS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "float | None": ("a finite number", _is_number),
    "int | None": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "bool | None": ("true or false", lambda value: isinstance(value, bool)),
    "str": ("a text", lambda value: isinstance(value, str)),
    "tuple[str, ...]": (
        "a list of texts",
        lambda value: isinstance(value, list | tuple) and all(isinstance(each, str) for each in value),
    ),
}


def _tool(path: str, given: Any, snapshot: Snapshot, problems: list[wire.Problem]) -> wire.OfferedTool:
    if isinstance(given, str):
        found = snapshot.tool(given.removeprefix("tools/"))
        if found is None or not found.enabled:
            problems.append(wire.Problem(path, f"{given}: not configured, or disabled"))
            return wire.OfferedTool(given, specs.ToolSpec())
        return wire.OfferedTool(found.name, found.spec)
    function: Any = given.get("function", given) if isinstance(given, Mapping) else None
    try:
        schema = json.dumps(function.get("parameters", {"type": "object", "properties": {}}))
    except (AttributeError, TypeError, ValueError):
        problems.append(wire.Problem(path, "must be the name of a tool, or a function with a JSON schema"))
        return wire.OfferedTool("tools/", specs.ToolSpec())
    spec = specs.ToolSpec(
        description=function.get("description", ""),
        function_name=function.get("name", ""),
        parameters_schema=schema,
        strict=bool(function.get("strict")),
    )
    return wire.OfferedTool(f"tools/{spec.function_name}", spec)
