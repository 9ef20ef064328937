"""From messages to what a reader gets.

Owns the split between what may be printed (the spec, with the state of its secrets) and what may not (the secrets), by the
descriptors alone: a new kind or field needs nothing here. Must not know maps, streams or revisions.
"""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from . import _proto
from .specs import TYPES

_SECRET = "signalbox.v1.Secret"
_STATES = ("absent", "absent", "present", "missing", "undecryptable")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class SecretField:
    """A secret of a resource, and what is known of it."""

    state: str
    # Not printed: what reports errors shows the variables of every function on the way.
    value: str | None = dataclasses.field(repr=False)


@dataclass(frozen=True)
class Decoded:
    """A resource in Python's own types."""

    uid: str
    labels: Mapping[str, str]
    version: int
    create_revision: int
    create_time: datetime | None
    update_time: datetime | None
    updated_by: str
    etag: str
    spec: Any
    secrets: Mapping[str, SecretField]


def decode(packed: bytes) -> Decoded:
    """Decodes a resource. Secrets are kept by the paths that masks and diffs use, for example `api_key.secret`."""
    message = _proto.Resource.FromString(packed)
    secrets: dict[str, SecretField] = {}
    arm = message.WhichOneof("spec")
    return Decoded(
        uid=message.uid,
        labels=MappingProxyType(dict(message.labels)),
        version=message.version,
        create_revision=message.create_revision,
        create_time=_time(message.create_time) if message.HasField("create_time") else None,
        update_time=_time(message.update_time) if message.HasField("update_time") else None,
        updated_by=message.updated_by,
        etag=message.etag,
        spec=_message(getattr(message, arm), arm, secrets) if arm else None,
        secrets=secrets,
    )


def _message(message: Any, path: str, secrets: dict[str, SecretField], *, in_map: bool = False) -> Any:
    """A message as its dataclass. What is an arm of a map's value has the path of the value, as in masks."""
    values = {}
    for field in message.DESCRIPTOR.fields:
        here = path if in_map and field.containing_oneof else f"{path}.{field.name}"
        value = _field(message, field, here, secrets)
        if value is not None:
            values[f"{field.name}_" if keyword.iskeyword(field.name) else field.name] = value
    return TYPES[message.DESCRIPTOR.full_name](**values)


def _field(message: Any, field: Any, path: str, secrets: dict[str, SecretField]) -> Any:
    if field.has_presence:
        return (
            _value(getattr(message, field.name), field, path, secrets)
            if message.HasField(field.name)
            else None
        )
    value = getattr(message, field.name)
    if not _is_repeated(field):
        return _value(value, field, path, secrets)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return MappingProxyType(
            {key: _value(value[key], inner, f"{path}.{key}", secrets, in_map=True) for key in sorted(value)}
        )
    return tuple(_value(each, field, path, secrets) for each in value)


def _is_repeated(field: Any) -> bool:
    # Newer versions of protobuf have the one, older ones the other.
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def _value(
    value: Any, field: Any, path: str, secrets: dict[str, SecretField], *, in_map: bool = False
) -> Any:
    if field.message_type is not None:
        special = _SPECIAL.get(field.message_type.full_name)
        if special is not None:
            return special(value, path, secrets)
        return _message(value, path, secrets, in_map=in_map)
    return _word(field.enum_type, value) if field.enum_type is not None else value


def _word(enum: Any, number: int) -> str:
    """An enum's value as a word: `PROVIDER_TYPE_GOOGLE_AI` is `google_ai`."""
    value = enum.values_by_number.get(number)
    if value is None:
        return f"unknown_{number}"
    zero = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name.removeprefix(zero).lower()) if number else ""


def _secret(message: Any, path: str, secrets: dict[str, SecretField]) -> str:
    value = message.value if message.HasField("value") else None
    state = _STATES[message.state] if 0 <= message.state < len(_STATES) else "undecryptable"
    if value is not None and message.state == 0:
        state = "present"
    secrets[path] = SecretField(state, value)
    return state


def _duration(message: Any, *_: Any) -> timedelta | None:
    try:
        return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        return None


def _time(message: Any, *_: Any) -> datetime | None:
    try:
        return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        return None


def _json(message: Any, *_: Any) -> Any:
    return json_format.MessageToDict(message)


_SPECIAL: Mapping[str, Callable[..., Any]] = {
    _SECRET: _secret,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Struct": _json,
    "google.protobuf.Value": _json,
    "google.protobuf.ListValue": _json,
}
