"""Streams in frames: cut at every place, spoilt at every place, and bounded."""

import pytest
from conftest import frame, text_frame

from signalbox import specs, wire
from signalbox.environment import known_providers


def event(of, payload):
    return text_frame({":message-type": "event", ":event-type": of}, payload)


def said(text):
    return event("contentBlockDelta", {"delta": {"text": text}})


WHOLE = said("Hi ") + said("there.") + event("metadata", {"usage": {"inputTokens": 9}})


@pytest.fixture(scope="module")
def extractor():
    """That of the type, as a worker has it without a service."""
    from google.protobuf import json_format

    from signalbox import _proto
    from signalbox._decode import decode

    known = dict(known_providers())["bedrock"]
    message = json_format.ParseDict({"provider": known}, _proto.Resource())
    return decode(message.SerializeToString()).spec.response_extractor


def read(extractor, *pieces):
    reader = wire.StreamReader(extractor, "sk-key")
    for piece in pieces:
        reader.push(piece)
    return reader.finish()


def test_a_stream_is_read_wherever_it_is_cut_in_two_and_one_that_ends_early_was_cut_off(extractor):
    for at in range(len(WHOLE)):
        assert read(extractor, WHOLE[:at], WHOLE[at:]).text == "Hi there."
        with pytest.raises(wire.CutOffError):
            read(extractor, WHOLE[:at])


def test_what_is_spoilt_anywhere_is_no_answer(extractor):
    for at in range(len(WHOLE) * 8):
        spoilt = bytearray(WHOLE)
        spoilt[at // 8] ^= 1 << at % 8
        with pytest.raises(wire.MalformedError):
            read(extractor, bytes(spoilt))


def test_what_is_wrong_is_named(extractor):
    for bytes_, named in [
        (said("Hi")[:-1] + b"?", "has a frame with a wrong checksum"),
        (b"<html>Bad gateway</html>", "is no row of frames"),
        (frame(b"\x01a\x0a", b"{}"), "has a frame with headers that are none"),
        (frame(b"", b"{}"), "has a frame that is neither an event nor an error"),
    ]:
        with pytest.raises(wire.MalformedError, match=f"the provider's answer .*{named}"):
            read(extractor, bytes_)


def test_frames_and_answers_are_bounded(extractor):
    """How long a frame claims to be is judged before anything is waited for."""
    with pytest.raises(wire.TooLargeError):
        read(extractor, said("x" * (1 << 20))[:12])
    with pytest.raises(wire.TooLargeError):
        read(extractor, *[said("x" * (1 << 19))] * 40)


def test_a_key_that_is_repeated_is_cut_out_of_an_error(extractor):
    headers = {":message-type": "error", ":error-code": "sk-key", ":error-message": "not sk-key"}
    with pytest.raises(wire.StreamFailedError) as failed:
        read(extractor, text_frame(headers, ""))
    assert "sk-key" not in f"{failed.value} {failed.value.failure}"
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}
    with pytest.raises(wire.StreamFailedError) as failed:
        read(extractor, text_frame(headers, {"message": "slower, sk-key"}))
    assert failed.value.failure.reason == "rate_limited" and "sk-key" not in str(failed.value)


def test_answers_that_come_whole_are_not_streamed(extractor):
    with pytest.raises(wire.MappingError):
        wire.StreamReader(specs.ResponseExtractor(extraction_rules=extractor.extraction_rules))
