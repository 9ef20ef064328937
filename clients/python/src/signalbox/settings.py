"""Effective settings: environment, then the user's, then the global one, then the worker's default.

Owns precedence and the conversion to types. Must not know where the environment or the stored values come from.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ._setting_key import normalise
from .errors import SettingTypeError
from .resources import SecretText, SettingResource

#: Variables with this prefix override the setting that the rest of their name names.
SETTING_PREFIX = "SIGNALBOX_SETTING_"

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
#: How the environment writes a truth value.
WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

Default = str | int | float | bool | timedelta | Mapping[str, Any] | list[Any]
"""What a worker may give as a default: a mapping or a list stands for a JSON document."""


@dataclass(frozen=True)
class Overrides:
    """What stands above and below the stored settings; the same for the whole life of a client."""

    environment: Mapping[str, SecretText] = field(default_factory=dict)
    """By normal key. Text without a type, and perhaps a secret."""

    defaults: Mapping[str, Default] = field(default_factory=dict)
    """By normal key."""

    @classmethod
    def of(cls, environment: Mapping[str, str], defaults: Mapping[str, Default]) -> Overrides:
        """From variables and from what a worker gives. An empty variable counts as not set."""
        named = {name: text for name, text in environment.items() if name.startswith(SETTING_PREFIX) and text}
        return cls(
            {normalise(name.removeprefix(SETTING_PREFIX)): SecretText(text) for name, text in named.items()},
            {normalise(key): value for key, value in defaults.items()},
        )


class Setting:
    """One effective setting. Does not print its value. What is of another type raises `SettingTypeError`."""

    __slots__ = ("_read", "_spec", "_value", "key", "source")

    key: str
    """The key, in its normal form."""

    source: str
    """Where the value comes from: `environment`, `user`, `global` or `default`."""

    def __init__(self, key: str, source: str, value: SecretText | SettingResource | Default) -> None:
        self.key = key
        self.source = source
        self._value = value
        #: What is stored, where it comes from there.
        self._spec = value.spec if isinstance(value, SettingResource) else None
        #: The value as it was read last. Whoever asks for that type again gets it at once.
        self._read: Any = None

    def as_str(self) -> str:
        """The value as text. A secret is none."""
        known: str = self._read
        if known.__class__ is not str:
            known = self._read = self._str()
        return known

    def as_int(self) -> int:
        """The value as a whole number of 64 bits."""
        known: int = self._read
        if known.__class__ is not int:
            known = self._read = self._int()
        return known

    def as_float(self) -> float:
        """The value as a finite number. A whole number is one, too."""
        known: float = self._read
        if known.__class__ is not float:
            known = self._read = self._float()
        return known

    def as_bool(self) -> bool:
        """The value as a truth value. The environment may say `true`, `yes`, `on`, `1` or their opposites, in any case."""
        known: bool = self._read
        if known.__class__ is not bool:
            known = self._read = self._bool()
        return known

    def as_duration(self) -> timedelta:
        """The value as a length of time, not negative. The environment writes `1.5s`, `250ms`, `5m`, `2h` or `1d`."""
        known: timedelta = self._read
        if known.__class__ is not timedelta:
            known = self._read = self._duration()
        return known

    def as_json(self) -> Any:
        """The value as a JSON document, parsed anew each time: it may be changed."""
        if isinstance(self._value, Mapping | list):
            return copy.deepcopy(self._value)
        stored = self._spec is not None
        text = self._typed("json_value", str, "a JSON document") if stored else self._text()
        try:
            return json.loads(text) if stored else _document(text)
        except (ValueError, RecursionError):
            raise self._wrong("a JSON document") from None

    def as_secret(self) -> SecretText:
        """The value as a secret. Raises `SecretError` when it can't be had."""
        known: SecretText = self._read
        if known.__class__ is not SecretText:
            known = self._read = self._secret()
        return known

    def _str(self) -> str:
        if isinstance(self._value, SecretText):
            return self._value.expose()
        return self._typed("string_value", str, "a string")  # type: ignore[no-any-return]

    def _int(self) -> int:
        if isinstance(self._value, SecretText):
            text = self._value.expose().strip()
            number = int(text) if len(text) <= 20 and _INTEGER.fullmatch(text) else None
            if number is None or not -(2**63) <= number < 2**63:
                raise self._wrong("an integer")
            return number
        return self._typed("int_value", int, "an integer")  # type: ignore[no-any-return]

    def _float(self) -> float:
        number: Any
        if isinstance(self._value, SecretText):
            text = self._value.expose().strip()
            number = float(text) if _NUMBER.fullmatch(text) else math.nan
        elif self._spec is not None:
            number = self._spec.float_value if self._spec.int_value is None else self._spec.int_value
        else:
            number = self._value
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise self._wrong("a finite number")
        return float(number)

    def _bool(self) -> bool:
        if isinstance(self._value, SecretText):
            word = WORDS.get(self._value.expose().strip().lower())
            if word is None:
                raise self._wrong("a truth value")
            return word
        return self._typed("bool_value", bool, "a truth value")  # type: ignore[no-any-return]

    def _duration(self) -> timedelta:
        wanted = "a length of time"
        if isinstance(self._value, SecretText):
            match = _DURATION.fullmatch(self._value.expose().strip())
            if match is None:
                raise self._wrong(wanted)
            try:
                return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
            except OverflowError:
                raise self._wrong(wanted) from None
        duration: timedelta = self._typed("duration_value", timedelta, wanted)
        if duration < timedelta():
            raise self._wrong(wanted)
        return duration

    def _secret(self) -> SecretText:
        if isinstance(self._value, SecretText):
            return self._value
        if isinstance(self._value, SettingResource) and self._value.spec.secret_value is not None:
            return self._value.secret_at("setting.secret_value")
        raise self._wrong("a secret")

    def _text(self) -> str:
        if isinstance(self._value, SecretText):
            return self._value.expose()
        raise self._wrong("a JSON document")

    def _typed(self, name: str, of: type, wanted: str) -> Any:
        value = self._value if self._spec is None else getattr(self._spec, name)
        # A truth value is no number, although Python has it so.
        if not isinstance(value, of) or (of is int and isinstance(value, bool)):
            raise self._wrong(wanted)
        return value

    def _wrong(self, wanted: str) -> SettingTypeError:
        return SettingTypeError(self.key, wanted, self.source)

    def __repr__(self) -> str:
        return f"<Setting {self.key} from {self.source}>"


def _document(text: str) -> Any:
    """The JSON document that somebody has written by hand, as strict as the server is. Raises `ValueError`."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits)

    value = json.loads(text, parse_constant=refuse, parse_float=finite)
    # Half a character alone can't be encoded.
    json.dumps(value, ensure_ascii=False).encode()
    return value
