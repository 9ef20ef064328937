"""Errors of providers: why a call failed, in a word that programs know, and in the provider's own words without parts of a key.

Owns the reading of errors. It must not know any provider's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .. import specs
from .frames import Raised
from .paths import Json, compact, find, parse, scalar_text
from .waits import retry_info
from .words import without_keys


@dataclass(frozen=True)
class Failure:
    """What is known of a provider's error."""

    reason: str
    """`bad_key`, `permission_denied`, `not_found`, `rate_limited`, `timeout`, `invalid_request` or `unavailable`."""

    message: str
    """The provider's own words, in one line; empty where it has none that can be read."""

    code: str
    """The provider's own code; empty where it has none."""

    retry_after: float | None = None
    """For how many seconds the provider asks to be left alone, where it says so; a day at most."""


def read_failure(extractor: specs.ResponseExtractor, status: int, body: bytes, key: str | None) -> Failure:
    """Reads an error."""
    try:
        document = parse(body)
    except (ValueError, RecursionError):
        document = None
    errors = extractor.errors or specs.ErrorExtractor()
    bad = any(_holds(rule, status, document) for rule in errors.bad_key_rules)
    return _told(errors, "bad_key" if bad else _of_status(status), document, key)


def read_failure_event(extractor: specs.ResponseExtractor, event: Json, key: str | None) -> Failure:
    """Reads an error that came as the event of a stream, after a good status."""
    return _told(extractor.errors or specs.ErrorExtractor(), "unavailable", event, key)


def read_failure_frame(
    extractor: specs.ResponseExtractor, statuses: Mapping[str, int], raised: Raised, key: str | None
) -> Failure:
    """Reads an error that has a frame of its own in a stream, after a good status."""
    status = statuses.get(raised.code)
    if status is None:
        try:
            document = parse(raised.payload)
        except (ValueError, RecursionError):
            document = None
        found = read_failure_event(extractor, document, key)
    else:
        found = read_failure(extractor, status, raised.payload, key)
    message = found.message or without_keys(raised.message, key)
    return replace(found, message=message, code=found.code or without_keys(raised.code, key))


def _told(errors: specs.ErrorExtractor, reason: str, document: Json, key: str | None) -> Failure:
    message = _first_text(errors.message_paths, document, numbers=False)
    code = _first_text(errors.code_paths, document, numbers=True)
    return Failure(reason, without_keys(message, key), without_keys(code, key), retry_info(document))


def _holds(rule: specs.BadKeyRule, status: int, document: Json) -> bool:
    def is_meant(value: Json) -> bool:
        text = scalar_text(value)
        if text is None:
            return False
        return text.startswith(rule.value[:-1]) if rule.value.endswith("*") else text == rule.value

    found = not rule.path or any(is_meant(value) for value in find(rule.path, document))
    return rule.status == status and found


def _first_text(paths: Sequence[str], document: Json, *, numbers: bool) -> str:
    for path in paths:
        for value in find(path, document):
            if isinstance(value, str) and value:
                return value
            if numbers and isinstance(value, int | float) and not isinstance(value, bool):
                return compact(value)
    return ""


def _of_status(status: int) -> str:
    reasons = {
        401: "permission_denied",
        403: "permission_denied",
        404: "not_found",
        408: "timeout",
        504: "timeout",
    }
    reasons |= {402: "rate_limited", 429: "rate_limited"}
    return reasons.get(status, "invalid_request" if 400 <= status < 500 else "unavailable")
