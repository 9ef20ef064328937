"""What is told of the revision that runs here, and when not any more."""

import itertools
import time

import pytest
from conftest import until

from signalbox import EndedError, RpcError, TokenError, _proto, _reporter
from signalbox._replica import Applied
from signalbox._reporter import Reporter
from signalbox.status import Health, Rejection


class Service:
    """Takes reports, or answers with what the test has laid ready."""

    def __init__(self):
        self.told = []
        self.answers = []

    def __call__(self, request):
        (report,) = request.reports
        self.told.append((time.monotonic(), report))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer or _proto.ReportAppliedResponse()

    def revisions(self):
        return [report.applied_revision for _, report in self.told]


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def reporter(service):
    made = Reporter(service)
    made.start()
    yield made
    made.stop(5)
    assert not made._thread.is_alive()


def sync(reporter, revision, session="s"):
    reporter.heard(Applied(synced=True, session_id=session), Health(revision=revision))


def move(reporter, revision, rejection=None):
    reporter.heard(Applied(), Health(revision=revision, rejection=rejection))


def test_the_newest_is_told_at_most_once_a_second(reporter, service):
    sync(reporter, 1)
    until(service.revisions)
    for revision in range(2, 50):
        move(reporter, revision)
    until(lambda: service.revisions()[-1] == 49)
    assert service.revisions() == [1, 49]
    (first, report), (second, _) = service.told
    assert second - first >= 0.99
    assert report.session_id == "s"
    move(reporter, 49)
    time.sleep(1.3)
    assert len(service.told) == 2, "nothing has moved"


def test_ten_thousand_workers_do_not_tell_of_a_change_in_the_same_moment(service, monkeypatch):
    due = []
    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr(_reporter, "random", lambda share=share: share)
        made = Reporter(service)
        began = time.monotonic()
        sync(made, 1)
        due.append(made._due - began)
    assert [round(each, 1) for each in due] == [0.0, 0.1, 0.2]


def test_nothing_is_told_before_there_is_a_session(reporter, service):
    move(reporter, 7)
    assert reporter._due == float("inf")


def test_what_fails_is_replaced_by_the_newest(reporter, service):
    service.answers = [RpcError("UNAVAILABLE", "away"), TokenError("no token")]
    sync(reporter, 1)
    until(service.revisions)
    move(reporter, 2)
    move(reporter, 3)
    until(lambda: len(service.told) == 3)
    assert service.revisions() == [1, 3, 3]
    moments = [at for at, _ in service.told]
    assert all(later - earlier >= 0.99 for earlier, later in itertools.pairwise(moments))


@pytest.mark.parametrize(
    "answer",
    [
        RpcError("UNIMPLEMENTED", "an older service"),
        RpcError("PERMISSION_DENIED", "no worker"),
        EndedError("the connection is closed"),
        _proto.ReportAppliedResponse(unknown_reports=[0]),
    ],
    ids=["older service", "no right", "no connection", "unknown session"],
)
def test_what_would_not_help_is_not_told_before_the_next_session(reporter, service, answer):
    service.answers = [answer]
    sync(reporter, 1)
    until(lambda: service.told and reporter._report is None)
    move(reporter, 2)
    assert reporter._due == float("inf")
    sync(reporter, 3, "t")
    until(lambda: len(service.told) == 2)
    assert (service.told[1][1].session_id, service.told[1][1].applied_revision) == ("t", 3)


def test_a_rejection_is_told_once_and_overcome(reporter, service):
    sync(reporter, 1)
    until(service.revisions)
    rejection = Rejection(2, "too high")
    for _ in range(3):
        move(reporter, 1, rejection)
    until(lambda: len(service.told) == 2)
    report = service.told[1][1]
    assert (report.applied_revision, report.rejection.revision) == (1, 2)
    assert report.rejection.reason == "too high"
    time.sleep(1.3)
    assert len(service.told) == 2, "not in a loop"
    move(reporter, 3)
    until(lambda: len(service.told) == 3)
    assert not service.told[2][1].HasField("rejection")


def test_a_session_that_begins_with_a_rejection_runs_nothing(reporter, service):
    reporter.heard(Applied(synced=True, session_id="s"), Health(revision=9, rejection=Rejection(12, "no")))
    until(service.told.__len__)
    report = service.told[0][1]
    assert (report.applied_revision, report.rejection.revision) == (0, 12)


def test_who_leaves_says_so(service):
    made = Reporter(service)
    made.start()
    sync(made, 1)
    until(service.revisions)
    made.leave(5)
    assert [report.leaving for _, report in service.told] == [False, True]
    silent = Reporter(service)
    silent.start()
    silent.leave(5)
    assert len(service.told) == 2, "who has no session has nothing to leave"
