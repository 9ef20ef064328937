"""The cache on disk: a start without the service, and what is refused."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import Proxy, until

import signalbox
from signalbox import CacheError, CredentialFileError, NotReadyError, SecretError, Staleness
from signalbox._disk_cache import DiskCache, Saved, identity, read_key_file
from signalbox._replica import Cursor

KEY = "a-secret-of-at-least-thirty-two-characters"


@pytest.fixture
def kept(server, connect, tmp_path):
    """A cache file that a worker has left behind, and options that open it."""
    server.put("providers/groq", provider={"type": "PROVIDER_TYPE_GROQ"})
    server.put("providers/groq/apiKeys/prod", apiKey={"secret": {"value": "gsk-canary-77"}})
    revision = server.put("settings/a", setting={"intValue": "1"})
    path = tmp_path / "cache" / "worker"
    options = {"cache_file": path, "cache_key": KEY, "token": server.token()}
    client = connect(server, **options)
    client.wait_revision(revision)
    client.close()
    assert path.exists(), "what is due is written at the end"
    server.kill()
    return path, options


def refused(server, connect, options, **changes):
    client = connect(server, **{**options, **changes})
    with pytest.raises(NotReadyError):
        client.wait_ready(timeout=0.3)
    error = client.status().cache_error
    assert isinstance(error, CacheError)
    assert client.provider("groq") is None
    return str(error)


def test_a_worker_starts_within_200_ms_while_the_service_is_down(server, connect, kept):
    _, options = kept
    took = []
    # The best of three: other work on the machine is not what is measured.
    for _ in range(3):
        began = time.monotonic()
        client = connect(server, **options)
        client.wait_ready()
        took.append(time.monotonic() - began)
    assert min(took) < 0.2, took
    assert client.setting_int("a") == 1
    assert client.api_key("groq", "prod").secret().expose() == "gsk-canary-77"
    status = client.status()
    assert (status.source, status.loaded, status.ready) == ("disk", True, False), "to be read, but not fresh"


def test_it_goes_on_from_there_when_the_service_is_back(server, connect, kept):
    _, options = kept
    client = connect(server, **options)
    client.wait_ready()
    subscription = client.subscribe()
    server.start()
    revision = server.put("settings/b", setting={"intValue": "2"})
    client.wait_revision(revision)
    assert [event.name for event in subscription.next(10).events] == ["settings/b"], "resumed from its token"
    assert client.status().source == "stream" and client.status().resets == 0


def test_the_service_takes_over_when_it_answers(server, connect, kept):
    _, options = kept
    server.start()
    revision = server.put("settings/a", setting={"intValue": "9"})
    client = connect(server, **options)
    client.wait_ready()
    client.wait_revision(revision)
    assert client.setting_int("a") == 9


def test_the_file_is_private_and_shows_nothing(kept):
    path, _ = kept
    content = path.read_bytes()
    assert b"canary" not in content and b"groq" not in content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["worker"], "no temporary file is left"


@pytest.mark.parametrize("at", [30, 45, 60, -1])
def test_a_tampered_one_is_refused(server, connect, kept, at):
    path, options = kept
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert "changed" in refused(server, connect, options)


@pytest.mark.parametrize("size", [0, 10, 40, 200])
def test_a_truncated_one_is_refused(server, connect, kept, size):
    path, options = kept
    path.write_bytes(path.read_bytes()[:size])
    refused(server, connect, options)


@pytest.mark.parametrize(
    "urls", ["{}", "{}/", "http://127.0.0.1:1,{}", "http://LOCALHOST:1,{},http://[::1]:1"]
)
def test_replicas_may_be_added_and_spelt_otherwise(server, connect, kept, urls):
    _, options = kept
    client = connect(server, **{**options, "url": urls.format(server.url)})
    client.wait_ready(timeout=1)
    assert client.status().source == "disk" and client.setting_int("a") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_key": KEY[::-1]},
        {"url": "http://127.0.0.1:1"},
        {"secrets": False},
        {"selectors": "settings/*"},
        {"token": "e30.eyJzdWIiOiAic29tZWJvZHkgZWxzZSJ9.c2ln"},
    ],
)
def test_a_foreign_one_is_refused(server, connect, kept, changes):
    _, options = kept
    assert "of another key, service, view or token subject" in refused(server, connect, options, **changes)


def test_one_that_others_may_read_is_refused(server, connect, kept):
    path, options = kept
    path.chmod(0o640)
    assert "others" in refused(server, connect, options)
    path.chmod(0o600)
    link = path.parent / "link"
    link.symlink_to(path)
    refused(server, connect, options, cache_file=link)


def aged(path, options, seconds, server):
    """Makes the cache one that was confirmed so long ago."""
    client_options = signalbox.Options(url=server.url, secrets=True, progress_interval=1.0, **options)
    from signalbox.client import _disk_cache
    from signalbox.settings import Overrides

    cache = _disk_cache(client_options)
    saved = cache.load(Overrides())
    path.unlink()
    cache.save(Saved(saved.snapshot, saved.cursor, time.time() - seconds, saved.subject))


def test_one_beyond_its_age_is_refused(server, connect, kept):
    path, options = kept
    aged(path, options, 90_000, server)
    assert "limit" in refused(server, connect, options)
    aged_later = {**options, "cache_max_age": 1e9}
    aged(path, aged_later, -4_000, server)
    assert "future" in refused(server, connect, aged_later)


def test_credentials_older_than_their_limit_are_refused(server, connect, kept):
    path, options = kept
    aged(path, options, 4_000, server)
    client = connect(server, **options)
    client.wait_ready()
    with pytest.raises(SecretError) as error:
        client.api_key("groq", "prod").secret()
    assert error.value.reason == "stale"
    assert client.setting_int("a") == 1, "the rest is served on"
    trusting = connect(server, **options, staleness=Staleness(secrets=None))
    trusting.wait_ready()
    assert trusting.api_key("groq", "prod").secret().expose() == "gsk-canary-77"


def test_a_revocation_is_kept(tmp_path):
    from signalbox.settings import Overrides
    from signalbox.snapshot import Draft
    from signalbox.testing import FakeClient

    fake = FakeClient({"providers/p/apiKeys/a": {"apiKey": {"secret": {"value": "s"}}}})
    fake.revoke("providers/p/apiKeys/a")
    cache = DiskCache(
        tmp_path / "c", b"k" * 32, lambda subject: identity(("http://a:1",), [], True, subject), 60
    )
    cache.save(Saved(fake.snapshot(), Cursor("t", "v"), time.time()))
    loaded = cache.load(Overrides()).snapshot
    assert loaded.api_key("p", "a").revoked
    after = Draft(loaded).publish(loaded, {})
    assert after.api_key("p", "a").secret().expose() == "s"
    assert loaded.digest == fake.snapshot().digest


def test_a_key_file_is_checked(server, connect, kept, tmp_path):
    _, options = kept
    key = tmp_path / "cache.key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    given = {"cache_file": options["cache_file"], "cache_key_file": key, "token": options["token"]}
    client = connect(server, **given)
    client.wait_ready()
    assert client.status().source == "disk"
    for mode, content in ((0o644, KEY), (0o600, "short")):
        key.chmod(0o600)
        key.write_text(content)
        key.chmod(mode)
        with pytest.raises(CredentialFileError):
            connect(server, **given)
    with pytest.raises(CredentialFileError):
        connect(server, **{**given, "cache_key_file": tmp_path / "none"})


def test_what_is_no_file_is_not_waited_for(server, connect, kept, tmp_path):
    """A FIFO in place of the cache or of its key: nobody writes to it, and connecting returns all the same."""
    path, options = kept
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "no file" in refused(server, connect, options)
    path.unlink()
    path.mkdir(mode=0o700)
    assert "no file" in refused(server, connect, options)
    key = tmp_path / "fifo.key"
    given = {"cache_file": tmp_path / "other", "cache_key_file": key, "token": options["token"]}
    os.mkfifo(key, 0o600)
    with pytest.raises(CredentialFileError, match="no file"):
        connect(server, **given)
    key.unlink()
    key.mkdir(mode=0o700)
    with pytest.raises(CredentialFileError, match="no file"):
        connect(server, **given)


def test_a_key_file_is_read_within_bounds_and_through_links(tmp_path):
    key = tmp_path / "cache.key"
    key.write_text("k" * 100_000)
    key.chmod(0o600)
    with pytest.raises(CredentialFileError, match="at most"):
        read_key_file(key)
    key.write_text(KEY)
    link = tmp_path / "link"
    link.symlink_to(key)
    assert read_key_file(link) == KEY.encode(), "orchestrators put secrets in place by links"


def test_it_is_of_whom_its_state_came_for(server, connect, kept, tmp_path):
    """A token that was read since, and with which nothing came, does not make the state its own."""
    path, options = kept
    server.start()
    token_file = tmp_path / "token"
    token_file.write_text(options["token"])
    given = {"cache_file": path, "cache_key": KEY, "token_file": token_file}
    other = server.token(subject="other", grants=("settings/",))
    client = connect(server, **given)
    until(lambda: client.status().source == "stream" and client.status().ready)
    asked = []
    read = client._token.read
    client._token.read = lambda: asked.append(1) or read()
    server.kill()
    token_file.write_text(other)
    until(lambda: len(asked) >= 2, "streams with the other token")
    client._saver.changed(urgent=True)
    client.close()
    refused(server, connect, {"cache_file": path, "cache_key": KEY, "token": other})
    mine = connect(server, **options)
    mine.wait_ready()
    assert mine.api_key("groq", "prod").secret().expose() == "gsk-canary-77"


def test_an_older_state_is_not_put_over_a_newer_one(server, connect, tmp_path):
    """A worker that was cut off shares the file with one that knows of a revocation."""
    server.put("providers/groq", provider={"type": "PROVIDER_TYPE_GROQ"})
    server.put("providers/groq/apiKeys/prod", apiKey={"secret": {"value": "gsk-leaked-77"}})
    proxy = Proxy(server.port)
    path = tmp_path / "cache"
    options = {"cache_file": path, "cache_key": KEY, "token": server.token()}
    knowing = connect(server, url=[server.url, proxy.url], **options)
    knowing.wait_ready()
    cut_off = connect(server, url=[proxy.url], **options)
    cut_off.wait_ready()
    until(path.exists)
    proxy.freeze()
    # What it had to write is written before the other writes.
    cut_off._saver.stop(20)
    knowing.wait_revision(server.delete("providers/groq/apiKeys/prod"))
    knowing.close()
    written = path.read_bytes()
    cut_off._saver._save()
    cut_off.close()
    assert cut_off.api_key("groq", "prod") is not None
    assert path.read_bytes() == written
    proxy.close()


def test_which_state_is_the_later(tmp_path):
    from signalbox.settings import Overrides
    from signalbox.snapshot import Draft, Snapshot

    def saved(revision, confirmed, revoked=None, view="v"):
        empty = Snapshot(Overrides())
        draft = Draft(empty)
        draft.revision = revision
        return Saved(draft.publish(empty, revoked or {}), Cursor("t", view), now + confirmed)

    now = time.time() - 200
    cases = (
        ("a lower revision", saved(5, 0), saved(4, 1), False),
        ("the same, confirmed later", saved(5, 0), saved(5, 10), True),
        ("a higher one", saved(5, 0), saved(6, 0), True),
        ("another view", saved(5, 0), saved(4, 0, view="w"), True),
        ("another life that is newer", saved(5, 100), saved(3, 180), True),
        ("another life that is over", saved(5, 0), saved(3, 100), True),
        ("a life that is over, over a newer one", saved(3, 100), saved(50, 0), False),
        ("one that knows a revocation", saved(6, 0), saved(5, 0, {"providers/p": 7}), True),
        ("one of the future gives way", saved(9, 900), saved(4, 0), True),
    )
    for what, first, second, replaces in cases:
        path = tmp_path / "c"
        path.unlink(missing_ok=True)
        cache = DiskCache(path, b"k" * 32, lambda subject: identity(("http://a:1",), [], True, subject), 60)
        cache.save(first)
        before = path.read_bytes()
        cache.save(second)
        assert (path.read_bytes() != before) is replaces, what


def test_clearing_is_not_undone_at_the_end(server, connect, kept):
    path, options = kept
    server.start()
    client = connect(server, **options)
    until(lambda: client.status().source == "stream" and client.status().ready)
    server.kill()
    client._saver.changed()
    with pytest.raises(NotReadyError):
        client.clear_cache(timeout=0.2)
    assert not path.exists()
    client.close()
    assert not path.exists()


def test_what_killed_processes_left_is_removed(server, connect, kept):
    path, options = kept
    old, ours = time.time() - 120, [".worker.abcd_123", ".worker.0123456789abcdef"]
    others = [".worker.abcd_123x", "worker.abcd_123", ".other.abcd_123"]

    def left():
        for name in (*ours, *others):
            (path.parent / name).write_text("")
            os.utime(path.parent / name, (old, old))
        (path.parent / ".worker.new_4567").write_text("")

    def remain():
        return sorted(each.name for each in path.parent.iterdir() if each.name != "worker")

    left()
    client = connect(server, **options)
    client.wait_ready()
    assert remain() == sorted([*others, ".worker.new_4567"])
    left()
    with pytest.raises(NotReadyError):
        client.clear_cache(timeout=0.1)
    assert remain() == sorted([*others, ".worker.new_4567"])


def test_clearing_removes_it(server, connect, kept):
    path, options = kept
    server.start()
    client = connect(server, **options)
    client.wait_ready()
    before = path.stat().st_ino
    client.clear_cache()
    assert client.setting_int("a") == 1
    until(lambda: path.exists() and path.stat().st_ino != before)


def test_a_place_that_can_not_be_written_is_told(server, connect, tmp_path):
    (tmp_path / "file").write_text("")
    client = connect(server, cache_file=tmp_path / "file" / "cache", cache_key=KEY)
    client.wait_ready()
    until(lambda: client.status().cache_error is not None)
    assert client.status().ready


def test_ten_thousand_resources_are_read_within_the_time(tmp_path):
    """In a process of its own, with what it costs to import."""
    from signalbox.testing import FakeClient

    fake = FakeClient()
    draft = fake._draft()
    from google.protobuf import json_format

    from signalbox import _proto
    from signalbox.resources import view_of

    for n in range(10_000):
        message = json_format.ParseDict(
            {"name": f"settings/k{n}", "setting": {"intValue": n}}, _proto.Resource()
        )
        draft.upsert(view_of(message))
    fake._publish(draft, None)
    options = signalbox.Options(url="http://127.0.0.1:1", cache_file=tmp_path / "c", cache_key=KEY)
    from signalbox.client import _disk_cache

    _disk_cache(options).save(Saved(fake.snapshot(), Cursor("t", "v"), time.time()))
    script = """
import json, sys, time
import signalbox
began = time.monotonic()
client = signalbox.connect(signalbox.Options(url="http://127.0.0.1:1", cache_file=sys.argv[1], cache_key=sys.argv[2]))
client.wait_ready()
print(json.dumps([time.monotonic() - began, len(client.snapshot()), client.setting_int("k9999")]))
"""
    results = []
    for _ in range(3):
        command = [sys.executable, "-c", script, str(tmp_path / "c"), KEY]
        output = subprocess.run(command, capture_output=True, env=dict(os.environ), check=True)
        results.append(json.loads(output.stdout))
    assert all(rest == [10_000, 9_999] for _, *rest in results)
    assert min(took for took, *_ in results) < 0.2, results
