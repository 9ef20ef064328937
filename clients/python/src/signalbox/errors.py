"""What can go wrong, as types that a caller can act on.

Owns the errors and the reading of rich ones. No message holds a secret, and no caller has to parse one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ._text import one_line

_DOMAIN = "signalbox"
_DETAILS = "grpc-status-details-bin"
#: Characters of a server's message that are repeated.
_MESSAGE_CHARS = 1_000


class SignalboxError(Exception):
    """Whatever this package raises."""

    @property
    def is_fatal(self) -> bool:
        """Whether only a person can mend this: wrong options, or rights that the token does not have. The client goes on
        trying all the same, slowly."""
        return False

    def __reduce__(self) -> Any:
        # An error that a process of a pool raises travels by pickle, which would call the constructor with the message alone.
        return _raised_elsewhere, (type(self), self.args, self.__dict__)


def _raised_elsewhere(
    kind: type[SignalboxError], args: tuple[Any, ...], state: dict[str, Any]
) -> SignalboxError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class OptionsError(SignalboxError, ValueError):
    """The options can't work together, or one is out of its bounds."""

    @property
    def is_fatal(self) -> bool:
        return True


class TokenError(SignalboxError):
    """The token can't be read from where it is kept."""


class CredentialFileError(SignalboxError):
    """The authorities, or this client's certificate or key, can't be read, or are none; or the key is that of another
    certificate."""


class CacheError(SignalboxError):
    """The cache on disk can't be used. The client goes on without it."""


class SilentError(SignalboxError):
    """Nothing was heard on a stream for so long that it was given up."""


class UnconfirmedError(SignalboxError):
    """A stream brought no fresh word of the store for so long that it was given up: its server is cut off, or says other things
    only."""


class EndedError(SignalboxError):
    """The server ended the stream without saying why."""


class DesyncError(SignalboxError):
    """The cache can't follow the stream and is built anew, while the old state is served on."""


class ClosedError(SignalboxError):
    """The client has been closed."""


class StaleError(SignalboxError):
    """The cache is older than what the staleness policy allows for this kind."""


class RejectedError(SignalboxError):
    """The option `validate` does not accept what the service has."""

    def __init__(self, revision: int, reason: str) -> None:
        super().__init__(f"revision {revision} is not accepted: {reason}")
        self.revision = revision
        self.reason = reason


class NotReadyError(SignalboxError, TimeoutError):
    """The first snapshot has not come in time, and there is nothing else to serve."""

    def __init__(self, last_error: SignalboxError | None, cache_error: CacheError | None = None) -> None:
        because = f": {last_error or 'the service has not answered yet'}"
        if cache_error is not None:
            because += f"; the cache on disk could not be used: {cache_error}"
        # Where only a person can mend it, no time was waited for.
        late = "" if last_error is not None and last_error.is_fatal else " in time"
        super().__init__(f"not ready{late}{because}")
        self.last_error = last_error
        self.cache_error = cache_error

    @property
    def is_fatal(self) -> bool:
        return self.last_error is not None and self.last_error.is_fatal


class RevisionNotReachedError(SignalboxError, TimeoutError):
    """A revision has not come in time."""

    def __init__(self, wanted: int, reached: int) -> None:
        super().__init__(f"revision {wanted} has not come in time; the cache is at {reached}")
        self.wanted = wanted
        self.reached = reached


class SecretError(SignalboxError):
    """A secret can't be had. `reason` is `absent`, `masked`, `missing`, `undecryptable`, `revoked` or `stale`."""

    _WHY: ClassVar[Mapping[str, str]] = {
        "absent": "no value is set",
        "masked": "the value is not shown to this client: it does not ask for secrets, or its token may not read them",
        "missing": "the value was left out at import and has to be set",
        "undecryptable": "the server can't decrypt the value",
        "revoked": "the value was revoked",
        "stale": "the cache is older than what the staleness policy allows for secrets",
    }

    def __init__(self, name: str, path: str, reason: str) -> None:
        super().__init__(f"{name}, {path}: {self._WHY.get(reason, reason)}")
        self.name = name
        self.path = path
        self.reason = reason


class SettingTypeError(SignalboxError, TypeError):
    """A setting is of another type, or its text in the environment can't be read as this one. Never shows the value."""

    def __init__(self, key: str, wanted: str, source: str) -> None:
        super().__init__(f"setting {key} from {source} is not {wanted}")
        self.key = key
        self.wanted = wanted
        self.source = source


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that was refused."""

    field: str
    description: str


@dataclass(frozen=True)
class RpcDetails:
    """What a server says beyond code and message."""

    reason: str | None = None
    """The stable reason, where Signalbox itself answered (and not a proxy, say)."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    field_violations: tuple[FieldViolation, ...] = ()
    retry_delay: float | None = None
    """Seconds to wait before another attempt."""


class RpcError(SignalboxError):
    """An error that a server answered with, or that stands for one that can't be reached (`UNAVAILABLE`)."""

    def __init__(self, code: str, message: str, details: RpcDetails | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details or RpcDetails()

    @property
    def is_fatal(self) -> bool:
        return self.code in ("PERMISSION_DENIED", "INVALID_ARGUMENT")

    @classmethod
    def of(cls, error: Any) -> RpcError:
        """From gRPC's own error."""
        packed = next((value for key, value in error.trailing_metadata() or () if key == _DETAILS), b"")
        try:
            details = _details(packed)
        except (ValueError, UnicodeDecodeError, IndexError):
            # Details that can't be read are as good as none: code and message still count.
            details = RpcDetails()
        return cls(error.code().name, one_line(error.details() or "", _MESSAGE_CHARS), details)


def _details(packed: bytes) -> RpcDetails:
    """Reads the few parts of `google.rpc.Status` that matter here; their classes would be one more dependency."""
    reason, metadata, violations, delay = None, {}, [], None
    for detail in _all(packed, 3):
        kind = _text(detail, 1).rpartition("/")[2]
        value = next(_all(detail, 2), b"")
        if kind == "google.rpc.ErrorInfo" and _text(value, 2) == _DOMAIN:
            reason = _text(value, 1)
            metadata = {_text(entry, 1): _text(entry, 2) for entry in _all(value, 3)}
        elif kind == "google.rpc.BadRequest":
            violations += [FieldViolation(_text(each, 1), _text(each, 2)) for each in _all(value, 1)]
        elif kind == "google.rpc.RetryInfo":
            duration = next(_all(value, 1), b"")
            delay = _number(duration, 1) + _number(duration, 2) / 1e9
    return RpcDetails(reason, metadata, tuple(violations), delay)


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message by number: varints and byte strings, which is all that these messages have."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 0:
            found.append((key >> 3, value))
        elif key & 7 == 2 and at + value <= len(message):
            found.append((key >> 3, message[at : at + value]))
            at += value
        else:
            raise ValueError("not a status")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("not a varint")


def _all(message: bytes, number: int) -> Any:
    return (value for at, value in _fields(message) if at == number and isinstance(value, bytes))


def _text(message: bytes, number: int) -> str:
    return str(next(_all(message, number), b"").decode())


def _number(message: bytes, number: int) -> int:
    return next((value for at, value in _fields(message) if at == number and isinstance(value, int)), 0)
