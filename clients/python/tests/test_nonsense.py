"""A server that sends what is no stream: the client neither hangs nor stops trying, and takes it up when sense comes."""

import logging
import threading
import time
from concurrent import futures

import grpc
import pytest
from conftest import until
from test_stream import sockets

import signalbox
from signalbox import SecretError, _proto
from signalbox.resources import view_of

RUBBISH = b"\x00\x01rubbish"


def message(**event):
    return _proto.WatchConfigResponse(**event).SerializeToString()


def sense():
    yield message(snapshot={"revision": 3, "last": True})
    yield message(synced={"revision": 3})


def rubbish(_):
    yield RUBBISH


def rubbish_without_end(_):
    yield from sense()
    while True:
        yield RUBBISH
        time.sleep(0.01)


def nothing(_):
    yield from ()


def words(context):
    yield b""
    context.abort(grpc.StatusCode.INTERNAL, "a\r\nforged line \x1b[31m" + "x" * 5_000)


def too_much(_):
    yield bytes(20 << 20)


class Speaker(grpc.GenericRpcHandler):
    """Says what the test has it say, on every stream."""

    def __init__(self, say):
        self.say = say
        self.streams = 0
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((self,))
        self.url = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        if details.method.endswith("WatchConfig"):
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.unary_unary_rpc_method_handler(lambda *_: RUBBISH)

    def _watch(self, _, context):
        self.streams += 1
        yield from self.say(context)


@pytest.mark.parametrize("say", [rubbish, rubbish_without_end, nothing, words, too_much])
def test_nonsense_is_left_and_tried_again(say, caplog):
    caplog.set_level(logging.WARNING)
    before = sockets()
    speaker = Speaker(say)
    client = signalbox.connect(signalbox.Options(url=speaker.url))
    until(lambda: speaker.streams >= 3, "another attempt")
    until(lambda: client.status().last_error is not None, "what stands in the way")
    done = threading.Event()
    speaker.say = lambda _: (yield from sense()) or done.wait(60)
    until(lambda: client.status().loaded and client.status().last_error is None, "sense")
    assert client.status().revision == 3
    began = time.monotonic()
    client.close()
    done.set()
    assert time.monotonic() - began < 1.5, "nothing hangs"
    lines = [record.getMessage() for record in caplog.records if record.name == "signalbox"]
    assert all(line.isprintable() and len(line) < 1_200 for line in lines), "no line is forged"
    speaker.server.stop(0).wait()
    until(lambda: sockets() <= before)


def test_a_word_of_an_enum_that_there_can_not_be_is_no_secret():
    key = _proto.Resource(name="providers/p/apiKeys/a")
    for state in (-(2**31), -1, 99):
        key.api_key.secret.state = state
        with pytest.raises(SecretError) as raised:
            view_of(key).secret()
        assert raised.value.reason == "undecryptable"


def refuting():
    """A server whose first stream ends with a digest that is not the client's; after that it is away."""

    def say(context):
        if say.streams == 0:
            say.streams = 1
            resource = {"name": "settings/a", "setting": {"int_value": 666}}
            yield message(snapshot={"revision": 3, "last": True, "resources": [resource]})
            yield message(synced={"revision": 3, "resume_token": "t", "view_id": "v", "session_id": "s"})
            say.wrong.wait(20)
            yield message(progress={"revision": 3, "digest": b"0" * 16, "resume_token": "t"})
        else:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    say.streams, say.wrong = 0, threading.Event()
    return say


def test_a_refuted_state_is_not_begun_with_again(tmp_path):
    say = refuting()
    speaker = Speaker(say)
    path = tmp_path / "cache"
    options = signalbox.Options(url=speaker.url, cache_file=path, cache_key="k" * 32, report=False)
    with signalbox.connect(options) as client:
        client.wait_ready()
        until(path.exists)
        say.wrong.set()
        until(lambda: client.status().digest_mismatches)
        until(lambda: not path.exists(), "the file to be removed")
        client._saver.changed(urgent=True)
    assert not path.exists(), "nor written at the end"
    speaker.server.stop(0)
