"""The watching thread against a server that is played, message by message."""

import queue
import threading
import time

import grpc
import pytest
from conftest import until
from test_replica import Message, changes, key, progress, reset, revoked, snapshot, synced

from signalbox import EndedError, RpcError, Staleness, UnconfirmedError, _lookout, _proto, _watcher
from signalbox._backoff import Backoff
from signalbox._clock import monotonic
from signalbox._replica import Cursor
from signalbox._state import State
from signalbox._watcher import Position, Watcher
from signalbox.errors import RpcDetails
from signalbox.settings import Overrides


class Played:
    """The server's end of one stream."""

    subject = ("i", "a")

    def __init__(self, request):
        self.request = request
        self.at = time.monotonic()
        self.messages = queue.Queue()

    def send(self, *messages):
        for message in messages:
            self.messages.put(message)

    def __iter__(self):
        while True:
            message = self.messages.get()
            if isinstance(message, Exception):
                raise message
            yield message

    def cancel(self):
        self.messages.put(RpcError("CANCELLED", "cancelled"))

    close = cancel


class Asked:
    """A connection to another server, by somebody who looks for one."""

    def __init__(self, age):
        self.age = age
        self.closed = False

    def confirmed_age(self):
        if isinstance(self.age, Exception):
            raise self.age
        return self.age

    def close(self):
        self.closed = True


class Stage:
    """A transport whose streams the test answers. Another server hears of the store unless a test says otherwise."""

    endpoint = "http://played"

    def __init__(self):
        self.opened = queue.Queue()
        self.refuse_with = []
        self.other = 0.0
        self.asked = []
        self.gone_to = []

    def rotate(self):
        pass

    def connect(self, further=0):
        self.asked.append(Asked(self.other))
        return self.asked[-1]

    def go_to(self, found):
        self.gone_to.append(found)

    def close(self):
        pass

    def open(self, request):
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        stream = Played(request)
        self.opened.put(stream)
        return stream

    def accept(self):
        return self.opened.get(timeout=20)


@pytest.fixture
def stage():
    stage = Stage()
    stage.state = State(Overrides(), Staleness(bound=30), 16)
    position = Position(stage.state.served, Cursor())
    stage.applied = []
    stage.watcher = Watcher(
        stage,
        _proto.WatchConfigRequest,
        1.0,
        position,
        stage.state,
        lambda: 1.0,
        lambda applied, _: stage.applied.append(applied),
    )
    stage.watcher.start()
    yield stage
    stage.watcher.stop(5)


def live(stage):
    stream = stage.accept()
    stream.send(snapshot(5, key("a", 4)), synced(5))
    until(lambda: stage.state.health.loaded)
    return stream


def status(stage):
    return stage.state.status()


def test_who_goes_on_after_a_wrong_digest_begins_with_a_snapshot(stage):
    """As after a fork: it neither resumes, nor calls itself ready."""
    stream = live(stage)
    stream.send(_proto.WatchConfigResponse(progress={"revision": 5, "digest": b"0" * 16}))
    until(lambda: stage.state.health.digest_mismatches)
    stage.watcher.stop(5)
    position = stage.watcher.resume_from()
    assert position.refuted and position.cursor == Cursor()
    assert stage.state.health.refuted and not status(stage).ready
    while not stage.opened.empty():
        stage.opened.get()
    watcher = Watcher(
        stage, _proto.WatchConfigRequest, 1.0, position, stage.state, lambda: 1.0, lambda *_: None
    )
    watcher.start()
    try:
        stream = stage.accept()
        assert not stream.request.resume_token
        stream.send(snapshot(5, key("a", 4)), synced(5))
        until(lambda: status(stage).ready)
        until(lambda: not watcher.position.refuted)
    finally:
        watcher.stop(5)


def test_a_state_is_of_whom_its_stream_was_opened_for(stage):
    stream = live(stage)
    until(lambda: stage.watcher.position.subject == ("i", "a"))
    Played.subject = ("i", "b")
    try:
        stream.send(RpcError("UNAVAILABLE", "away"))
        stream = stage.accept()
        stream.send(reset(3), snapshot(6, key("a", 6)))
        until(lambda: stage.state.health.resets)
        assert stage.watcher.position.subject == ("i", "a") and stage.watcher.position.refuted
        stream.send(synced(6))
        until(lambda: stage.watcher.position.subject == ("i", "b") and not stage.watcher.position.refuted)
    finally:
        Played.subject = ("i", "a")


def test_a_lost_stream_is_resumed_from_its_token(stage):
    stream = live(stage)
    stream.send(EndedError("ended"))
    stream = stage.accept()
    assert (stream.request.resume_token, stream.request.view_id) == ("t5", "v")
    assert isinstance(status(stage).last_error, EndedError)
    assert stage.state.current().api_key("p", "a") is not None, "served while nobody is there"
    stream.send(synced(5))
    until(lambda: status(stage).last_error is None)
    assert status(stage).reconnects == 1


def test_what_a_resumed_stream_has_missed_is_not_confirmed_by_its_beginning(stage):
    stream = live(stage)
    long_ago = monotonic() - 1_000
    stage.state.record(confirmed_at=long_ago)
    stream.send(EndedError("ended"))
    stream = stage.accept()
    stream.send(synced(5))
    until(lambda: status(stage).last_error is None)
    assert (status(stage).loaded, status(stage).ready) == (True, False), "changes may be on their way"
    stream.send(progress(9))
    until(lambda: status(stage).ready)


def test_a_server_that_goes_away_is_heard_out_and_left_on_time(stage):
    stream = live(stage)
    began = time.monotonic()
    stream.send(Message(going_away={"reason": "drain", "reconnect_after": {"nanos": 400_000_000}}))
    stream.send(progress(6))
    until(lambda: status(stage).revision == 6)
    following = stage.accept()
    assert 0.4 <= following.at - began < 2.0
    assert following.request.resume_token == "t6"
    assert status(stage).last_error is None, "an orderly end is no error"


def test_a_server_that_went_away_early_is_not_asked_before_its_time(stage):
    stream = live(stage)
    began = time.monotonic()
    stream.send(
        Message(going_away={"reconnect_after": {"nanos": 600_000_000}}), RpcError("UNAVAILABLE", "bye")
    )
    assert stage.accept().at - began >= 0.6


def test_no_server_sends_a_client_away_for_long(stage, monkeypatch):
    """A worker would be silenced for ten thousand years."""
    assert _watcher._MAX_REQUESTED_DELAY == 60.0
    monkeypatch.setattr(_watcher, "_MAX_REQUESTED_DELAY", 0.3)
    stream = live(stage)
    began = time.monotonic()
    stream.send(Message(going_away={"reconnect_after": {"seconds": 315_360_000_000}}))
    following = stage.accept()
    assert 0.3 <= following.at - began < 2.0
    following.send(RpcError("RESOURCE_EXHAUSTED", "full", RpcDetails(retry_delay=315_360_000_000.0)))
    assert stage.accept().at - following.at < 5.0


def test_a_cache_that_drifts_again_and_again_is_built_anew_ever_more_rarely(stage, monkeypatch):
    """However long each of the streams has lived."""
    monkeypatch.setattr(_watcher, "_BACKOFF_CEILING", 0.0)
    stream = live(stage)
    for _ in range(3):
        stream.send(progress(6, b"x" * 16))
        stream = stage.accept()
        stream.send(snapshot(6, key("a", 4)), synced(6))
    until(lambda: status(stage).ready)
    assert stage.watcher._backoff.next_cap() == 0.8
    stream.send(EndedError("ended"))
    stage.accept()
    until(lambda: stage.watcher._backoff._failures == 1, "a stream that has lived makes up for it")


def test_silence_ends_a_stream_after_three_intervals(stage):
    live(stage)
    began = time.monotonic()
    following = stage.accept()
    assert 2.9 <= following.at - began < 6
    assert type(status(stage).last_error).__name__ == "SilentError"


def heartbeat(age):
    return Message(progress={"revision": 5, "resume_token": "t5", "confirmed_age": {"seconds": age}})


def left(stage, stream, told):
    """What is opened instead of a stream that tells nothing but this."""
    return until(lambda: stream.send(told) or (not stage.opened.empty() and stage.accept()))


@pytest.fixture
def impatient(stage, monkeypatch):
    """One that looks soon for another server when a stream confirms nothing."""
    monkeypatch.setattr(_lookout, "_FLOOR", 0.01)
    stage.watcher._heartbeat, stage.watcher._patience = 0.4, 0.5
    # Its first stream has been asked for already.
    until(lambda: not stage.opened.empty())
    stage.watcher._confirmation.patience = 0.5
    return stage


@pytest.mark.parametrize(
    "told",
    [Message(), heartbeat(31), revoked(9, "providers/p/apiKeys/a"), changes(6, key("b", 6), last=False)],
    ids=["of a newer server", "too old a word", "revocations", "part of a state"],
)
def test_regression_a_stream_that_confirms_nothing_is_left(impatient, monkeypatch, told):
    """With several endpoints another would be fresh."""
    monkeypatch.setattr(_watcher, "_WHOLE_DEADLINE", 0.5)
    stream = live(impatient)
    rotated = []
    impatient.rotate = lambda: rotated.append(True)
    following = left(impatient, stream, told)
    assert following.at - stream.at >= 0.5 and rotated
    expected = "not whole" if told.WhichOneof("event") == "changes" else "has confirmed nothing for"
    assert expected in str(status(impatient).last_error)
    assert impatient.state.current().get("providers/p/apiKeys/a") is not None, "served on"


@pytest.mark.parametrize(
    "told",
    [Message(), heartbeat(31), revoked(9, "providers/p/apiKeys/a")],
    ids=["of a newer server", "too old a word", "revocations"],
)
def test_regression_a_resumed_stream_that_never_comes_in_sync_is_left(impatient, told):
    """Only being in sync began the time: who never was in sync was listened to for ever."""
    live(impatient).send(EndedError("ended"))
    stream = impatient.accept()
    assert stream.request.resume_token == "t5"
    rotated = []
    impatient.rotate = lambda: rotated.append(True)
    following = left(impatient, stream, told)
    assert following.at - stream.at >= 0.5 and rotated
    assert following.request.resume_token == "t5"
    assert isinstance(status(impatient).last_error, UnconfirmedError)


def test_a_resumed_stream_that_comes_in_sync_late_is_given_its_time(impatient):
    live(impatient).send(EndedError("ended"))
    stream = impatient.accept()
    began = time.monotonic()
    until(lambda: stream.send(Message()) or time.monotonic() - began > 0.35)
    stream.send(synced(5))
    until(lambda: stream.send(Message()) or time.monotonic() - began > 0.7)
    stream.send(heartbeat(0))
    until(lambda: status(impatient).ready and status(impatient).last_error is None)
    assert impatient.opened.empty(), "still the same stream"


def test_regression_a_stream_that_brings_changes_without_end_was_cut_off_soon(impatient):
    """Heartbeats come behind what is queued. A worker that was far behind lost its stream again and again."""
    impatient.watcher._confirmation._longest = 1.5
    stream = live(impatient)
    revisions = iter(range(6, 1_000_000))
    following = until(
        lambda: stream.send(changes(next(revisions))) or (not impatient.opened.empty() and impatient.accept())
    )
    assert 1.4 <= following.at - stream.at < 5.0
    assert isinstance(status(impatient).last_error, UnconfirmedError)


def test_regression_more_revoked_names_than_can_be_kept_left_those_that_are_held(stage):
    """The snapshot that was to bring it may be long in coming."""
    stream = live(stage)
    stream.send(revoked(9, "providers/p/apiKeys/a", *(f"k/{number:0>200}" for number in range(60_000))))
    assert stage.accept().request.resume_token == ""
    assert stage.state.current().get("providers/p/apiKeys/a").revoked
    assert any(applied.changes and applied.changes.events for applied in stage.applied if applied.revoked)
    assert "more names are revoked" in str(status(stage).last_error)


def test_regression_a_server_that_goes_away_again_and_again_and_confirms_nothing_is_left(impatient):
    """It was waited for, connected to nothing, for as long as it had asked for last."""
    stream = live(impatient)
    following = left(impatient, stream, Message(going_away={"reconnect_after": {"seconds": 30}}))
    assert following.at - stream.at < 5.0
    assert isinstance(status(impatient).last_error, UnconfirmedError)
    following.send(synced(5))
    began = time.monotonic()
    away = Message(going_away={"reconnect_after": {"seconds": 1}})
    third = until(
        lambda: following.send(heartbeat(0), away) or (not impatient.opened.empty() and impatient.accept())
    )
    assert 0.9 <= third.at - began < 5.0, "who confirms is left at the first time that was told"


def test_heartbeats_that_are_fresh_keep_a_stream(impatient):
    stream = live(impatient)
    began = time.monotonic()
    until(lambda: stream.send(heartbeat(0)) or time.monotonic() - began > 1.2)
    assert impatient.opened.empty() and status(impatient).last_error is None


def test_regression_a_server_without_its_store_is_asked_ever_more_rarely(impatient, monkeypatch):
    monkeypatch.setattr(_watcher, "_BACKOFF_CEILING", 0.0)
    stream = live(impatient)
    for _ in range(3):
        # It may have heard of its store before.
        stream.send(heartbeat(0))
        stream = left(impatient, stream, heartbeat(40))
        stream.send(synced(5))
        until(lambda: not impatient.watcher._nameless)
    assert impatient.watcher._backoff.next_cap() == 0.8, "no stream has made up for the failures"
    assert isinstance(status(impatient).last_error, UnconfirmedError), "in sync with it says nothing"
    stream.send(heartbeat(0))
    until(lambda: status(impatient).last_error is None)


def beat_on(stage, stream, age, until_what, limit=20.0):
    """Heartbeats of a server that has not heard of its store for so long, until a condition holds."""
    return until(lambda: stream.send(heartbeat(age)) or until_what(), limit=limit)


@pytest.mark.parametrize(
    "other", [40.0, float("inf"), RpcError("UNAVAILABLE", "away")], ids=["as late", "stale", "away"]
)
def test_regression_a_stream_is_not_given_up_for_a_server_that_is_no_better(impatient, monkeypatch, other):
    """The store was away for all, and every worker with secrets left a stream that it could not open again."""
    monkeypatch.setattr(_lookout, "_CEILING", 0.05)
    impatient.other = other
    stream = live(impatient)
    beat_on(impatient, stream, 40, lambda: len(impatient.asked) > 5)
    assert isinstance(status(impatient).last_error, UnconfirmedError) and impatient.opened.empty()
    stream.send(changes(6, key("b", 6)))
    until(lambda: status(impatient).revision == 6, "what comes meanwhile is served")
    beat = Message(progress={"revision": 6, "resume_token": "t6", "confirmed_age": {}})
    stream.send(beat)
    until(lambda: status(impatient).last_error is None and impatient.watcher._lookout is None)
    impatient.other = 0.0
    until(lambda: all(asked.closed for asked in impatient.asked))
    assert impatient.opened.empty() and not impatient.gone_to


def test_the_next_stream_is_opened_where_the_store_was_heard_of(impatient):
    impatient.other = RpcError("UNAVAILABLE", "away")
    stream = live(impatient)
    beat_on(impatient, stream, 40, lambda: impatient.asked)
    impatient.other = 0.3
    following = beat_on(impatient, stream, 40, lambda: not impatient.opened.empty() and impatient.accept())
    assert following.request.resume_token == "t5"
    assert [found.age for found in impatient.gone_to] == [0.3] and not impatient.gone_to[0].closed
    assert all(asked.closed for asked in impatient.asked if asked is not impatient.gone_to[0])


def test_who_can_not_be_asked_may_be_better(impatient):
    """A proxy may let nothing through but what it knows."""
    impatient.other = RpcError("UNIMPLEMENTED", "no such method")
    stream = live(impatient)
    beat_on(impatient, stream, 40, lambda: not impatient.opened.empty())


def test_who_stops_while_it_looks_leaves_nothing_behind(impatient):
    impatient.other = RpcError("UNAVAILABLE", "away")
    stream = live(impatient)
    beat_on(impatient, stream, 40, lambda: impatient.asked)
    impatient.watcher.stop(5)
    assert not any(each.name == "signalbox-lookout" for each in threading.enumerate())
    assert all(asked.closed for asked in impatient.asked)


def test_a_drifted_cache_is_not_fresh_and_heals_itself(stage):
    stream = live(stage)
    assert status(stage).ready
    stream.send(progress(6, b"x" * 16))
    stream = stage.accept()
    assert stream.request.resume_token == "", "a snapshot is asked for"
    assert (status(stage).ready, status(stage).digest_mismatches) == (False, 1)
    assert stage.state.current().api_key("p", "a") is not None
    stream.send(snapshot(6, key("b", 6), last=False))
    until(lambda: stage.state.health.last_message > stream.at)
    assert not status(stage).ready, "the old state is served on, and is still wrong"
    stream.send(snapshot(6, key("c", 6)), synced(6))
    until(lambda: status(stage).ready)
    assert stage.state.current().api_key("p", "a") is None


def test_a_state_of_a_life_that_is_over_is_not_fresh(stage):
    stream = live(stage)
    stream.send(progress(5))
    until(lambda: status(stage).ready)
    stream.send(reset(2))
    until(lambda: status(stage).resets == 1)
    assert (status(stage).ready, status(stage).loaded) == (False, True)
    stream.send(snapshot(3, key("b", 3)), synced(3))
    until(lambda: status(stage).ready)


def test_ages_count_the_time_for_which_the_machine_slept():
    """Where the platform has a clock that does."""
    assert abs(monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


def test_what_waited_for_a_process_that_stood_still_is_not_fresh(stage, monkeypatch):
    """Messages that lay in the socket meanwhile were taken for news."""
    stream = live(stage)
    slept = [0.0]
    for module in ("_watcher", "_state"):
        monkeypatch.setattr(f"signalbox.{module}.monotonic", lambda: monotonic() + slept[0])
    slept[0] = 60.0
    stream.send(progress(6))
    stream = stage.accept()
    assert (stream.request.resume_token, status(stage).ready) == ("t5", False)
    stream.send(synced(5), progress(9))
    until(lambda: status(stage).ready)
    assert status(stage).revision == 9


def test_a_reset_is_counted_and_served_through(stage):
    stream = live(stage)
    stream.send(reset(1))
    until(lambda: status(stage).resets == 1)
    assert stage.state.current().api_key("p", "a") is not None
    stream.send(snapshot(9), synced(9))
    until(lambda: status(stage).revision == 9)


def test_a_revocation_reaches_those_who_listen(stage):
    stream = live(stage)
    subscription = stage.state.feed.subscribe(lambda: stage.state.served)
    stream.send(revoked(8, "providers/p/apiKeys/a"))
    assert subscription.next(10).events[0].kind == "revoked"
    assert stage.state.current().active_api_keys("p") == ()
    assert any(applied.revoked for applied in stage.applied)


def test_a_delay_that_the_server_asks_for_is_kept(stage):
    first = stage.accept()
    first.send(RpcError("RESOURCE_EXHAUSTED", "full", RpcDetails(retry_delay=0.7)))
    second = stage.accept()
    assert second.at - first.at >= 0.7
    second.send(RpcError("UNAUTHENTICATED", "expired", RpcDetails(retry_delay=60.0)))
    assert stage.accept().at - second.at < 5, "a new token may be there at once"


def test_a_missing_right_is_tried_again_slowly(stage):
    stage.accept().send(RpcError("PERMISSION_DENIED", "no"))
    until(lambda: status(stage).last_error is not None)
    assert status(stage).last_error.is_fatal
    with pytest.raises(queue.Empty):
        stage.opened.get(timeout=0.5)
    stage.watcher.start_over()
    stage.accept()


def test_a_defect_does_not_end_the_cache(stage, caplog):
    stage.refuse_with = [ValueError("a defect")]
    stream = live(stage)
    stage.refuse_with = [ValueError("a defect")]
    stream.send(EndedError("ended"))
    following = stage.accept()
    assert following.request.resume_token == ""
    assert "could not be followed" in caplog.text


def test_delays_double_up_to_the_ceiling():
    backoff = Backoff(0.1, 10.0, lambda: 1.0)
    assert [round(backoff.next_delay(), 1) for _ in range(9)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        10.0,
        10.0,
    ]
    for _ in range(2_000):
        assert backoff.next_delay() == 10.0
    backoff.reset()
    assert backoff.next_delay() == 0.1
    assert Backoff(0.1, 10.0, lambda: 0.0).next_delay() == 0.0, "full jitter"
    assert Backoff(0.1, 10.0, lambda: 0.0).spread(3.0) == 3.0, "a requested wait is never shortened"


def part(number, content):
    """A field of a message: text, bytes or a whole number, all of them short."""
    if isinstance(content, int):
        return bytes([number << 3]) + bytes([content & 0x7F | 0x80, content >> 7 & 0x7F])
    packed = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(packed)]) + packed


def detail(kind, packed):
    return part(3, part(1, f"type.googleapis.com/google.rpc.{kind}") + part(2, packed))


class Refused(grpc.RpcError):
    def __init__(self, packed):
        self.packed = packed

    def code(self):
        return grpc.StatusCode.UNAUTHENTICATED

    def details(self):
        return "m"

    def trailing_metadata(self):
        return (("grpc-status-details-bin", self.packed),)


def test_details_of_an_error_are_read():
    info = part(1, "EXPIRED") + part(2, "signalbox") + part(3, part(1, "etag") + part(2, "e7"))
    retry = part(1, part(1, 2) + part(2, 500))
    fields = part(1, part(1, "resource.name") + part(2, "is empty"))
    packed = part(1, 16) + part(2, "m") + detail("ErrorInfo", info) + detail("RetryInfo", retry)
    error = RpcError.of(Refused(packed + detail("BadRequest", fields)))
    assert (error.code, error.message, error.details.reason) == ("UNAUTHENTICATED", "m", "EXPIRED")
    assert (error.details.metadata, error.details.retry_delay) == ({"etag": "e7"}, 2.0000005)
    assert error.details.field_violations[0].field == "resource.name"


@pytest.mark.parametrize(
    "packed", [b"\xff" * 7, b"\x1a\xff", b"\x1a\x03abc", detail("ErrorInfo", b"\x0a\x01\xff")]
)
def test_details_that_are_not_ours_or_garbled_are_none(packed):
    error = RpcError.of(Refused(packed))
    assert (error.code, error.message, error.details) == ("UNAUTHENTICATED", "m", RpcDetails())
    proxy = detail("ErrorInfo", part(1, "QUOTA") + part(2, "proxy.example"))
    assert RpcError.of(Refused(proxy)).details.reason is None


def test_a_snapshot_that_never_ends_is_given_up(stage, monkeypatch):
    monkeypatch.setattr(_watcher, "_WHOLE_DEADLINE", 0.2)
    stream = stage.accept()
    until(lambda: stream.send(snapshot(5, last=False)) or not stage.opened.empty(), "another stream")
    until(lambda: "not whole" in str(stage.state.health.last_error))
