"""Calls in the forms that callers write them in.

Owns the reading of messages, parameters and tools, the older form included. Must not know where a call goes.
"""

from __future__ import annotations

import json
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
    max_tokens, stream, tools` is taken with a warning."""
    newer = all(
        each is None or isinstance(each, Mapping | specs.GenerationParameters | specs.ReasoningParameters)
        for each in params
    )
    if len(params) <= 2 and newer:
        return params, options, False
    if len(params) > 4:
        raise TypeError("complete takes messages, model, generation_params and reasoning_params")
    warnings.warn(
        "complete(messages, model, temperature, max_tokens, stream, tools) is deprecated: give generation_params, and "
        "call stream for a stream",
        DeprecationWarning,
        stacklevel=3,
    )
    temperature, max_tokens, stream, tools = (*params, None, None, None, None)[:4]
    given = {"temperature": temperature, "max_tokens": max_tokens}
    generation = {name: value for name, value in given.items() if value is not None}
    return (generation,), {"tools": tools or (), **options}, bool(stream)


def _messages(messages: Messages, problems: list[wire.Problem]) -> tuple[wire.Message, ...]:
    if isinstance(messages, str):
        return (wire.Message("user", messages),)
    return tuple(
        each if isinstance(each, wire.Message) else _message(f"messages[{at}]", each, problems)
        for at, each in enumerate(messages)
    )


def _message(path: str, given: Mapping[str, Any], problems: list[wire.Problem]) -> wire.Message:
    content = given.get("content", given.get("text"))
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts = [
            part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        ]
        content = "".join(str(text) for text in texts) if len(texts) == len(content) else 0
    if content is not None and not isinstance(content, str):
        problems.append(wire.Problem(f"{path}.content", "must be a text, or a list of parts of type text"))
        content = ""
    calls = []
    for call in given.get("tool_calls") or ():
        function = call.get("function", call)
        name = function.get("name", function.get("function_name", ""))
        calls.append(wire.ToolCall(call.get("id", ""), name, function.get("arguments", "{}")))
    return wire.Message(
        str(given.get("role", "")), content or "", tuple(calls), given.get("tool_call_id") or ""
    )


def _parameters(part: str, kind: type[Spec], given: Parameters, problems: list[wire.Problem]) -> Spec:
    if isinstance(given, kind):
        return given
    values = {normalise(str(name)): value for name, value in (given or {}).items()}
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    for name in sorted(values.keys() - known):
        problems.append(wire.Problem(f"{part}.{name}", f"is not known; {', '.join(sorted(known))} are"))
    taken = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known and value is not None
    }
    return kind(**taken)


def _tool(
    path: str, given: str | Mapping[str, Any], snapshot: Snapshot, problems: list[wire.Problem]
) -> wire.OfferedTool:
    if isinstance(given, str):
        found = snapshot.tool(given.removeprefix("tools/"))
        if found is None or not found.enabled:
            problems.append(wire.Problem(path, f"{given}: not configured, or disabled"))
            return wire.OfferedTool(given, specs.ToolSpec())
        return wire.OfferedTool(found.name, found.spec)
    function = given.get("function", given)
    spec = specs.ToolSpec(
        description=function.get("description", ""),
        function_name=function.get("name", ""),
        parameters_schema=json.dumps(function.get("parameters", {"type": "object", "properties": {}})),
        strict=bool(function.get("strict")),
    )
    return wire.OfferedTool(f"tools/{spec.function_name}", spec)
