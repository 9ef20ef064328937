"""Names of hosts, and their addresses: who is not found in time costs nobody else anything."""

import asyncio
import socket
import threading
import time

import httpcore
import httpx
import pytest
from test_fork import in_child
from test_hostile import GOOD, HEAD, OK, SAID, ask, each_call, failed, raw, worker

from signalbox import _backends, _lookups
from signalbox.executor import AsyncExecutor, TimedOutError
from signalbox.routing import CompletionError

__all__ = ["raw"]


@pytest.fixture
def resolver(monkeypatch):
    """One that knows `here.test`, and lets wait for any other name until it is released."""
    answering, ask = threading.Event(), socket.getaddrinfo

    def find(host, port, *args, flags=0, **options):
        host = host.decode() if isinstance(host, bytes) else host
        if flags & socket.AI_NUMERICHOST == 0 and host == "here.test":
            host = "127.0.0.1"
        elif flags & socket.AI_NUMERICHOST == 0 and not host.startswith("127."):
            answering.wait(20)
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return ask(host, port, *args, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    yield answering
    answering.set()
    for waiting in lookups():
        waiting.join(20)


def lookups():
    return [each for each in threading.enumerate() if each.name == "signalbox-lookup"]


def named(raw):
    return raw.url.replace("127.0.0.1", "here.test")


@each_call
def test_regression_the_timeout_holds_against_a_resolver_that_does_not_answer(resolver, call):
    began = time.monotonic()
    for _ in range(3):
        failure = failed(call, worker("https://provider.invalid"), 0.7)
        assert isinstance(failure.error, TimedOutError)
    assert time.monotonic() - began < 10.0, "nor does the end of a loop wait for it"
    waiting = lookups()
    assert len(waiting) == 1, "a name is looked up once at a time"
    resolver.set()
    waiting[0].join(20)
    failure = failed(call, worker("https://provider.invalid"), 5.0)
    assert "not known" in str(failure.error), "and asked for anew"


def test_regression_a_name_that_is_not_found_in_time_took_the_threads_of_a_whole_loop(raw, resolver):
    raw.say = lambda: [HEAD % b"200 OK", GOOD]
    http = httpx.AsyncClient()

    async def run():
        lost, good = worker("https://provider.invalid"), worker(named(raw))
        async with http, AsyncExecutor(lost) as own, AsyncExecutor(lost, http=http) as given:
            calls = [each.complete("Hello", "m", timeout=0.7) for each in (own, given) for _ in range(50)]
            failures = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in failures} == {CompletionError}
            async with AsyncExecutor(good, allow_plaintext=["here.test"]) as executor:
                assert (await executor.complete("Hello", "m", timeout=5)).text == "Hi"
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5) == 1, "the application's threads"
            assert len(lookups()) == 1

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10.0, "not kept from its end either"


def test_who_waits_no_longer_for_a_name_leaves_it_to_others(resolver):
    """In threads and in loops, also in one that is closed."""

    async def give_up():
        with pytest.raises(httpcore.ConnectTimeout):
            await _lookups.addresses_async("shared.invalid", 80, 0.1)

    async def wait():
        waiting = asyncio.create_task(_lookups.addresses_async("shared.invalid", 80, 10))
        await asyncio.sleep(0)
        resolver.set()
        with pytest.raises(httpcore.ConnectError, match="not known"):
            await waiting

    asyncio.run(give_up())
    with pytest.raises(httpcore.ConnectTimeout):
        _lookups.addresses("shared.invalid", 80, 0.1)
    (waited_for,) = lookups()
    asyncio.run(wait())
    waited_for.join(20)
    assert not _lookups._running


@each_call
def test_regression_a_look_up_that_got_no_thread_was_waited_for_for_ever(raw, resolver, monkeypatch, call):
    raw.say = lambda: [OK, SAID, b"data: [DONE]\n\n"] if "stream" in call else [HEAD % b"200 OK", GOOD]
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "signalbox-lookup":
            raise RuntimeError("can't start new thread")
        start(thread)

    client = worker(named(raw))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        failure = failed(call, client, 5.0, allow_plaintext=["here.test"])
        assert failure.kind == "connection" and "can't start new thread" in str(failure.error)
    assert ask(call, client, 5.0, allow_plaintext=["here.test"]) == "Hi"


class Line(httpcore.AsyncNetworkStream):
    """A connection that was made."""

    def __init__(self, address):
        self.address = address
        self.is_closed = False

    async def aclose(self):
        self.is_closed = True


class Network(httpcore.AsyncNetworkBackend):
    """Addresses that answer after some seconds each, or refuse."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.lines = []

    async def connect_tcp(self, host, port, timeout=None, *args, **options):
        self.asked.append(host)
        after = self.answers[host]
        if after is None:
            raise httpcore.ConnectError(f"{host} refuses")
        try:
            await asyncio.wait_for(asyncio.sleep(after), timeout)
        except asyncio.TimeoutError:
            raise httpcore.ConnectTimeout from None
        self.lines.append(Line(host))
        return self.lines[-1]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 0], "192.0.2.1"),
        ([60, 0], "192.0.2.2"),
        ([None, None, 0, 60], "192.0.2.3"),
        ([None, None], httpcore.ConnectError),
        ([60, 60, 60], httpcore.ConnectTimeout),
        ([], httpcore.ConnectError),
    ],
)
def test_an_address_that_does_not_answer_costs_asyncio_a_moment(monkeypatch, answers, expected):
    hosts = [f"192.0.2.{at + 1}" for at in range(len(answers))]
    network = Network(dict(zip(hosts, answers, strict=True)))
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443)) for host in hosts]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    connecting = _backends._AsyncBackend(network).connect_tcp("provider.invalid", 443, 0.7)
    began = time.monotonic()
    if isinstance(expected, str):
        assert asyncio.run(connecting).address == expected
        assert [each.is_closed for each in network.lines] == [False]
    else:
        with pytest.raises(expected):
            asyncio.run(connecting)
    assert time.monotonic() - began < 5.0
    if None in answers:
        assert network.asked == hosts[: 3 if 0 in answers else 2], "the next at once where one refuses"


def test_of_two_connections_that_race_one_is_kept():
    network = Network({"192.0.2.1": 0.3, "192.0.2.2": 0.05})

    async def run(cancel):
        racing = asyncio.create_task(
            _backends._raced(lambda address: network.connect_tcp(address, 443), ["192.0.2.1", "192.0.2.2"])
        )
        if cancel:
            await asyncio.sleep(0.1)
            racing.cancel()
        await asyncio.gather(racing, return_exceptions=True)
        return [(each.address, each.is_closed) for each in network.lines]

    assert len([closed for _, closed in asyncio.run(run(False)) if not closed]) == 1
    network.lines.clear()
    assert all(closed for _, closed in asyncio.run(run(True)))


def test_regression_a_look_up_of_the_parent_stayed_in_the_child_for_ever(resolver):
    with pytest.raises(httpcore.ConnectTimeout):
        _lookups.addresses("left.invalid", 80, 0.1)
    assert in_child(lambda: len(_lookups._running)) == 0
    assert len(_lookups._running) == 1, "the parent goes on waiting"
