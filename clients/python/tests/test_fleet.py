"""Workers that tell the service which revision they run, and what they do not accept."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import queue
import threading
import time

import grpc
import pytest
from conftest import until
from test_fork import in_child

import signalbox
from signalbox import _fork, aio
from signalbox._watcher import Watcher


def workers(server, **request):
    return {each.id: each for each in server.call("FleetService.ListWorkers", request).workers}


def worker(server, id):
    return workers(server).get(id)


def put(server, value):
    return server.put("settings/limit", setting={"intValue": str(value)})


def refuse_above(limit):
    def validate(snapshot):
        value = snapshot.setting_int("limit", 0)
        return None if value <= limit else f"limit is above {limit}"

    return validate


def test_a_worker_is_shown_with_what_it_runs(server, connect):
    revision = put(server, 1)
    client = connect(server, worker_id="shown", worker_labels={"team": "red"})
    client.wait_revision(revision)
    found = until(lambda: (each := worker(server, "shown")) and each.applied_revision >= revision and each)
    assert (found.state, dict(found.labels), found.connected) == (1, {"team": "red"}, True)
    assert found.client_version.startswith("signalbox-python/")
    assert (found.subject, found.include_secrets) == ("worker", True)
    revision = put(server, 2)
    until(lambda: worker(server, "shown").applied_revision >= revision)
    client.close()
    until(lambda: worker(server, "shown") is None, "who leaves is gone at once")


def test_a_revision_that_is_not_accepted_is_shown_and_not_served(server, connect):
    first = put(server, 1)
    heard = []
    client = connect(server, worker_id="wary", validate=refuse_above(10))
    client.wait_revision(first)
    client.on_change(heard.append)
    second = put(server, 11)
    found = until(lambda: (each := worker(server, "wary")) and each.rejection.revision and each)
    assert (found.rejection.revision, found.rejection.reason) == (second, "limit is above 10")
    assert (found.state, found.applied_revision) == (4, first)
    assert (client.setting_int("limit"), client.status().revision) == (1, first)
    assert client.status().rejection == signalbox.Rejection(second, "limit is above 10")
    assert client.status().ready, "what was accepted last is served on"
    with pytest.raises(signalbox.RevisionNotReachedError):
        client.wait_revision(second, 0.2)
    assert heard == []
    third = put(server, 10)
    client.wait_revision(third)
    assert client.setting_int("limit") == 10
    until(lambda: heard)
    assert [(each.kind, each.before.spec.int_value, each.after.spec.int_value) for each in heard] == [
        ("updated", 1, 10)
    ]
    until(lambda: worker(server, "wary").state == 1)
    assert client.status().rejection is None


def test_a_rejection_outlives_the_stream_and_is_told_for_the_next(server, connect):
    first = put(server, 1)
    calls = []

    def validate(snapshot):
        calls.append(snapshot.revision)
        return refuse_above(10)(snapshot)

    client = connect(server, worker_id="wary", validate=validate)
    client.wait_revision(first)
    second = put(server, 11)
    until(lambda: client.status().rejection)
    server.stop()
    server.start()
    until(lambda: client.status().reconnects and client.status().last_error is None)
    found = until(lambda: (each := worker(server, "wary")) and each.rejection.revision and each)
    assert (found.rejection.revision, client.setting_int("limit")) == (second, 1)
    assert calls.count(second) == 1, "what is refused is not sent again"
    client.wait_revision(put(server, 5))


def test_a_first_state_that_is_not_accepted_leaves_nothing_to_read(server, connect):
    put(server, 11)
    client = connect(server, worker_id="wary", validate=refuse_above(10))
    with pytest.raises(signalbox.NotReadyError, match="revision 1 is not accepted: limit is above 10"):
        client.wait_ready(1)
    assert client.setting_int("limit") is None
    assert not client.status().loaded
    client.wait_revision(put(server, 1))
    assert client.setting_int("limit") == 1


def test_a_validation_that_fails_refuses_and_tells_nothing_of_why(server, connect, caplog):
    def validate(snapshot):
        if snapshot.setting_int("limit", 0) > 10:
            raise ValueError("sk-canary")

    client = connect(server, worker_id="wary", validate=validate)
    client.wait_revision(put(server, 1))
    put(server, 11)
    found = until(lambda: (each := worker(server, "wary")) and each.rejection.revision and each)
    assert found.rejection.reason == "the validation failed: ValueError"


def test_who_does_not_report_is_silent(server, connect):
    connect(server, worker_id="silent", report=False).wait_ready()
    assert until(lambda: worker(server, "silent")).state == 5


def test_a_convergence_is_waited_for(server, connect):
    clients = [connect(server, worker_id=f"w{n}") for n in range(3)]
    for client in clients:
        client.wait_ready()
    until(lambda: len(workers(server)) == 3)
    revision = put(server, time.time_ns())

    def converged():
        request = {"revision": str(revision)}
        stands = server.call("FleetService.GetConvergence", request).convergence
        return (stands.total, stands.converged) == (3, 3)

    until(converged)


def test_forks_are_workers_of_their_own(server, connect):
    client = connect(server)
    client.wait_ready()
    before = until(lambda: workers(server))

    def work():
        revision = put(server, 5)
        client.wait_revision(revision, 15)
        found = until(lambda: [each for each in workers(server) if each.endswith(f"-{os.getpid()}")])
        return found

    (child,) = in_child(work)
    assert child not in before
    revision = put(server, 6)
    mine = f"-{os.getpid()}"
    until(
        lambda: [
            each
            for each in workers(server).values()
            if each.id.endswith(mine) and each.connected and each.applied_revision >= revision
        ]
    )
    assert len([id for id in workers(server) if id.endswith(mine)]) == 1, "not its former stream as well"


def test_regression_a_row_of_fast_forks_left_sessions_of_the_parent_behind(server, connect):
    client = connect(server)
    client.wait_ready()
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    client.wait_revision(put(server, 5))
    mine = f"-{os.getpid()}"
    found = [each for each in server.call("FleetService.ListWorkers", {}).workers if each.id.endswith(mine)]
    assert [each.connected for each in found] == [True]


def test_regression_who_ended_before_it_was_in_sync_said_no_goodbye(server, connect, monkeypatch):
    """Its stream was there, and its session had no name yet: it was shown, and waited for, for a minute."""
    put(server, 1)
    take_in, made = Watcher._take_in, queue.Queue()

    def late(watcher, message, now):
        if message.WhichOneof("event") == "synced":
            until(lambda: worker(server, "hasty"))
            closing = threading.Thread(target=made.get().close)
            closing.start()
            # It is under way, and has nothing to say yet.
            closing.join(0.2)
        take_in(watcher, message, now)

    monkeypatch.setattr(Watcher, "_take_in", late)
    made.put(connect(server, worker_id="hasty"))
    until(lambda: worker(server, "hasty"))
    until(lambda: worker(server, "hasty") is None, "it said goodbye")


def _pooled(wanted):
    # A machine that is busy with other tests takes more than the moment that a goodbye is given.
    _fork._GOODBYE = 15.0
    _pool_client.wait_revision(wanted, 15)
    return os.getpid()


def _connected(wanted, url, token):
    global _pool_client
    _pool_client = signalbox.connect(signalbox.Options(url=url, token=token))
    return _pooled(wanted)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_regression_processes_of_a_pool_ended_without_a_goodbye(server, connect, method):
    global _pool_client
    revision = put(server, 1)
    _pool_client = connect(server)
    _pool_client.wait_revision(revision)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        if method == "fork":
            pids = set(pool.map(_pooled, [revision] * 4))
        else:
            pids = {pool.submit(_connected, revision, server.url, server.token()).result()}
        until(lambda: all(any(id.endswith(f"-{pid}") for id in workers(server)) for pid in pids))
    # The end of a stream takes a moment to be seen; who ends without a goodbye is shown for a minute.
    until(lambda: not [id for id in workers(server) if any(id.endswith(f"-{pid}") for pid in pids)], limit=20)


def test_a_token_that_is_no_workers_can_watch_all_the_same(server, connect):
    client = connect(server, token=server.token(role="VIEWER", secrets=False), secrets=False)
    client.wait_ready()
    until(lambda: client._reporter._report is None)
    client.wait_revision(put(server, 1))


def test_asyncio(server):
    async def run():
        options = signalbox.Options(
            url=server.url, token=server.token(), worker_id="async", validate=refuse_above(10)
        )
        async with aio.connect(options) as client:
            await client.wait_revision(await asyncio.to_thread(put, server, 1))
            await asyncio.to_thread(put, server, 11)
            found = await asyncio.to_thread(
                until, lambda: (each := worker(server, "async")) and each.rejection.revision and each
            )
            assert found.rejection.reason == "limit is above 10"
            assert client.setting_int("limit") == 1
        assert await asyncio.to_thread(until, lambda: worker(server, "async") is None)

    asyncio.run(run())


def test_an_older_service_is_followed_without_reports(server, connect, monkeypatch):
    monkeypatch.setattr("signalbox._transport._REPORT", "/signalbox.v1.FleetService/NotThereYet")
    client = connect(server, worker_id="early")
    client.wait_ready()
    until(lambda: client._reporter._report is None)
    client.wait_revision(put(server, 1))
    assert client.status().ready
    with pytest.raises(grpc.RpcError):
        server.call("FleetService.ListWorkers", {"pageSize": -1})
