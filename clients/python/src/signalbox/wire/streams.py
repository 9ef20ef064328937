"""Streamed answers, as their bytes arrive: events are cut out, read by the rules of streams, and put together.

Owns framing and the end of a stream. Must not know where the bytes come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import specs
from ..errors import SignalboxError
from .failures import Failure, read_failure_event, read_failure_frame
from .frames import Frames, Raised
from .paths import Json, MappingError, find
from .reading import Answer, MalformedError, Parts, TooLargeError, document

#: Bytes of an event at most.
_EVENT_BYTES = 1 << 20
#: Bytes of an answer at most.
_ANSWER_BYTES = 16 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CutOffError(SignalboxError):
    """The connection ended before the answer did."""


class StreamFailedError(SignalboxError):
    """The provider broke an answer off with an error."""

    def __init__(self, failure: Failure) -> None:
        told = failure.message or failure.code or "no message"
        super().__init__(f"the provider has ended the answer with an error: {told}")
        self.failure = failure


@dataclass(frozen=True)
class Delta:
    """A piece of an answer."""

    text: str = ""
    reasoning: str = ""


class StreamReader:
    """Reads one streamed answer. The key is cut out of the provider's words if it ends in an error."""

    def __init__(self, extractor: specs.ResponseExtractor, key: str | None = None) -> None:
        if extractor.stream is None and extractor.frame_stream is None:
            raise MappingError("the provider's answers are not streamed")
        self._extractor = extractor
        self._text = extractor.stream or specs.StreamExtractor()
        self._framed = None if extractor.stream else extractor.frame_stream
        read = self._framed or self._text
        self._rules, self._end_paths = read.extraction_rules, read.end_paths
        self._key = key
        self._frames = Frames(_EVENT_BYTES)
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_return = False
        self._first_line = True
        self._parts = Parts()
        self._has_event = False
        self._is_page = False
        self.ended = False
        """Whether the answer has ended; what comes after that is not looked at."""

    def push(self, received: bytes) -> Delta | None:
        """Takes bytes as they arrive, and gives what they add. Raises `SignalboxError` when the stream is no answer."""
        texts, thoughts = len(self._parts.texts), len(self._parts.thoughts)
        if self._framed is not None:
            self._push_frames(received, self._framed.error_statuses)
        else:
            self._push_lines(received)
        delta = Delta("".join(self._parts.texts[texts:]), "".join(self._parts.thoughts[thoughts:]))
        return delta if delta != Delta() else None

    def _push_frames(self, received: bytes, statuses: Mapping[str, int]) -> None:
        if self.ended:
            return
        self._frames.push(received)
        while not self.ended and (message := self._frames.take()) is not None:
            if isinstance(message, Raised):
                failure = read_failure_frame(self._extractor, statuses, message, self._key)
                raise StreamFailedError(failure)
            self._event(message)

    def _push_lines(self, received: bytes) -> None:
        if self._after_return and received.startswith(b"\n"):
            received = received[1:]
            self._after_return = False
        if received:
            self._after_return = received.endswith(b"\r")
        head, *lines = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line += head
        for rest in lines:
            if self.ended:
                break
            line, self._line = bytes(self._line), bytearray(rest)
            self._end_of_line(line)
        if not self.ended and len(self._line) + self._data_bytes > _EVENT_BYTES:
            raise TooLargeError("the provider's answer is too large")

    def finish(self) -> Answer:
        """The whole answer, once the connection has ended. Raises `SignalboxError` when it is none."""
        if not self.ended and self._framed is None:
            line, self._line = bytes(self._line), bytearray()
            self._end_of_line(line)
            self._end_of_event()
        has_more = bool(self._text.end_data or self._end_paths or self._frames)
        if has_more and not self.ended:
            if not self._has_event and self._is_page:
                raise MalformedError("the provider's answer is a page, and not a stream of events")
            raise CutOffError("the provider's answer was cut off")
        return self._parts.answer()

    def _end_of_line(self, line: bytes) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._is_page = line.lstrip().startswith(b"<")
        if self._text.framing == "json_lines":
            self._data = [line]
            self._end_of_event()
        elif not line:
            self._end_of_event()
        else:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
                self._data_bytes += len(self._data[-1]) + 1

    def _end_of_event(self) -> None:
        data, self._data = b"\n".join(self._data).strip(b" \t\n\r\x0c"), []
        self._data_bytes = 0
        if not data:
            return
        self._has_event = True
        if len(data) > _EVENT_BYTES:
            raise TooLargeError("the provider's answer is too large")
        if self._text.end_data and data == self._text.end_data.encode():
            self.ended = True
            return
        event = document(data)
        if _finds(self._text.error_paths, event):
            raise StreamFailedError(read_failure_event(self._extractor, event, self._key))
        self._event(event)

    def _event(self, event: Json) -> None:
        self._parts.add(self._rules, event, stream=True)
        self.ended = _finds(self._end_paths, event)
        if self._parts.size > _ANSWER_BYTES:
            raise TooLargeError("the provider's answer is too large")


def _finds(paths: tuple[str, ...], event: Json) -> bool:
    return any(find(path, event) for path in paths)
