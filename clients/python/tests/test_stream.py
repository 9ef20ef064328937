"""The client beside a real server: pushed to, restarted, killed, cut off, refused."""

import contextlib
import itertools
import pathlib
import secrets
import threading
import time

import grpc
import pytest
from conftest import Proxy, Server, until

import signalbox
from signalbox import NotReadyError, RevisionNotReachedError, SecretError, Staleness

GROQ = {"type": "PROVIDER_TYPE_GROQ"}


def key(secret):
    return {"secret": {"value": secret}}


def number(value):
    return {"intValue": str(value)}


def test_a_write_reaches_getters_callbacks_and_subscribers(shared, connect):
    client = connect(shared)
    client.wait_ready()
    heard, told = [], threading.Event()
    client.on_change(lambda event: (heard.append(event), told.set()), "providers/push/*")
    subscription = client.subscribe()
    shared.put("providers/push", provider=GROQ)
    revision = shared.put("providers/push/apiKeys/main", apiKey=key("gsk-1"))
    client.wait_revision(revision)
    assert client.provider("push").spec.base_url.startswith("https://"), "the type's defaults are filled in"
    assert client.api_key("push", "main").secret().expose() == "gsk-1"
    assert told.wait(10)
    assert [(event.kind, event.name, event.actor) for event in heard] == [
        ("created", "providers/push/apiKeys/main", "admin")
    ]
    names = [event.name for _ in range(2) for event in subscription.next(10).events]
    assert names == ["providers/push", "providers/push/apiKeys/main"]
    status = client.status()
    assert status.ready and status.source == "stream" and status.session_id and status.last_error is None
    with pytest.raises(RevisionNotReachedError):
        client.wait_revision(revision + 1_000, timeout=0.05)


def test_a_batch_comes_as_one(shared, connect):
    client = connect(shared, selectors="settings/*")
    client.wait_ready()
    subscription = client.subscribe()
    operations = [
        {"create": {"resource": {"name": f"settings/batch_{n}", "setting": number(n)}}} for n in range(300)
    ]
    revision = shared.call("ConfigService.BatchWrite", {"operations": operations}).revision
    changes = subscription.next(10)
    assert (len(changes.events), changes.snapshot.revision) == (300, revision)
    assert subscription.next(0) is None


def test_the_digest_is_the_servers(shared, connect):
    client = connect(shared, token=shared.admin_token, secrets=False)
    client.wait_ready()
    for n in range(5):
        shared.put(f"settings/digest_{n}", setting=number(n))
    revision = shared.delete("settings/digest_3")
    client.wait_revision(revision)
    assert client.snapshot().digest == shared.call("AdminService.GetStatus", {}).digest
    # Heartbeats carry it too: one that differed would be counted.
    until(lambda: client.status().confirmed_age < 1.0)
    assert client.status().digest_mismatches == 0


def test_secrets_only_where_they_are_asked_for(shared, connect):
    shared.put("providers/quiet", provider=GROQ)
    revision = shared.put("providers/quiet/apiKeys/main", apiKey=key("gsk-2"))
    client = connect(shared, secrets=False)
    client.wait_revision(revision)
    with pytest.raises(SecretError) as refused:
        client.api_key("quiet", "main").secret()
    assert refused.value.reason == "masked"


def test_a_missing_right_is_told_at_once(shared, connect):
    client = connect(shared, token=shared.token(secrets=False))
    with pytest.raises(NotReadyError) as refused:
        client.wait_ready(timeout=60)
    assert refused.value.is_fatal
    error = refused.value.last_error
    assert (error.code, error.details.reason is not None) == ("PERMISSION_DENIED", True)


def test_nobody_there_is_told_when_the_time_is_over(connect, shared):
    client = connect(shared, url="http://127.0.0.1:1", token="x")
    with pytest.raises(NotReadyError) as refused:
        client.wait_ready(timeout=0.3)
    assert refused.value.last_error.code == "UNAVAILABLE" and not refused.value.is_fatal
    assert not client.status().loaded


def test_the_next_endpoint_is_taken(shared, connect):
    client = connect(shared, url=["http://127.0.0.1:1", shared.url])
    client.wait_ready()
    assert client.status().source == "stream"


def test_a_cache_is_cleared_by_a_new_snapshot(shared, connect):
    revision = shared.put("settings/cleared", setting=number(1))
    client = connect(shared)
    client.wait_revision(revision)
    before, subscription = client.snapshot(), client.subscribe()
    client.clear_cache()
    assert client.snapshot().get("settings/cleared") is not before.get("settings/cleared")
    assert client.snapshot().digest == before.digest
    assert subscription.next(0) is None, "the same state is no change"


def test_metrics_tell_what_happens(shared, connect):
    told = {}
    client = connect(shared, metrics=lambda name, value: told.update({name: value}))
    client.wait_ready()
    revision = shared.put("settings/measured", setting=number(time.time_ns()))
    client.wait_revision(revision)
    until(lambda: told.get("revision", 0) >= revision and told.get("changes") == 1)


def test_a_restart_is_resumed_from_the_token(server, connect):
    first = server.put("settings/a", setting=number(1))
    client = connect(server)
    client.wait_revision(first)
    subscription = client.subscribe()
    server.stop()
    until(lambda: client.status().last_error is not None or client.status().reconnects)
    assert client.setting_int("a") == 1, "served while nobody is there"
    server.start()
    revision = server.put("settings/b", setting=number(2))
    client.wait_revision(revision)
    status = client.status()
    assert (status.resets, status.digest_mismatches) == (0, 0)
    assert status.reconnects >= 1
    changes = [event.name for event in subscription.next(10).events]
    assert changes == ["settings/b"], "exactly what was missed"


def write_until_refused(server, round, written):
    """Writes for as long as somebody answers."""
    with contextlib.suppress(grpc.RpcError):
        for n in itertools.count():
            value = number(round * 10_000 + n)
            written.append(server.put(f"settings/k{n % 20}", wait=False, setting=value))


def test_kill_9_under_load_leaves_a_cache_that_equals_the_store(server, connect):
    client = connect(server, token=server.admin_token, secrets=False, selectors="settings/*")
    for round in range(3):
        written = []
        writer = threading.Thread(target=write_until_refused, args=(server, round, written))
        writer.start()
        until(lambda written=written: len(written) > 10 and client.status().revision > written[5])
        server.kill()
        writer.join()
        server.start()
        revision = server.put(f"settings/after_{round}", setting=number(round))
        client.wait_revision(revision, timeout=20)
    stored = server.call(
        "ConfigService.ListResources", {"selectors": [{"prefix": "settings/"}], "pageSize": 1000}
    )
    assert {each.name: each.update_revision for each in stored.resources} == {
        each.name: each.update_revision for each in client.select()
    }
    assert client.status().digest_mismatches == 0


def test_a_compaction_resets_who_was_away(server, connect):
    proxy = Proxy(server.port)
    try:
        client = connect(server, url=proxy.url)
        client.wait_revision(server.put("settings/a", setting=number(1)))
        server.put("settings/gone", setting=number(1))
        proxy.refusing = True
        proxy.cut()
        until(lambda: client.status().last_error is not None)
        server.delete("settings/gone")
        for n in range(5):
            revision = server.put("settings/a", setting=number(n + 10))
        server.call("AdminService.CompactLog", {"revision": str(revision)})
        # What it has in memory would do for an exact resume.
        server.stop()
        server.start()
        direct = connect(server)
        direct.wait_revision(revision)
        proxy.refusing = False
        client.wait_revision(revision, timeout=20)
        assert client.status().resets == 1
        assert client.snapshot().digest == direct.snapshot().digest
        assert client.setting("gone") is None
    finally:
        proxy.close()


def test_a_silent_network_is_noticed(server, connect):
    proxy = Proxy(server.port)
    try:
        client = connect(server, url=[proxy.url], staleness=Staleness(bound=1.5))
        client.wait_revision(server.put("settings/a", setting=number(1)))
        assert client.status().ready
        proxy.freeze()
        until(lambda: not client.status().ready, limit=5)
        assert client.setting_int("a") == 1
        until(lambda: client.status().last_error is not None)
        proxy.cut()
        proxy.thaw()
        revision = server.put("settings/a", setting=number(2))
        client.wait_revision(revision)
        until(lambda: client.status().ready)
    finally:
        proxy.close()


def test_an_expired_token_is_read_again(server, connect, tmp_path):
    path = tmp_path / "worker.token"
    path.write_text(server.token(ttl="2s"))
    client = connect(server, token_file=path)
    client.wait_ready()
    until(lambda: client.status().last_error is not None)
    assert client.status().last_error.code == "UNAUTHENTICATED"
    assert not client.status().last_error.is_fatal
    path.write_text(server.token() + "\n")
    revision = server.put("settings/a", setting=number(1))
    client.wait_revision(revision)
    assert client.status().last_error is None


def test_a_token_callback_is_asked_at_each_connection(server, connect):
    asked = []

    def token():
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("not yet")
        return server.token()

    client = connect(server, token_callback=token)
    client.wait_ready()
    assert len(asked) >= 2


def test_a_store_that_was_replaced_is_noticed(tmp_path, connect):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    server = Server(tmp_path / "one", {"SIGNALBOX_JWT_SECRET": secrets.token_urlsafe(40)})
    try:
        client = connect(server)
        client.wait_revision(server.put("settings/a", setting=number(1)))
        server.kill()
        server.folder = tmp_path / "two"
        server.start()
        server.put("settings/b", setting=number(2))
        until(lambda: client.setting("b") is not None)
        assert client.setting("a") is None
        assert client.status().resets == 1
    finally:
        server.kill()


def test_close_ends_everything(shared):
    before = threading.active_count()
    client = signalbox.connect(signalbox.Options(url=shared.url, token=shared.token()))
    client.wait_ready()
    client.on_change(lambda event: None)
    waiting = threading.Thread(target=list, args=(client.subscribe(),))
    waiting.start()
    client.close()
    client.close()
    waiting.join(10)
    assert not waiting.is_alive()
    until(lambda: threading.active_count() <= before)
    with pytest.raises(signalbox.ClosedError):
        client.wait_ready()
    with pytest.raises(signalbox.ClosedError):
        client.subscribe()
    assert client.snapshot() is not None


def test_waits_end_when_the_client_is_closed(shared):
    options = signalbox.Options(url=shared.url, token=shared.token())
    client = signalbox.connect(options)
    client.wait_ready()
    ended = []

    def wait():
        with pytest.raises(signalbox.ClosedError):
            client.wait_revision(10**9, timeout=60)
        ended.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    client.close()
    waiting.join(10)
    assert ended == [True]
    with pytest.raises(signalbox.ClosedError):
        client.clear_cache()
    client.wait_revision(0, timeout=0)


def sockets():
    found = 0
    for each in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(each.readlink()).startswith("socket:")
    return found


def test_regression_each_stream_left_its_connection_behind(server):
    """Open for good on either side: after each close, each reconnect and each fork."""
    options = signalbox.Options(url=server.url, token=server.token(), progress_interval=1.0)
    before = sockets()
    for _ in range(5):
        with signalbox.connect(options) as client:
            client.wait_ready()
    until(lambda: sockets() <= before, "every connection that was closed")
    with signalbox.connect(options) as client:
        client.wait_ready()
        open_ones = sockets()
        for n in range(1, 6):
            client.clear_cache()
            assert client.status().reconnects >= n
        until(lambda: sockets() <= open_ones, "every connection that was left")
        server.stop()
        server.start()
        until(lambda: client.status().reconnects > 5 and client.status().last_error is None)
        until(lambda: sockets() <= open_ones, "the connection that the server has ended")


def test_a_token_over_plain_http_to_another_machine_is_warned_of(caplog):
    def warned(url, **options):
        caplog.clear()
        signalbox.connect(signalbox.Options(url=url, report=False, **options)).close()
        return [each for each in caplog.messages if "plain http" in each]

    assert len(warned("http://192.0.2.1:1,https://a.invalid", token="canary")) == 1
    assert "canary" not in caplog.text
    assert warned("http://127.0.0.1:1,http://[::1]:1,http://localhost:1", token="t", secrets=True) == []
    assert warned("http://192.0.2.1:1") == []
