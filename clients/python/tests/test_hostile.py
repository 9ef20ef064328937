"""Providers that mean ill, or are broken: a call ends in time, takes no more than its bound, and no key is shown."""

import asyncio
import contextlib
import gc
import gzip
import json
import os
import socket
import threading
import time
import tracemalloc

import httpcore
import httpx
import pytest

from signalbox import OptionsError
from signalbox.environment import known_providers
from signalbox.executor import AsyncExecutor, Executor, HeaderError, PlaintextError, TimedOutError
from signalbox.routing import CompletionError, ProviderError
from signalbox.testing import FakeClient
from signalbox.wire import CallError, StreamFailedError, StreamReader, TooLargeError

KEY = "sk-canary"
HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
OK = HEAD % b"200 OK"
SAID = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
GOOD = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
SPECS = dict(known_providers())
each_call = pytest.mark.parametrize("call", ["complete", "stream", "async complete", "async stream"])
each_stream = pytest.mark.parametrize("call", ["stream", "async stream"])


def dripped(piece):
    """A piece, again and again, each so soon that a limit for one read is never reached."""
    while True:
        yield piece
        time.sleep(0.05)


class Raw:
    """A server that says, byte for byte, what a test has it say, until nobody listens."""

    def __init__(self):
        self.say = lambda: ()
        self.asked = 0
        self.sent = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self.listener.accept()[0],), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < length:
                body += connection.recv(65_536)
            self.asked += 1
            for piece in self.say():
                connection.sendall(piece)
                self.sent += len(piece)


@pytest.fixture
def raw():
    made = Raw()
    yield made
    made.listener.close()


def worker(url, *, key=KEY, fallback=None, **provider):
    resources = {}
    for name, base in (("openai", url), ("mistral", fallback)):
        if base is not None:
            spec = {**SPECS[name], "base_url": base, "enabled": True}
            resources[f"providers/{name}"] = {"provider": {**spec, **(provider if name == "openai" else {})}}
            value = key if name == "openai" else KEY
            resources[f"providers/{name}/apiKeys/main"] = {"apiKey": {"secret": {"value": value}}}
    names = [name for name in resources if name.count("/") == 1]
    router = {"primary": names[0], "fallbacks": names[1:], "retries": {"maxRetries": 0}}
    return FakeClient({**resources, "routers/default": {"router": router}})


def ask(call, client, timeout=20.0, **options):
    """The answer's text, however it is asked for."""
    if call.startswith("async"):
        return asyncio.run(ask_async(call, client, timeout, options))
    with Executor(client, **options) as executor:
        if call == "complete":
            return executor.complete("Hello", "m", timeout=timeout).text
        return "".join(delta.text for delta in executor.stream("Hello", "m", timeout=timeout))


async def ask_async(call, client, timeout, options):
    async with AsyncExecutor(client, **options) as executor:
        if call == "async complete":
            return (await executor.complete("Hello", "m", timeout=timeout)).text
        return "".join([delta.text async for delta in executor.stream("Hello", "m", timeout=timeout)])


def failed(call, client, *args, **options):
    with pytest.raises(CompletionError) as raised:
        ask(call, client, *args, **options)
    assert KEY not in str(raised.value)
    return raised.value.failures[-1]


@each_call
@pytest.mark.parametrize(
    "say",
    [
        lambda: dripped(b"H"),
        lambda: (piece for part in ([b"HTTP/1.1 200 OK\r\n"], dripped(b"X-A: b\r\n")) for piece in part),
        lambda: (piece for part in ([OK], dripped(b" ")) for piece in part),
        lambda: (piece for part in ([OK], dripped(b": still here\n\n")) for piece in part),
        lambda: (piece for part in ([HEAD % b"503 Away"], dripped(b" ")) for piece in part),
    ],
    ids=["status", "headers", "body", "comments", "error"],
)
def test_the_timeout_holds_against_one_who_drips(raw, call, say):
    raw.say = say
    began = time.monotonic()
    failure = failed(call, worker(raw.url), 0.4)
    assert (failure.kind, type(failure.error)) == ("timeout", TimedOutError)
    assert 0.3 < time.monotonic() - began < 2.0


def test_the_timeout_holds_against_a_host_of_many_addresses(monkeypatch):
    asked = []

    class Silent(httpcore.NetworkBackend):
        def connect_tcp(self, host, port, timeout=None, *args, **options):
            asked.append(host)
            time.sleep(min(timeout, 0.15))
            raise httpcore.ConnectTimeout

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{last}", 443)) for last in range(1, 100)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    http = httpx.Client()
    http._transport._pool._network_backend = Silent()
    began = time.monotonic()
    with http:
        failure = failed("complete", worker("https://provider.invalid"), 0.4, http=http)
    assert isinstance(failure.error, TimedOutError)
    assert time.monotonic() - began < 2.0 and asked[:2] == ["192.0.2.1", "192.0.2.2"]


@each_stream
def test_the_timeout_holds_once_something_was_said(raw, call):
    raw.say = lambda: (piece for part in ([OK, SAID], dripped(b": ping\n\n")) for piece in part)
    began = time.monotonic()
    assert isinstance(failed(call, worker(raw.url), 0.4).error, TimedOutError)
    assert time.monotonic() - began < 2.0


@each_call
@pytest.mark.parametrize("status", [b"500 Broken", b"200 OK"])
def test_no_more_is_read_than_the_bound(raw, call, status):
    """An error without end, and a stream of nothing but comments."""

    def say():
        yield HEAD % status
        while True:
            yield b": " + b"x" * 65_533 + b"\n"

    raw.say = say
    assert isinstance(failed(call, worker(raw.url)).error, TooLargeError)
    assert raw.sent < 64 << 20


@each_call
def test_what_is_packed_is_not_unpacked(raw, call):
    """Two thousand bytes unpack to a gigabyte."""
    said = OK.replace(b"Content-Type", b"Content-Encoding: gzip, gzip\r\nContent-Type")
    bomb = gzip.compress(gzip.compress(bytes(1 << 27)))
    raw.say = lambda: iter([said, bomb])
    tracemalloc.start()
    failure = failed(call, worker(raw.url))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not isinstance(failure.error, TooLargeError)
    assert peak < 16 << 20


@pytest.mark.parametrize("piece", [b"x", b"data:\n"])
def test_pieces_of_an_event_take_time_in_proportion(piece):
    reader = StreamReader(worker("http://127.0.0.1").provider("openai").spec.response_extractor)
    began = time.process_time()
    for _ in range(200_000):
        reader.push(piece)
    with pytest.raises(TooLargeError):
        reader.push(b"data:" + b"x" * (1 << 20))
    assert time.process_time() - began < 5.0


@each_call
@pytest.mark.parametrize("url", ["http://192.0.2.1", "http://localhost.example", "http://[::ffff:192.0.2.1]"])
def test_no_secret_goes_over_plain_http_beyond_the_machine(call, url):
    began = time.monotonic()
    failure = failed(call, worker(url))
    assert (failure.kind, type(failure.error)) == ("refused", PlaintextError)
    assert "providers/openai" in str(failure.error) and "allow_plaintext" in str(failure.error)
    assert time.monotonic() - began < 2.0, "nobody was asked"


@each_call
def test_a_host_may_be_allowed_to_get_secrets_over_plain_http(call):
    failure = failed(call, worker("http://Provider.invalid:1"), 0.5, allow_plaintext=["PROVIDER.invalid"])
    assert failure.kind in ("connection", "timeout")
    for wrong in ("provider.invalid", ["x:80"], [3]):
        with pytest.raises(OptionsError, match="allow_plaintext"):
            ask(call, worker("http://provider.invalid"), allow_plaintext=wrong)


@each_call
def test_regression_a_host_that_no_letters_stand_for_left_the_call_with_an_error_of_a_library(raw, call):
    raw.say = lambda: [OK, SAID, b"data: [DONE]\n\n"] if "stream" in call else [HEAD % b"200 OK", GOOD]
    failure = failed(call, worker("https://xn--n3h.invalid"))
    assert failure.kind == "connection" and "no name of a host" in str(failure.error)
    failure = failed(
        call, worker("http://b\u00fccher.invalid:1"), 5.0, allow_plaintext=["B\u00fccher.invalid"]
    )
    assert failure.kind in ("connection", "timeout")
    for host in ("xn--n3h.invalid", "\u2603.invalid"):
        assert ask(call, worker(f"https://{host}", fallback=raw.url)) == "Hi", "the next is asked"


@each_call
def test_a_fallback_takes_over_where_plain_http_is_refused(raw, call):
    raw.say = lambda: [OK, SAID + b"data: [DONE]\n\n" if "stream" in call else GOOD]
    assert ask(call, worker("http://192.0.2.1", fallback=raw.url)) == "Hi"


@each_stream
def test_a_key_in_the_error_of_a_stream_is_cut_out(raw, call):
    raw.say = lambda: [OK, b'data: {"error": {"message": "no such key: %s"}}\n\n' % KEY.encode()]
    failure = failed(call, worker(raw.url))
    assert isinstance(failure.error, StreamFailedError) and "[removed]" in str(failure.error)


@each_call
@pytest.mark.parametrize(
    "key", [f"{KEY}\u2026", f"{KEY}\nX-Evil: 1", f"{KEY}\x00", f"{KEY}\x7f", f"{KEY}\u00e9"]
)
def test_a_key_that_is_no_header_is_told_of_without_its_value(raw, call, key):
    failure = failed(call, worker(raw.url, key=key))
    assert (failure.kind, type(failure.error)) == ("refused", HeaderError)
    assert "providers/openai" in str(failure.error) and "Authorization" in str(failure.error)
    assert raw.asked == 0
    raw.say = lambda: [OK, SAID + b"data: [DONE]\n\n" if "stream" in call else GOOD]
    assert ask(call, worker(raw.url, key=key, fallback=raw.url)) == "Hi"


@each_call
def test_blanks_around_a_key_are_no_part_of_it(raw, call):
    raw.say = lambda: [OK, SAID + b"data: [DONE]\n\n" if "stream" in call else GOOD]
    assert ask(call, worker(raw.url, key=f"{KEY} ")) == "Hi"


@each_call
def test_a_redirect_is_an_error_of_the_provider_and_is_asked_once(raw, call):
    raw.say = lambda: [b"HTTP/1.1 307 Over There\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"]
    failure = failed(call, worker(raw.url))
    assert (failure.kind, type(failure.error)) == ("server_error", ProviderError)
    assert raw.asked == 1


def test_a_long_error_holds_nothing_up(raw):
    """Words are read up to a bound, however many there are: asyncio's loop stands still meanwhile."""
    body = json.dumps({"error": {"message": "a " * (7 << 20)}}).encode()
    raw.say = lambda: (HEAD % b"400 Bad", body)
    began = time.monotonic()
    assert "a a a" in str(failed("complete", worker(raw.url)).error)
    assert time.monotonic() - began < 3.0


class KeptAlive(Raw):
    """Answers many requests over one connection, each with the request's own words, and gives cookies."""

    def __init__(self):
        self.heads = []
        super().__init__()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError, IndexError, ValueError):
            unread = b""
            while True:
                while b"\r\n\r\n" not in unread:
                    unread += connection.recv(65_536) or b"\r\n\r\n"
                head, _, unread = unread.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                while len(unread) < length:
                    unread += connection.recv(65_536)
                asked, unread = json.loads(unread[:length]), unread[length:]
                self.asked += 1
                self.heads.append(head)
                time.sleep(0.1)
                said = {"content": asked["messages"][0]["content"]}
                body = json.dumps({"choices": [{"message": said, "finish_reason": "stop"}]}).encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: a=b; Path=/\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )


@pytest.fixture
def kept_alive():
    made = KeptAlive()
    yield made
    made.listener.close()


def asks(kind, executor):
    """What asks, over the executor's connections, again and again in one loop."""
    if kind == "sync":
        return lambda text: executor.complete(text, "m", timeout=5).text
    loop = asyncio.new_event_loop()
    return lambda text: loop.run_until_complete(executor.complete(text, "m", timeout=5)).text


each_executor = pytest.mark.parametrize("kind", ["sync", "async"])


def executor_of(kind, client, **options):
    return (Executor if kind == "sync" else AsyncExecutor)(client, **options)


@each_executor
def test_a_forked_child_gets_no_answer_of_its_parent(kept_alive, kind):
    executor = executor_of(kind, worker(kept_alive.url))
    ask = asks(kind, executor)
    assert ask("before") == "before"
    pid = os.fork()
    who = "parent" if pid else "child"
    right = False
    try:
        ask = ask if pid or kind == "sync" else asks(kind, executor)
        right = all(ask(text) == text for text in (f"{who}{n}" for n in range(4)))
    finally:
        if not pid:
            os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0, "the child's answers are its own"
    assert right, "the parent's answers are its own"


def test_a_call_that_was_begun_before_a_fork_ends_in_the_child(raw):
    forked = threading.Event()

    def say():
        yield OK + SAID
        forked.wait()
        yield SAID

    raw.say = say
    with Executor(worker(raw.url)) as executor:
        stream = iter(executor.stream("Hello", "m", timeout=5))
        assert next(stream).text == "Hi"
        pid = os.fork()
        if not pid:
            try:
                list(stream)
            except CompletionError as error:
                os._exit(0 if "parent process" in str(error) else 1)
            except BaseException:
                os._exit(2)
            os._exit(3)
        assert os.waitpid(pid, 0)[1] == 0
        forked.set()
        assert next(stream).text == "Hi", "the parent goes on"


def test_a_given_client_that_was_used_is_refused_in_a_child(kept_alive):
    executor = Executor(worker(kept_alive.url), http=httpx.Client())
    assert executor.complete("Hi", "m", timeout=5).text == "Hi"
    pid = os.fork()
    if not pid:
        try:
            executor.complete("Hi", "m", timeout=5)
        except OptionsError:
            os._exit(0)
        except BaseException:
            os._exit(2)
        os._exit(3)
    assert os.waitpid(pid, 0)[1] == 0


@each_executor
def test_no_cookie_is_kept(kept_alive, kind):
    ask = asks(kind, executor_of(kind, worker(kept_alive.url)))
    assert [ask(text) for text in "ab"] == ["a", "b"]
    assert len(kept_alive.heads) == 2
    assert not any(b"cookie:" in head.lower() for head in kept_alive.heads)


@each_call
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_used(raw, call, variable, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, raw.url)
    failed(call, worker(url))
    assert raw.asked == 0, "the proxy has seen nothing"


def test_no_secret_goes_through_a_given_proxy_over_plain_http(raw):
    raw.say = lambda: (HEAD % b"200 OK", GOOD)
    failure = failed("complete", worker("http://127.0.0.1:9"), http=httpx.Client(proxy=raw.url))
    assert isinstance(failure.error, PlaintextError) and "proxy" in str(failure.error)
    assert raw.asked == 0


def test_a_stream_that_is_given_up_lets_go_of_its_connection(raw):
    """It kept it until the garbage was collected."""
    gone = threading.Event()

    def say():
        try:
            yield from (OK, SAID)
            yield from dripped(b": ping\n\n")
        finally:
            gone.set()

    raw.say = say
    with Executor(worker(raw.url)) as executor:
        with executor.stream("Hello", "m", timeout=20) as stream:
            pieces = iter(stream)
            assert next(pieces).text == "Hi"
        assert gone.wait(10) and stream.completion is None
        assert list(stream) == [], "there is nothing more"
    gone.clear()

    told = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with AsyncExecutor(worker(raw.url)) as executor:
            async with executor.stream("Hello", "m", timeout=20) as stream:
                assert (await anext(aiter(stream))).text == "Hi"
            assert await asyncio.to_thread(gone.wait, 10)
            gone.clear()
            async with executor.stream("Hello", "m", timeout=20) as stream:
                async for piece in stream:
                    assert piece.text == "Hi"
                    break
            assert await asyncio.to_thread(gone.wait, 10)
            gone.clear()
            async for _ in executor.stream("Hello", "m", timeout=20):
                break
            gc.collect()
            assert await asyncio.to_thread(gone.wait, 10)

    asyncio.run(run())
    assert not told, "a loop that is left was an error of the event loop"


@pytest.mark.parametrize(("default", "is_bound"), [("-1", False), ("true", False), ("100", True)])
def test_regression_a_default_that_is_no_bound_bounded_a_budget(raw, default, is_bound):
    """As `-1`, which some servers take for none. Rust sends it."""
    raw.say = lambda: (OK, GOOD)
    entries = {
        "messages": {"source": "param:messages", "required": True},
        "max_tokens": {"source": "param:max_tokens", "default_json": default},
        "budget": {"source": "param:thinking_tokens"},
    }
    builder = {**SPECS["openai"]["request_builder"], "payload_structure": entries}
    with Executor(worker(raw.url, request_builder=builder)) as executor:
        given = {"reasoning_params": {"thinking_tokens": 1_024}}
        if is_bound:
            with pytest.raises(CallError, match="must be less than 100"):
                executor.complete("Hello", "m", **given)
        else:
            assert executor.complete("Hello", "m", **given).text == "Hi"


@pytest.mark.parametrize("wrong", [{"provider": 5}, {"router": 5}])
def test_an_id_that_is_none_is_told_of(wrong):
    with Executor(worker("http://provider.invalid")) as executor:
        with pytest.raises(CallError, match="must be the id of one"):
            executor.complete("Hello", "m", **wrong)
        with pytest.raises(CallError, match="must be the id of one"):
            executor.stream("Hello", "m", **wrong)


@each_call
def test_regression_who_waits_for_ever_met_the_end_of_the_clock(call, raw):
    raw.say = lambda: (OK, SAID, b"data: [DONE]\n\n") if "stream" in call else (OK, GOOD)
    ask(call, worker(raw.url), 1e300)


@each_call
@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True])
def test_a_timeout_that_is_none_is_told_of(call, timeout):
    with pytest.raises(CallError, match="timeout"):
        ask(call, worker("http://provider.invalid"), timeout)
