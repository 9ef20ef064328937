"""A client's metrics in Prometheus form (the extra `prometheus`).

    client = signalbox.connect(metrics=signalbox.prometheus.Metrics())

Each client has one of its own, and a second client of a process its own registry as well. They are made with `prometheus_client`, in its default registry unless another is given, and so appear wherever an application
shows its own; in its multiprocess mode, too. Owns names and meanings. Each lives with its client through forks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import OptionsError

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ImportError:
    raise OptionsError(
        "the metrics need the extra `prometheus` of signalbox-client, which brings prometheus_client"
    ) from None

#: A stream is in sync within milliseconds; beside a service that starts or is far away it takes longer.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Takes what one client tells, as its option `metrics`. Raises `OptionsError` where the registry has such metrics already."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        try:
            self._takers = self._made_in(registry)
        except ValueError:
            raise OptionsError(
                "metrics: the registry has the metrics of another client already; give each further client one of its own: "
                "`Metrics(CollectorRegistry())`"
            ) from None

    def _made_in(self, registry: CollectorRegistry) -> dict[str, Callable[[float], None]]:
        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=registry, multiprocess_mode="mostrecent")

        self._totals: dict[str, float] = {}
        hits = counter("config_cache_hits", "Reads of configuration that were answered from memory.")
        load = Histogram(
            "config_load_seconds",
            "Time from asking for a stream to being in sync with it.",
            registry=registry,
            buckets=_BUCKETS,
        )
        changes = counter("config_cache_changes", "Resources that were changed in the cache.")
        revocations = counter("config_cache_revocations", "Revocations of secrets that were heard of.")
        revision = gauge("config_cache_revision", "Revision of the cache.")
        confirmed = gauge(
            "config_cache_confirmed_timestamp_seconds", "When the store confirmed the cache last."
        )
        takers: dict[str, Callable[[float], None]] = {
            "reads": hits.inc,
            "load_seconds": load.observe,
            "changes": changes.inc,
            "revocations": revocations.inc,
            "revision": revision.set,
            "confirmed_age": lambda age: confirmed.set(time.time() - age),
        }
        for name, text in (
            ("reconnects", "Streams that were opened after the first."),
            ("resets", "Times that the server began anew."),
            ("digest_mismatches", "Times that the cache differed from the server's, and was built anew."),
        ):
            takers[name] = self._since_the_last_time(name, counter(f"config_cache_{name}", text))
        return takers

    def __call__(self, name: str, value: float) -> None:
        taker = self._takers.get(name)
        # Newer clients may tell more.
        if taker is not None:
            taker(value)

    def _since_the_last_time(self, name: str, counter: Counter) -> Callable[[float], None]:
        """What a client tells as a total becomes steps."""

        def take(total: float) -> None:
            known = self._totals.get(name, 0.0)
            self._totals[name] = total
            counter.inc(total - known if total >= known else total)

        return take
