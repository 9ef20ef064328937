"""The conversation in the form that a provider wants it in.

Owns the shape of messages. Must not know where they go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import specs
from .calls import Call, Message, Problem, ToolCall, arguments
from .paths import MISSING, Json, fill


@dataclass
class _Draft:
    """A message that is being made."""

    role: str
    parts: list[Json] = field(default_factory=list)
    fields: dict[str, Json] = field(default_factory=dict)
    behind: list[Json] = field(default_factory=list)

    def put(self, place: str, value: Json) -> None:
        if value is MISSING:
            return
        if place == "content":
            self.parts.append(value)
        elif place == "list":
            self.behind.append(value)
        else:
            self.fields.setdefault(place.removeprefix("field:"), []).append(value)

    def joins(self, other: _Draft) -> bool:
        """Whether another one can become part of it."""
        plain = not (self.fields or self.behind or other.fields or other.behind)
        return self.role == other.role and plain


class Conversation:
    """Renders messages by a format."""

    def __init__(self, format: specs.MessageFormat | None) -> None:
        self._format = format or specs.MessageFormat()
        self._content = self._format.content_field or "content"

    def render(self, call: Call, system: bool, problems: list[Problem]) -> list[Json]:
        """The list of messages. `system`: with what the model is told before everything else."""
        drafts: list[_Draft] = []
        if system and call.chat.system_prompt:
            drafts.append(self._text("system", call.chat.system_prompt))
        functions = call.functions()
        for index, message in enumerate(call.messages):
            if message.role == "system" and not system:
                continue
            draft = self._draft(message, functions.get(message.tool_call_id), f"messages[{index}]", problems)
            if self._format.merge and drafts and drafts[-1].joins(draft):
                drafts[-1].parts += draft.parts
            else:
                drafts.append(draft)
        return [each for draft in drafts for each in self._finish(draft)]

    def _draft(self, message: Message, function: str | None, path: str, problems: list[Problem]) -> _Draft:
        if message.role == "tool":
            return self._result(message, function, path, problems)
        draft = self._text(message.role, message.text, beside=bool(message.tool_calls))
        part = self._format.tool_call
        if message.tool_calls and part is None:
            problems.append(Problem(f"{path}.tool_calls", "can't be told to this provider"))
        elif part is not None:
            for each in message.tool_calls:
                draft.put(part.place, fill(part.template_json, _call_values(each)))
        return draft

    def _result(self, message: Message, function: str | None, path: str, problems: list[Problem]) -> _Draft:
        draft, part = _Draft(self._role("tool")), self._format.tool_result
        if part is None:
            problems.append(
                Problem(f"{path}.role", "can't be told to this provider: it takes no results of tools")
            )
            return draft
        values = {"id": message.tool_call_id, "text": message.text}
        if function is not None:
            values["name"] = function
        draft.put(part.place, fill(part.template_json, values))
        return draft

    def _text(self, role: str, text: str, beside: bool = False) -> _Draft:
        """A message that says a text, but for an empty one that something else stands beside."""
        draft = _Draft(self._role(role))
        if not text and beside:
            return draft
        if self._format.text_json:
            draft.put("content", fill(self._format.text_json, {"text": text}))
        else:
            draft.fields[self._content] = text
        return draft

    def _finish(self, draft: _Draft) -> list[Json]:
        if draft.parts:
            draft.fields[self._content] = draft.parts
        own = [{"role": draft.role, **draft.fields}] if draft.fields else []
        return own + draft.behind

    def _role(self, role: str) -> str:
        return self._format.roles.get(role, role)


def _call_values(call: ToolCall) -> dict[str, Json]:
    given = arguments(call)
    values: dict[str, Json] = {"id": call.id, "name": call.function_name}
    if given is not None:
        # As the model has said it: another text of the same would not be found in the provider's cache of prompts.
        values |= {"arguments": given, "arguments_text": call.arguments_json or "{}"}
    return values
