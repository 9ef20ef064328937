"""Paths from a JSON value to values in it, and JSON documents with placeholders; both as `wire.proto` has them.

Owns the two small languages. Must not know requests or answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import SignalboxError

Json = Any

#: Up to here a double is exact.
_EXACT = 2**53
#: Stands for the value of a placeholder that has none.
MISSING = object()

_STEP = re.compile(
    r"""
    (?P<dot>\.)?(?P<member>[^.\[\]]+)
    | \[(?:(?P<every>\*) | (?P<element>[0-9]+) | (?P<where>[^=\]]+?)(?P<not>!)?=(?P<text>[^\]]*))\]
    """,
    re.VERBOSE,
)
#: A half of a character, as JSON escapes it: it may stand beside the other one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class MappingError(SignalboxError):
    """The configuration of a provider can't be used to call it: it has no request builder or response extractor, or one of a
    version that this client does not know."""


def parse(body: bytes | str) -> Json:
    """A JSON document, in UTF-8 and of whole characters. Raises `ValueError`."""

    def refuse(constant: str) -> Json:
        raise ValueError(f"{constant} is no JSON")

    text = body if isinstance(body, str) else body.decode()
    value = json.loads(text, parse_constant=refuse)
    if _HALF.search(text):
        # Half a character alone can't be encoded, by whoever gets the text either.
        compact(value).encode()
    return value


def compact(value: Json) -> str:
    """A document as text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def scalar_text(value: Json) -> str | None:
    """A string as it is, a number or truth value as JSON; nothing else is a scalar."""
    if isinstance(value, str):
        return value
    return compact(value) if isinstance(value, bool | int | float) else None


def integer(value: Json) -> int | None:
    """A whole number, however it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    return int(value) if value.is_integer() and abs(value) <= _EXACT else None


def find(path: str, value: Json) -> list[Json]:
    """Everything that a path leads to from a value, in order. Null is nothing."""
    found = [value]
    for step in _steps(path):
        found = [after for before in found for after in _follow(step, before)]
    return [each for each in found if each is not None]


def is_opened_by(path: str, other: str, value: Json) -> bool:
    """Whether another path goes on from where this one ends, and its next step finds anything there."""
    next_step = _next_step(path, other)
    return next_step is not None and bool(find(next_step, value))


@lru_cache(maxsize=4096)
def _next_step(path: str, other: str) -> str | None:
    """The other path up to its first step behind this one, if it goes on from where this one ends."""
    steps, further = ([step[0] for step in _steps(each)] for each in (path, other))
    goes_on = len(steps) < len(further) and further[: len(steps)] == steps
    return "".join(further[: len(steps) + 1]) if goes_on else None


@lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[re.Match[str], ...]:
    if path == "$":
        return ()
    steps, at = [], 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (step["member"] is not None and (step["dot"] is None) != (at == 0)):
            raise MappingError(f"{path!r} is no path")
        steps.append(step)
        at = step.end()
    return tuple(steps)


def _follow(step: re.Match[str], value: Json) -> list[Json]:
    if step["member"] is not None:
        return [value[step["member"]]] if isinstance(value, dict) and step["member"] in value else []
    if step["where"] is not None:
        candidates = value if isinstance(value, list) else [value]
        return [each for each in candidates if _accepts(step, each)]
    if not isinstance(value, list):
        return []
    if step["every"] is not None:
        return value
    return value[int(step["element"]) :][:1]


def _accepts(step: re.Match[str], value: Json) -> bool:
    if not isinstance(value, dict):
        return False
    member: Json = value
    for name in step["where"].split("."):
        member = member.get(name) if isinstance(member, dict) else None
    return (scalar_text(member) == step["text"]) is (step["not"] is None)


def fill(template: str, values: Mapping[str, Json]) -> Json:
    """A template with values in place of its placeholders; `MISSING` where the whole is one without a value."""
    return _fill(_document(template), values)


@lru_cache(maxsize=4096)
def _document(template: str) -> Json:
    try:
        return parse(template)
    except ValueError:
        raise MappingError("a template of the provider's request builder is no JSON document") from None


def _fill(value: Json, values: Mapping[str, Json]) -> Json:
    if isinstance(value, str):
        placeholder = _PLACEHOLDER.fullmatch(value)
        return value if placeholder is None else values.get(placeholder[1], MISSING)
    if isinstance(value, list):
        return [filled for each in value if (filled := _fill(each, values)) is not MISSING]
    if isinstance(value, dict):
        filled = {name: _fill(each, values) for name, each in value.items()}
        return {name: each for name, each in filled.items() if each is not MISSING}
    return value
