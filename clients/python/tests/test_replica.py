"""The watch contract on the client's side, message by message."""

import time

import pytest

from signalbox import SecretError, Snapshot, _proto
from signalbox._replica import Cursor, DigestError, Replica
from signalbox.errors import DesyncError
from signalbox.settings import Overrides

Message = _proto.WatchConfigResponse


def key(name, revision, secret="s"):
    resource = _proto.Resource(name=f"providers/p/apiKeys/{name}", update_revision=revision)
    resource.api_key.secret.value = secret
    return resource


def snapshot(revision, *resources, last=True):
    return Message(snapshot={"revision": revision, "resources": resources, "last": last})


def synced(revision):
    return Message(
        synced={"revision": revision, "resume_token": f"t{revision}", "view_id": "v", "session_id": "s"}
    )


def changes(revision, *resources, deleted=(), last=True):
    told = [{"type": 2, "name": each.name, "resource": each} for each in resources]
    told += [{"type": 3, "name": name} for name in deleted]
    return Message(
        changes={
            "revision": revision,
            "changes": told,
            "last": last,
            "resume_token": f"t{revision}" if last else "",
        }
    )


def progress(revision, digest=b""):
    return Message(progress={"revision": revision, "resume_token": f"t{revision}", "digest": digest})


def revoked(revision, *names):
    return Message(revoked={"revision": revision, "names": names})


def reset(reason):
    return Message(reset={"reason": reason})


def replica(*messages):
    made = Replica.empty(Overrides())
    made.begin_stream()
    for message in messages:
        made.apply(message)
    return made


def live():
    return replica(snapshot(5, key("a", 4)), synced(5))


def names(made):
    return sorted(made.served._resources)


def test_a_snapshot_is_served_as_a_whole():
    made = replica(snapshot(5, key("a", 4), last=False), snapshot(5, key("b", 5)))
    assert names(made) == []
    applied = made.apply(synced(6))
    assert [event.kind for event in applied.changes.events] == ["created", "created"]
    assert (made.served.revision, made.cursor) == (6, Cursor("t6", "v"))


def test_a_revision_is_served_as_a_whole():
    made = live()
    made.apply(changes(7, key("b", 7), last=False))
    assert (names(made), made.cursor.resume_token) == (["providers/p/apiKeys/a"], "t5")
    applied = made.apply(changes(7, deleted=["providers/p/apiKeys/a"]))
    assert names(made) == ["providers/p/apiKeys/b"]
    assert [event.kind for event in applied.changes.events] == ["created", "deleted"]
    assert made.cursor == Cursor("t7", "v")


def test_a_lost_stream_forgets_what_it_left_unfinished():
    made = live()
    made.apply(changes(7, key("b", 7), last=False))
    assert made.begin_stream() == Cursor("t5", "v")
    made.apply(changes(8, key("c", 8)))
    assert names(made) == ["providers/p/apiKeys/a", "providers/p/apiKeys/c"]


@pytest.mark.parametrize(
    "messages",
    [
        (snapshot(6, key("b", 6)),),
        (changes(5, key("b", 5)),),
        (changes(6, key("b", 6), last=False), changes(7, key("b", 7))),
        (changes(6, key("b", 6), last=False), progress(6)),
        (changes(6, key("b", 6), last=False), synced(6)),
        (progress(4),),
        (progress(6, b"short"),),
        (reset(1), changes(6, key("b", 6))),
        (reset(1), progress(6)),
        (reset(1), snapshot(6, last=False), synced(6)),
        (reset(1), snapshot(6, last=False), snapshot(7)),
        (reset(1), snapshot(6), synced(5)),
        (Message(changes={"revision": 6, "changes": [{"type": 2, "name": "settings/a"}], "last": True}),),
    ],
)
def test_what_breaks_the_contract_is_not_followed(messages):
    made = live()
    with pytest.raises(DesyncError):
        for message in messages:
            made.apply(message)
    assert made.cursor == Cursor(), "the next stream begins with a snapshot"
    assert names(made) == ["providers/p/apiKeys/a"], "and the old state is served on"


def test_a_digest_that_differs_is_found():
    made = live()
    made.apply(progress(6, made.served.digest))
    assert (made.served.revision, made.cursor.resume_token) == (6, "t6")
    with pytest.raises(DigestError):
        made.apply(progress(7, bytes(16)))
    assert made.begin_stream() == Cursor()
    made.apply(snapshot(7, key("a", 4)))
    made.apply(synced(7))
    for length in (1, 15, 17):
        with pytest.raises(DesyncError, match="not 16 bytes") as broken:
            live().apply(progress(7, bytes(length)))
        assert not isinstance(broken.value, DigestError), "what is no digest refutes nothing"


def test_a_revoked_secret_is_refused_until_the_cursor_has_passed():
    made = live()
    applied = made.apply(revoked(8, "providers/p/apiKeys/a"))
    (event,) = applied.changes.events
    assert (event.kind, event.revision, made.cursor.resume_token) == ("revoked", 8, "t5")
    held = made.served.api_key("p", "a")
    with pytest.raises(SecretError) as refused:
        held.secret()
    assert refused.value.reason == "revoked"
    assert not held.active
    assert made.served.active_api_keys("p") == ()
    made.apply(changes(7, key("a", 7, "still the old one")))
    with pytest.raises(SecretError):
        made.served.api_key("p", "a").secret()
    made.apply(changes(8, key("a", 8, "new")))
    assert made.served.api_key("p", "a").secret().expose() == "new"


def test_a_revocation_in_the_middle_of_a_revision_or_a_snapshot_holds():
    made = live()
    made.apply(changes(7, key("b", 7), last=False))
    made.apply(revoked(9, "providers/p/apiKeys/a", "providers/p/apiKeys/b"))
    made.apply(changes(7, key("c", 7)))
    assert [each.id for each in made.served.active_api_keys("p")] == ["c"]
    made.apply(reset(1))
    made.apply(snapshot(8, key("a", 4), key("b", 7)))
    made.apply(synced(8))
    assert made.served.active_api_keys("p") == ()
    made.apply(progress(9))
    assert len(made.served.active_api_keys("p")) == 2, "passed, and so part of the state"


def test_a_revocation_that_was_passed_already_is_none():
    made = live()
    assert made.apply(revoked(5, "providers/p/apiKeys/a")).changes is None
    assert made.served.api_key("p", "a").active


def test_in_another_life_of_the_store_revocations_hold_until_the_swap():
    made = live()
    made.apply(revoked(900, "providers/p/apiKeys/a"))
    made.apply(reset(2))
    assert made.served.active_api_keys("p") == ()
    made.apply(snapshot(3, key("a", 2)))
    made.apply(synced(3))
    assert len(made.served.active_api_keys("p")) == 1


def test_what_a_newer_server_says_is_left_out():
    made = live()
    made.apply(Message())
    unknown = _proto.Resource(name="novelties/a", update_revision=6)
    applied = made.apply(changes(6, unknown))
    assert applied.changes is None
    assert made.served.get("novelties/a") is None
    assert len(made.served) == 2, "counted in the digest all the same"


def test_a_snapshot_of_the_same_state_changes_nothing():
    made = live()
    made.apply(reset(1))
    made.apply(snapshot(6, key("a", 4)))
    assert made.apply(synced(6)).changes is None


def test_a_revision_that_is_not_accepted_is_known_and_not_served():
    made = Replica(Snapshot(Overrides()), Cursor(), lambda state: "no" if 6 <= state.revision < 8 else None)
    made.begin_stream()
    made.apply(snapshot(5, key("a", 5), key("b", 5, "old"), key("c", 5)))
    made.apply(synced(5))
    before = made.served
    applied = made.apply(changes(6, key("b", 6, "new"), deleted=["providers/p/apiKeys/a"]))
    assert (applied.rejected, made.rejection.revision, made.rejection.reason) == (True, 6, "no")
    assert (made.served.revision, made.served.digest) == (5, before.digest)
    assert made.served.api_key("p", "b").secret().expose() == "old"
    with pytest.raises(SecretError, match="revoked"):
        made.served.api_key("p", "a").secret()
    made.apply(revoked(7, "providers/p/apiKeys/c"))
    made.apply(changes(7, deleted=["providers/p/apiKeys/c"]))
    made.apply(progress(7, made.known.digest))
    assert (made.served.revision, made.cursor.resume_token, made.served_at.resume_token) == (5, "t7", "t5")
    assert [made.served.api_key("p", id).revoked for id in "abc"] == [True, False, True]
    applied = made.apply(changes(8, key("d", 8)))
    assert (applied.rejected, made.rejection, made.served_at.resume_token) == (False, None, "t8")
    assert [key.id for key in made.served.active_api_keys("p")] == ["b", "d"]
    assert made.served.api_key("p", "b").secret().expose() == "new"
    assert [(event.kind, event.name[-1]) for event in applied.changes.events] == [
        ("deleted", "a"),
        ("updated", "b"),
        ("deleted", "c"),
        ("created", "d"),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        lambda big: [snapshot(5, big, last=False), snapshot(5, big, last=False)],
        lambda big: [snapshot(5), synced(5), changes(6, big, last=False), changes(6, big)],
    ],
    ids=["snapshot", "changes"],
)
def test_what_never_becomes_whole_is_bounded(messages):
    *before, last = messages(key("a", 4, "x" * 10_000))
    known = Replica(Snapshot(Overrides()), Cursor(), max_bytes=15_000)
    known.begin_stream()
    for message in before:
        known.apply(message)
    assert known.is_unfinished
    with pytest.raises(DesyncError, match="before a state is whole"):
        known.apply(last)
    assert known.begin_stream() == Cursor() and known.is_unfinished


def test_regression_what_is_held_is_bounded_over_all_revisions():
    """Revisions without end, each with further resources, filled the worker's memory."""
    made = live()
    before = made.known._bytes
    made.apply(changes(6, key("b", 6, "x" * 1_000)))
    made.apply(changes(7, deleted=["providers/p/apiKeys/b"]))
    assert made.known._bytes == before > 0, "what is gone counts no more"
    made._max_bytes = before + 2_000
    made.apply(changes(8, key("b", 8)))
    with pytest.raises(DesyncError, match="larger than"):
        made.apply(changes(9, key("c", 9)))
    assert (made.begin_stream(), len(names(made))) == (Cursor(), 2), "served on"
    with pytest.raises(DesyncError, match="larger than"):
        made.apply(snapshot(9, key("a", 4), key("b", 8), key("c", 9)))


def test_regression_revoked_names_are_bounded():
    made = live()
    made.apply(revoked(2**62, *(f"providers/p/apiKeys/{number:0>100}" for number in range(50_000))))
    held = made.served.get("providers/p/apiKeys/a")
    assert not held.revoked
    more = [f"providers/p/apiKeys/{number:0>100}" for number in range(100_000)]
    applied = made.apply(revoked(2**62, *more, held.name))
    assert "more names are revoked" in str(applied.over)
    assert (len(made.served._revoked), made.begin_stream()) == (50_001, Cursor())
    assert [each.name for each in applied.changes.events] == [held.name]
    assert made.served.get(held.name).revoked, "what is held is refused"


def test_regression_revocations_one_by_one_cost_no_more_than_together():
    """Each cost time by all that were kept so far."""
    made = live()
    before = made.served
    names = [f"providers/p/apiKeys/{number}" for number in range(60_000)]
    began = time.process_time()
    for name in names:
        applied = made.apply(revoked(2**62, name))
        assert applied.revoked and applied.changes is None
    assert time.process_time() - began < 20, "and not minutes"
    assert made.served is before and len(made.served._revoked) == 60_000
    assert made._revoked_bytes() == sum(len(name) + 100 for name in names)
    made.apply(revoked(2**62, "providers/p/apiKeys/a"))
    assert made.served.get("providers/p/apiKeys/a").revoked and len(made.served._revoked) == 60_001
    made.apply(changes(6, key("7", 6)))
    assert made.served.get("providers/p/apiKeys/7").revoked, "also what comes later"


def test_regression_what_no_server_would_take_back_is_not_kept():
    """It was said again for ever, and kept on disk."""
    made = live()
    long = "t" * ((64 << 10) + 1)
    made.apply(Message(changes={"revision": 6, "last": True, "resume_token": long}))
    assert (made.served_at, made.served.revision) == (Cursor(), 6)
    made.apply(progress(7))
    assert made.served_at.resume_token == "t7", "the next that is one is kept"
    for session, kept in (("a" * 128, True), ("a" * 129, False), ("a\nb", False)):
        made = replica(snapshot(5))
        told = Message(synced={"revision": 5, "resume_token": long, "session_id": session})
        assert made.apply(told).session_id == (session if kept else "")
        assert made.begin_stream() == Cursor()
