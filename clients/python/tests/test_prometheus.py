"""The client's metrics in Prometheus form."""

import time

import pytest
from conftest import until
from prometheus_client import CollectorRegistry, generate_latest

from signalbox import OptionsError
from signalbox.prometheus import Metrics


def test_metrics_have_the_names_that_people_expect(shared, connect):
    registry = CollectorRegistry()
    client = connect(shared, metrics=Metrics(registry))
    client.wait_ready()
    before = time.time()
    shown = registry.get_sample_value
    for _ in range(100):
        client.setting_int("measured", 0)
    revision = shared.put("settings/measured", setting={"intValue": str(time.time_ns())})
    client.wait_revision(revision)
    until(lambda: shown("config_cache_revision") >= revision)
    until(lambda: shown("config_cache_hits_total") >= 100)
    assert shown("config_load_seconds_count") == 1
    assert 0 < shown("config_load_seconds_sum") < 10
    assert shown("config_cache_changes_total") >= 1
    assert shown("config_cache_resets_total") == shown("config_cache_digest_mismatches_total") == 0
    until(lambda: shown("config_cache_confirmed_timestamp_seconds") > before)
    assert shown("config_cache_confirmed_timestamp_seconds") <= time.time()
    client.clear_cache()
    until(lambda: shown("config_load_seconds_count") == 2)
    until(lambda: shown("config_cache_reconnects_total") == 1)
    assert b"settings/" not in generate_latest(registry), "no names, so that their number is bounded"


def test_regression_a_second_client_is_told_what_to_do():
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(OptionsError, match="CollectorRegistry"):
        Metrics(registry)
    Metrics(CollectorRegistry())


def test_what_a_newer_client_tells_is_left_out():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics("of_tomorrow", 1.0)
    for total in (3, 5, 5, 2):
        metrics("resets", total)
    assert registry.get_sample_value("config_cache_resets_total") == 7, "a total that falls begins anew"
