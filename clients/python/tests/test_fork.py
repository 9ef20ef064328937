"""Forks: each process has a live cache of its own, and the parent's goes on."""

import asyncio
import concurrent.futures
import copy
import json
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from conftest import until

import signalbox
import signalbox.aio

ENOUGH = 15.0


def in_child(work):
    """Runs in a forked child, and returns what it gave."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = {"value": work()}
        except BaseException as error:  # The child must not run the rest of the tests.
            result = {"error": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert "error" not in result, result["error"]
    return result["value"]


def test_a_child_has_a_live_cache_and_so_has_the_parent(shared, connect):
    revision = shared.put("settings/fork", setting={"intValue": "1"})
    client = connect(shared)
    client.wait_revision(revision)
    heard = []
    client.on_change(lambda event: heard.append(event.name), "settings/fork")
    session = client.status().session_id

    def work():
        assert client.setting_int("fork") == 1, "at once, from the parent's"
        written = shared.put("settings/fork", setting={"intValue": str(time.time_ns())})
        client.wait_revision(written, ENOUGH)
        until(lambda: heard, limit=ENOUGH)
        client.close()
        return [client.setting_int("fork"), client.status().session_id]

    value, child_session = in_child(work)
    until(lambda: client.setting_int("fork") == value, limit=ENOUGH)
    assert child_session not in (session, client.status().session_id), "streams of their own"
    until(lambda: heard, limit=ENOUGH)
    assert client.status().ready


def test_forks_in_a_row_and_from_threads(shared, connect):
    client = connect(shared)
    client.wait_ready()

    def work():
        # Not what the parent had already.
        value = time.time_ns()
        client.wait_revision(
            shared.put(f"settings/rows_{os.getpid()}", setting={"intValue": str(value)}), ENOUGH
        )
        return client.setting_int(f"rows_{os.getpid()}") == value

    assert all(in_child(work) for _ in range(5))
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        assert all(threads.map(lambda _: in_child(work), range(6)))
    written = shared.put("settings/rows", setting={"intValue": "1"})
    client.wait_revision(written, ENOUGH)


def test_regression_a_fork_knows_of_a_client_that_another_thread_is_making(shared, monkeypatch):
    """Its stream was in gRPC through the fork, and children died of that."""
    known = []
    watch, before = signalbox.Client._watch, signalbox.Client._before_fork
    forker = threading.Thread(target=in_child, args=(lambda: None,))

    def watch_and_fork(self, *position):
        watch(self, *position)
        if forker.ident is None:
            forker.start()
            # It waits for the client, and this must not wait for it.
            forker.join(0.3)

    def noted(self):
        known.append(self)
        before(self)

    monkeypatch.setattr(signalbox.Client, "_watch", watch_and_fork)
    monkeypatch.setattr(signalbox.Client, "_before_fork", noted)
    with signalbox.connect(signalbox.Options(url=shared.url, token=shared.token())) as client:
        forker.join(ENOUGH)
        assert known == [client]
        client.wait_ready(ENOUGH)


def test_a_client_that_another_thread_closes_is_closed_wholly_in_a_child(shared, connect, monkeypatch):
    client = connect(shared)
    client.wait_ready()
    subscription = client.subscribe()
    found = []
    forker = threading.Thread(
        target=lambda: found.append(in_child(lambda: [client._state.closed, len(list(subscription))]))
    )
    stop = client._watcher.stop

    def stop_and_fork(*timeout):
        forker.start()
        forker.join(0.3)
        stop(*timeout)

    monkeypatch.setattr(client._watcher, "stop", stop_and_fork)
    client.close()
    forker.join(ENOUGH)
    assert found == [[True, 0]]


def test_clients_are_made_and_closed_in_threads_while_others_fork(shared, connect):
    kept = connect(shared)
    kept.wait_ready()
    options = signalbox.Options(url=shared.url, token=shared.token())
    over = threading.Event()

    def make_and_close():
        while not over.is_set():
            with signalbox.connect(options) as client:
                client.wait_ready(ENOUGH)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        made = [threads.submit(make_and_close) for _ in range(2)]
        try:
            for _ in range(10):
                assert in_child(lambda: kept.wait_ready(ENOUGH) or kept.status().loaded)
        finally:
            over.set()
        for each in made:
            each.result()


def test_a_child_of_a_child(shared, connect):
    client = connect(shared)
    client.wait_ready()

    def grandchild():
        written = shared.put("settings/grand", setting={"intValue": str(time.time_ns())})
        client.wait_revision(written, ENOUGH)
        return True

    assert in_child(lambda: in_child(grandchild))


_pool_client = None


def _work(wanted):
    _pool_client.wait_revision(wanted, ENOUGH)
    return os.getpid(), _pool_client.setting_int("pool"), _pool_client.status().session_id


def test_a_process_pool(shared, connect):
    global _pool_client
    _pool_client = connect(shared)
    _pool_client.wait_ready()
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        list(pool.map(_work, [0] * 6))
        revision = shared.put("settings/pool", setting={"intValue": "42"})
        results = list(pool.map(_work, [revision] * 12))
    assert {value for _, value, _ in results} == {42}
    pids, sessions = {pid for pid, _, _ in results}, {session for _, _, session in results}
    assert len(sessions) == len(pids)


def _spawned(url, token):
    with signalbox.connect(signalbox.Options(url=url, token=token)) as client:
        client.wait_ready(ENOUGH)
        return client.setting_int("spawned"), client.status().session_id


def test_spawned_processes_connect_themselves(shared, connect):
    value = time.time_ns()
    shared.put("settings/spawned", setting={"intValue": str(value)})
    client = connect(shared)
    client.wait_ready()
    session = client.status().session_id
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        found, other = pool.submit(_spawned, shared.url, shared.token()).result(60)
    assert found == value and other != session
    assert client.status().session_id == session and client._state.health.streams == 1, (
        "nothing happens to the parent's"
    )


def test_options_are_not_pickled(shared):
    """They would take the token along, to wherever a pool sends them."""
    options = signalbox.Options(url=shared.url, token="canary", cache_key="k" * 32)
    with pytest.raises(TypeError, match="in each process"):
        pickle.dumps(options)
    assert copy.deepcopy(options) is copy.copy(options) is options


def test_a_subscription_goes_on_in_a_child_and_ends_with_its_client(shared, connect):
    client = connect(shared)
    client.wait_ready()
    subscription = client.subscribe()

    def work():
        name = f"settings/subscribed_{os.getpid()}"
        shared.put(name, setting={"intValue": "1"})
        found = until(
            lambda: (changes := subscription.next(1)) and [e.name for e in changes.events], limit=ENOUGH
        )
        client.close()
        return [found, name, [[e.name for e in each.events] for each in subscription]]

    found, name, more = in_child(work)
    assert found == [name] and more == []
    assert not subscription.closed


def test_a_loops_subscription_ends_in_a_child(shared, connect):
    """Its loop is the parent's, and is not woken from there."""

    async def main():
        async with signalbox.aio.connect(signalbox.Options(url=shared.url, token=shared.token())) as client:
            await client.wait_ready()
            changes = client.changes()
            assert in_child(lambda: changes._subscription.closed and changes._subscription.next(0) is None)
            assert not changes._subscription.closed

    asyncio.run(main())


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn_with_preforked_workers(shared, tmp_path, worker):
    shared.put("settings/a", setting={"intValue": "1"})
    environment = {**os.environ, "TEST_URL": shared.url, "TEST_TOKEN": shared.token()}
    here = pathlib.Path(__file__).parent
    arguments = [
        "--preload",
        "--workers",
        "3",
        "--threads",
        "2",
        "--worker-class",
        worker,
        "--bind",
        "127.0.0.1:0",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments, "--chdir", str(here), "preforked:app"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        text = until(lambda: (t := (tmp_path / "log").read_text()) and "Listening at" in t and t)
        url = text.split("Listening at: ")[1].split()[0]

        def ask():
            with urllib.request.urlopen(url, timeout=ENOUGH) as answer:
                return json.loads(answer.read())

        def workers():
            answers = {}
            for _ in range(30):
                answer = ask()
                answers[answer["pid"]] = answer
            return answers

        answers = until(lambda: len(found := workers()) >= 2 and found)
        until(lambda: all(each["ready"] for each in workers().values()), limit=ENOUGH)
        shared.put("settings/a", setting={"intValue": str(value := time.time_ns())})
        until(lambda: all(each["a"] == value and each["heard"] for each in workers().values()), limit=ENOUGH)
        answers = workers()
        assert len({each["session"] for each in answers.values()}) == len(answers), "a stream for each worker"
        victim = next(iter(answers))
        os.kill(victim, 9)
        until(lambda: len(found := workers()) >= 2 and victim not in found, limit=ENOUGH)
        until(lambda: all(each["ready"] and each["a"] == value for each in workers().values()), limit=ENOUGH)
    finally:
        process.terminate()
        process.wait(ENOUGH)


def test_regression_each_fork_of_a_row_waited_for_a_server_that_says_nothing(server, connect):
    """A prefork server of thirty children took half a minute, with the lock on forks held."""
    client = connect(server)
    client.wait_ready()
    server.process.send_signal(signal.SIGSTOP)
    try:
        took = []
        for _ in range(5):
            began = time.monotonic()
            in_child(lambda: None)
            took.append(time.monotonic() - began)
            # The stream that follows is asked for, and stays without an answer.
            until(lambda: client._watcher._nameless)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert sum(each >= 1.0 for each in took) <= 1, took
    client.wait_revision(server.put("settings/fork", setting={"intValue": "1"}))
