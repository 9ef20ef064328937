"""A call of a model, as the caller has it, and the parameters that request builders know.

Owns what is asked. Must not know how a provider wants it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .. import specs
from ..errors import SignalboxError
from .bounds import generation_problems, reasoning_problems
from .paths import MISSING, Json, integer, parse

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a call."""

    path: str
    description: str


class CallError(SignalboxError):
    """A call is wrong, or a provider can't express it. All that is wrong is told at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{each.path} {each.description}" for each in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, as a model asks for it."""

    id: str
    function_name: str
    arguments_json: str = "{}"


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of the assistant: the tools that it calls."""

    tool_call_id: str = ""
    """Of a tool: the call that this is the result of."""


@dataclass(frozen=True)
class OfferedTool:
    """A tool that a call offers: its resource's name, and what it is."""

    name: str
    spec: specs.ToolSpec


@dataclass(frozen=True)
class Call:
    """What a model is asked."""

    messages: tuple[Message, ...]
    model: str = ""
    """The provider's default where it is empty."""

    generation: specs.GenerationParameters = field(default_factory=specs.GenerationParameters)
    chat: specs.ChatParameters = field(default_factory=specs.ChatParameters)
    reasoning: specs.ReasoningParameters = field(default_factory=specs.ReasoningParameters)
    tools: tuple[OfferedTool, ...] = ()

    def problems(self) -> list[Problem]:
        """Everything that is wrong with it, whoever it goes to."""
        found = [] if self.messages else [Problem("messages", "must be at least one message")]
        calls: set[str] = set()
        for index, message in enumerate(self.messages):
            found += _message_problems(f"messages[{index}]", message, calls)
            calls.update(call.id for call in message.tool_calls)
        choice = self.chat.tool_choice
        if choice is not None and choice.mode == "tool" and self.chosen_tool() is None:
            found.append(Problem("chat.tool_choice.tool", "must be one of the tools that are offered"))
        if choice is not None and choice.mode == "required" and not self.tools:
            found.append(Problem("chat.tool_choice.mode", "must not be required where no tool is offered"))
        told = [
            *generation_problems(self.generation),
            *reasoning_problems(self.reasoning, self.generation.max_tokens),
        ]
        return found + [Problem(path, description) for path, description in told]

    def chosen_tool(self) -> OfferedTool | None:
        """The tool that is to be called, if one is named that is offered."""
        choice = self.chat.tool_choice
        return next((tool for tool in self.tools if choice is not None and tool.name == choice.tool), None)

    def functions(self) -> Mapping[str, str]:
        """The names of the functions that were called, by the ids of the calls."""
        return {call.id: call.function_name for message in self.messages for call in message.tool_calls}

    def system_texts(self) -> list[str]:
        """What the model is told before everything else, in order."""
        texts = [self.chat.system_prompt, *(each.text for each in self.messages if each.role == "system")]
        return [text for text in texts if text]


def arguments(call: ToolCall) -> Json:
    """The arguments of a tool call, an object; `None` where they are none."""
    try:
        read = parse(call.arguments_json or "{}")
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _message_problems(path: str, message: Message, calls: set[str]) -> list[Problem]:
    found = []
    if message.role not in ROLES:
        found.append(Problem(f"{path}.role", f"must be one of {', '.join(ROLES)}"))
    if message.role != "tool" and not message.text and not message.tool_calls:
        found.append(Problem(f"{path}.text", "is empty, and a message says something"))
    if message.role != "assistant" and message.tool_calls:
        found.append(Problem(f"{path}.tool_calls", "belong to the assistant only"))
    for index, call in enumerate(message.tool_calls):
        here = f"{path}.tool_calls[{index}]"
        for name, text in (("id", call.id), ("function_name", call.function_name)):
            if not text:
                found.append(Problem(f"{here}.{name}", "is empty"))
        if arguments(call) is None:
            found.append(Problem(f"{here}.arguments_json", "must be a JSON object"))
    if message.role == "tool" and message.tool_call_id not in calls:
        found.append(Problem(f"{path}.tool_call_id", "must be the id of a tool call in an earlier message"))
    if message.role != "tool" and message.tool_call_id:
        found.append(Problem(f"{path}.tool_call_id", "belongs to the results of tools only"))
    return found


def _thinking_mode(call: Call) -> Json:
    return call.reasoning.thinking_mode or ("enabled" if call.reasoning.thinking_tokens is not None else None)


def _tool_choice(call: Call) -> Json:
    choice = call.chat.tool_choice
    return choice.mode if call.tools and choice is not None and choice.mode else None


def _number(name: str) -> Callable[[Call], Json]:
    """A number that may have a fraction, and is sent as such where it is written as a whole one."""

    def read(call: Call) -> Json:
        value = getattr(call.generation, name)
        # One that no float holds is told of by `Call.problems`.
        return None if value is None or abs(value) > sys.float_info.max else float(value)

    return read


def _of(part: str, name: str) -> Callable[[Call], Json]:
    return lambda call: getattr(getattr(call, part), name)


_FRACTIONAL = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_WHOLE = ("top_k", "max_tokens", "seed", "thinking_tokens")

#: Each parameter with where it stands in a call, and how it is read there. `None`, `""` and `()` are no value.
PARAMETERS: Mapping[str, tuple[str, Callable[[Call], Json]]] = {
    "model_name": ("model", lambda call: call.model),
    "messages": ("messages", lambda call: bool(call.messages) or None),
    "system_prompt": ("chat.system_prompt", lambda call: "\n\n".join(call.system_texts())),
    **{
        name: (f"generation.{name}", _of("generation", name))
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "max_tokens",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "stop_sequences",
        )
    },
    **{name: (f"generation.{name}", _number(name)) for name in _FRACTIONAL},
    "stream": ("chat.stream", _of("chat", "stream")),
    "tools": ("tools", lambda call: bool(call.tools) or None),
    "tool_choice": ("chat.tool_choice", _tool_choice),
    "parallel_tool_calls": (
        "chat.parallel_tool_calls",
        lambda call: call.chat.parallel_tool_calls if call.tools else None,
    ),
    "reasoning_effort": ("reasoning.effort", _of("reasoning", "effort")),
    "thinking_mode": ("reasoning.thinking_mode", _thinking_mode),
    "thinking_tokens": ("reasoning.thinking_tokens", _of("reasoning", "thinking_tokens")),
    "chain_of_thought": ("reasoning.chain_of_thought", _of("reasoning", "chain_of_thought")),
}


def parameter(name: str, call: Call) -> Json:
    """The value of a parameter; `MISSING` where there is none. Of messages and tools it only says that there are any."""
    value = PARAMETERS[name][1](call)
    if value is None or value in ("", ()) or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    return list(value) if isinstance(value, tuple) else value


def plain(name: str, text: str) -> str:
    """A value of a parameter as text in the one form that it is compared in: a number is the same however it is written."""
    if name not in _FRACTIONAL and name not in _WHOLE:
        return text
    try:
        value = parse(text)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError, RecursionError):
        return text
    if name in _WHOLE:
        whole = integer(value)
        return text if whole is None else str(whole)
    # The sum makes one of both zeros.
    return str(number + 0.0) if math.isfinite(number) else text
