"""Streams of `application/vnd.amazon.eventstream`: messages are cut out of the bytes as they arrive, and checked.

The encoding is that of https://smithy.io/2.0/aws/amazon-eventstream.html. All numbers are big-endian. A frame is its own length
(4 bytes), that of its headers (4), the CRC-32 of these two (4), headers, payload, and the CRC-32 of all that is before (4). A
header is the length of its name (1), the name, a type (1), and a value. Must not know what the messages mean.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from .paths import Json
from .reading import MalformedError, TooLargeError, document

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
#: The lengths of values by their type: true, false, byte, short, integer, long, timestamp, UUID.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _TEXT = 6, 7


@dataclass(frozen=True)
class Raised:
    """An error in a frame of its own."""

    code: str
    """Its type."""

    message: str
    """What its headers say of it."""

    payload: bytes


class Frames:
    """Cuts messages out of bytes. Frames beyond so many bytes are not taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._received = bytearray()

    def push(self, received: bytes) -> None:
        """Takes bytes as they arrive."""
        self._received += received

    def __bool__(self) -> bool:
        """Whether anything is there of a further frame."""
        return bool(self._received)

    def take(self) -> dict[str, Json] | Raised | None:
        """The next message, once all of it is there: an event as an object with one member, which is named by its type; or an
        error. Raises `MalformedError`, `TooLargeError`."""
        if len(self._received) < _PRELUDE.size:
            return None
        whole, headers = self._lengths()
        if len(self._received) < whole:
            return None
        frame = bytes(self._received[:whole])
        del self._received[:whole]
        end = whole - _CHECKSUM.size
        if _CHECKSUM.unpack_from(frame, end)[0] != crc32(frame[:end]):
            raise MalformedError("the provider's answer has a frame with a wrong checksum")
        payload = _PRELUDE.size + headers
        return _message(frame[_PRELUDE.size : payload], frame[payload:end])

    def _lengths(self) -> tuple[int, int]:
        """The lengths of a frame and of its headers, which lie within it."""
        whole, headers, checksum = _PRELUDE.unpack_from(self._received)
        if checksum != crc32(self._received[:8]):
            told = "has a frame whose lengths have a wrong checksum, or is no row of frames"
            raise MalformedError(f"the provider's answer {told}")
        if whole < _PRELUDE.size + headers + _CHECKSUM.size:
            raise MalformedError("the provider's answer has a frame that is shorter than its headers")
        if whole > self._most:
            raise TooLargeError("the provider's answer is too large")
        return whole, headers


def _message(headers: bytes, payload: bytes) -> dict[str, Json] | Raised:
    try:
        texts = _texts(headers)
    except (IndexError, ValueError, struct.error):
        raise MalformedError("the provider's answer has a frame with headers that are none") from None
    kind = texts.get(":message-type")
    if kind == "event" and ":event-type" in texts:
        return {texts[":event-type"]: document(payload) if payload.strip() else None}
    if kind == "exception":
        return Raised(texts.get(":exception-type", ""), "", payload)
    if kind == "error":
        return Raised(texts.get(":error-code", ""), texts.get(":error-message", ""), payload)
    raise MalformedError("the provider's answer has a frame that is neither an event nor an error")


def _texts(headers: bytes) -> Mapping[str, str]:
    """The headers that are texts, by their names. Raises where the bytes are no headers."""
    texts: dict[str, str] = {}
    at = 0
    while at < len(headers):
        kind_at = at + 1 + headers[at]
        name, kind = headers[at + 1 : kind_at].decode(), headers[kind_at]
        at = kind_at + 1
        if kind in (_BYTES, _TEXT):
            length = _LENGTH.unpack_from(headers, at)[0]
            at += _LENGTH.size
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError("no such type")
        if at + length > len(headers):
            raise ValueError("longer than the headers")
        if kind == _TEXT:
            texts[name] = headers[at : at + length].decode()
        at += length
    return texts
