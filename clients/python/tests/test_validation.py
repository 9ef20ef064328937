"""What is said of a revision that is not accepted: a line that the service takes, whatever the callback gives."""

import pytest
from conftest import until
from test_fleet import put, worker

from signalbox import Snapshot
from signalbox._validation import Validation
from signalbox.settings import Overrides


def reason(callback):
    return Validation(callback)(Snapshot(Overrides()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, None),
        ("limit is above 10", "limit is above 10"),
        (" too\nhigh\u202e\x1b ", "too high"),
        ("a\x00b\x9fc\u2028d\ud800e", "a b c d e"),
        ("", "no reason is given"),
        ("\r\n", "no reason is given"),
        ("ä" * 600, "ä" * 512),
        (True, "the validation failed: it gives neither None nor a text, but bool"),
    ],
)
def test_a_reason_is_one_line_that_the_service_takes(given, said):
    assert reason(lambda _: given) == said
    assert Validation(None)(Snapshot(Overrides())) is None


@pytest.mark.parametrize("error", [ValueError("sk-canary"), SystemExit("sk-canary")])
def test_who_raises_has_not_accepted_and_ends_no_thread(error, caplog):
    def callback(_):
        raise error

    assert reason(callback) == f"the validation failed: {type(error).__name__}"
    assert reason(callback), "and is asked again"


def test_regression_a_reason_with_control_characters_silenced_the_reports(server, connect):
    """The service refuses such a reason, and the client took that for a lasting refusal of reports."""
    said = "limit\tis\nabove \x1b[31m10\ud800" + "x" * 600
    client = connect(
        server, worker_id="wary", validate=lambda state: said if state.setting_int("limit", 0) > 10 else None
    )
    client.wait_revision(put(server, 1))
    refused = put(server, 11)
    found = until(lambda: (each := worker(server, "wary")) and each.rejection.revision and each)
    assert (found.rejection.revision, found.rejection.reason) == (refused, client.status().rejection.reason)
    assert found.rejection.reason.startswith("limit is above  [31m10 xxx")
    revision = put(server, 2)
    until(lambda: worker(server, "wary").applied_revision >= revision, "the next report")
    assert client.status().rejection is None
