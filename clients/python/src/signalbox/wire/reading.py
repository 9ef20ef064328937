"""Answers: what a response extractor reads of a document, and what a worker gets of it.

Owns the extraction rules. It must not know any provider's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .. import specs
from ..errors import SignalboxError
from .calls import ToolCall
from .paths import MISSING, Json, compact, find, integer, is_opened_by, parse

#: What a call of a tool counts beside its arguments.
_CALL_BYTES = 64


class MalformedError(SignalboxError):
    """An answer is none by the provider's rules."""


class TooLargeError(SignalboxError):
    """An answer is longer than what is taken."""


@dataclass(frozen=True)
class Answer:
    """What a model has answered."""

    text: str
    """What it says; empty where it only calls tools."""

    reasoning: str
    """What it thought, where it tells."""

    finish_reason: str | None
    """Why it ended: `stop`, `length`, `tool_calls`, `content_filter`, or the provider's own word."""

    tool_calls: tuple[ToolCall, ...]
    """The tools that it calls. One to which the provider gives no id has `call_` and its place, from 0 on."""

    usage: Mapping[str, int]
    """Tokens by what they were used for, for example `prompt_tokens`."""

    others: Mapping[str, Json]
    """What further rules have found, by their names."""


Rules = Mapping[str, specs.ExtractionRule]
_Readers = Mapping[str, specs.ExtractionRule | specs.ExtractionField]


def read_answer(extractor: specs.ResponseExtractor, body: bytes) -> Answer:
    """Reads a whole answer. Raises `MalformedError`."""
    parts = Parts()
    parts.add(extractor.extraction_rules, document(body), stream=False)
    return parts.answer()


def document(body: bytes) -> Json:
    """Reads a JSON document. Raises `MalformedError`."""
    try:
        return parse(body)
    except (ValueError, RecursionError):
        raise MalformedError("the provider's answer is no JSON document") from None


@dataclass
class _CallParts:
    """A call of a tool that is put together."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass
class Parts:
    """An answer that is put together, at once or from events."""

    #: Pieces of what is said, and of what is thought: to put each to the whole would copy that again and again.
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    _finish_reason: str | None = None
    _usage: dict[str, int] = field(default_factory=dict)
    _others: dict[str, Json] = field(default_factory=dict)
    _calls: list[_CallParts] = field(default_factory=list)
    #: Those to which the provider gives a number.
    _numbered: dict[int, _CallParts] = field(default_factory=dict)
    #: Whether anything was found that makes an answer of it, be it empty.
    _anything: bool = False
    size: int = 0
    """How much it holds, about."""

    def add(self, rules: Rules, found: Json, *, stream: bool) -> None:
        """Adds what the rules find in a document. In a stream arguments come in pieces."""
        for name, rule in sorted(rules.items()):
            try:
                value = _read(rule, found, rules)
            except TypeError:
                raise MalformedError(f"the provider's answer holds something else than `{name}`") from None
            if value is not MISSING:
                self._put(name, value, stream)

    def _put(self, name: str, value: Json, stream: bool) -> None:
        if name == "usage_stats":
            self._usage.update(value)
            return
        if name == "text_content":
            self.texts.append(value)
            self.size += len(value)
        elif name == "reasoning_content":
            self.thoughts.append(value)
            self.size += len(value)
        elif name == "finish_reason":
            self._finish_reason = value
        elif name == "tool_calls":
            for call in value:
                self._put_call(call, stream)
        else:
            self._others[name] = value
            return
        self._anything = True

    def _put_call(self, found: Mapping[str, Json], stream: bool) -> None:
        index = found.get("index") if stream else None
        given = found.get("arguments", "")
        known = None if index is None else self._numbered.get(index)
        if known is None:
            known = _CallParts()
            self._calls.append(known)
            self.size += _CALL_BYTES
            if index is not None:
                self._numbered[index] = known
        known.id = found.get("id", "") or known.id
        known.name = found.get("name", "") or known.name
        known.arguments.append(given if isinstance(given, str) else compact(given))
        self.size += len(known.arguments[-1])

    def answer(self) -> Answer:
        """The whole. Raises `MalformedError`."""
        if not self._anything:
            raise MalformedError("the provider's answer holds neither a text nor a reason why there is none")
        calls = tuple(
            ToolCall(call.id or f"call_{place}", call.name, "".join(call.arguments) or "{}")
            for place, call in enumerate(self._calls)
        )
        text, reasoning = "".join(self.texts), "".join(self.thoughts)
        return Answer(text, reasoning, self._finish_reason, calls, self._usage, self._others)


def _read(rule: specs.ExtractionRule, found: Json, rules: Rules) -> Json:
    """What one of the rules finds; `MISSING` where there is nothing. Raises `TypeError` for something of another type."""
    if rule.type == "array":
        return _array(rule, found)
    if rule.type == "object" and rule.fields:
        whole = _first(rule.paths, "object", found, rules) if rule.paths else found
        fields = {} if whole is MISSING else _fields(rule, whole)
        return fields or MISSING
    value = _first(rule.paths, rule.type, found, rules)
    return rule.values.get(value, value) if isinstance(value, str) else value


def _array(rule: specs.ExtractionRule, found: Json) -> Json:
    for path in rule.paths:
        elements: list[Json] = []
        for each in find(path, found):
            elements += each if isinstance(each, list) else [each]
        read = elements if not rule.fields else list(_elements(rule, elements))
        if read:
            return read
    return MISSING


def _elements(rule: specs.ExtractionRule, elements: Sequence[Json]) -> Iterator[Json]:
    """The elements in which there is anything. One with a field of another type says nothing."""
    for element in elements:
        try:
            fields = _fields(rule, element)
        except TypeError:
            continue
        if fields.keys() - {"index"}:
            yield fields


def _fields(rule: specs.ExtractionRule, value: Json) -> dict[str, Json]:
    read = {name: _first(field.paths, field.type, value, rule.fields) for name, field in rule.fields.items()}
    return {name: each for name, each in read.items() if each is not MISSING}


def _first(paths: Sequence[str], of: str, found: Json, beside: _Readers) -> Json:
    """The first value of a type that one of the paths leads to. A list of parts that are read beside it, thoughts for
    example, is no value of another type, nor is a list of none."""
    other = False
    for path in paths:
        values = find(path, found)
        typed = _typed(of, values) if values else MISSING
        if typed is not MISSING:
            return typed
        if any(each != [] for each in values):
            further = (each for rule in beside.values() for each in rule.paths)
            other = other or not any(is_opened_by(path, each, found) for each in further)
    if other:
        raise TypeError(of)
    return MISSING


def _typed(of: str, values: list[Json]) -> Json:
    first = values[0]
    if of == "string":
        return "".join(values) if all(isinstance(each, str) for each in values) else MISSING
    if of == "integer":
        whole = integer(first)
        return MISSING if whole is None else whole
    fits = {
        "number": isinstance(first, int | float) and not isinstance(first, bool),
        "boolean": isinstance(first, bool),
        "object": isinstance(first, dict),
        "any": True,
    }
    return first if fits.get(of, False) else MISSING
