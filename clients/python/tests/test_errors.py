"""Errors are the same on the other side of a process pool."""

import concurrent.futures
import multiprocessing
import pickle
import traceback

import pytest
from test_hostile import KEY, failed, worker

import signalbox
from signalbox import errors, wire
from signalbox.executor import AttemptFailure, CompletionError, Executor, ProviderError

REFUSED = ProviderError(401, wire.Failure("bad_key", "no such key", "invalid_api_key"))
ERRORS = [
    errors.OptionsError("wrong"),
    errors.RpcError("UNAVAILABLE", "away", errors.RpcDetails("REASON", {"a": "b"}, (), 1.5)),
    errors.SecretError("providers/p/apiKeys/a", "api_key.secret", "masked"),
    errors.NotReadyError(errors.RpcError("PERMISSION_DENIED", "no")),
    errors.RevisionNotReachedError(7, 3),
    errors.RejectedError(7, "too high"),
    errors.SettingTypeError("a", "an integer", "environment"),
    errors.StaleError("old"),
    REFUSED,
    wire.CallError([wire.Problem("messages", "must be at least one message")]),
    wire.StreamFailedError(wire.Failure("unavailable", "overloaded", "")),
    CompletionError("no provider has answered", (AttemptFailure("p", "authentication", REFUSED),)),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_travel_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.is_fatal) == (type(error), str(error), error.is_fatal)
    assert repr(vars(again)) == repr(vars(error))


def fail():
    signalbox.testing.FakeClient({"settings/a": {"setting": {"stringValue": "x"}}}).setting_int("a")


def test_regression_an_error_in_a_process_pool_broke_the_pool():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        with pytest.raises(
            errors.SettingTypeError, match="setting a from global is not an integer"
        ) as raised:
            pool.submit(fail).result(60)
        assert (raised.value.key, raised.value.source) == ("a", "global")
        assert pool.submit(int, "3").result(60) == 3


def test_what_holds_secrets_does_not_travel():
    client = worker("http://127.0.0.1:1")
    with Executor(client) as executor:
        for each in (client, executor, client.snapshot(), client.active_api_keys("openai")[0].secret()):
            with pytest.raises(TypeError):
                pickle.dumps(each)


def shown(error):
    """What tools that report errors gather: the variables of every function on the way."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n", f"{KEY}\u00e4"])
def test_no_variable_of_a_failed_call_shows_the_key(key):
    failure = failed("complete", worker("http://127.0.0.1:1", key=key))
    assert KEY not in shown(failure.error)


def test_no_variable_of_a_secret_that_can_not_be_had_shows_it():
    client = worker("http://127.0.0.1:1", headers={"x-a": {"secret": {"value": KEY}}, "x-b": {"secret": {}}})
    kept = client.snapshot()
    assert KEY not in shown(failed("complete", client).error), "the one header is there, the other is not"
    client.revoke("providers/openai", "providers/openai/apiKeys/main")
    for resource, path in (
        (client.provider("openai"), "provider.headers.x-a"),
        (client.api_key("openai", "main"), "api_key.secret"),
    ):
        with pytest.raises(errors.SecretError) as raised:
            resource.secret_at(path)
        assert KEY not in shown(raised.value)
    assert KEY not in repr(kept.api_key("openai", "main")._content())
