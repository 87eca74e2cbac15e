"""What the server counts and times, for Prometheus: requests, stages, queue and worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jinyi import __version__
from jinyi.serve.visit import Visit

if TYPE_CHECKING:
    from jinyi.serve.queue import Snapshot

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_STAGES = ("tokenization", "queue", "inference")
_GIVEN_UP = ("refused", "late", "left")
_GAUGES = {
    "requests": "Requests in the queue or with the worker.",
    "waiting_rows": "Rows that wait.",
    "waiting_tokens": "Tokens that wait.",
    "running_rows": "Rows the worker has.",
    "running_tokens": "Tokens the worker has.",
    "tokens_per_second": "Speed over the last slabs.",
    "wait_s": "Estimated wait of a short request, seconds.",
    "cache_rows": "Results kept.",
    "cache_bytes": "Memory of the results kept.",
}


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter began: a line more for each line
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "jinyi_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "jinyi_request_seconds",
            "Time of an answered request, from its headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        stages = Histogram(
            "jinyi_stage_seconds",
            "Time of a stage of a computed request.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = {f"{stage}_ms": stages.labels(stage) for stage in _STAGES}
        self.in_flight = Gauge(
            "jinyi_requests_in_flight", "Requests with work that are being answered.", registry=registry
        )
        self._tokens = Histogram(
            "jinyi_request_tokens", "Tokens of a computed request.", buckets=_TOKENS, registry=registry
        )
        self._truncated = Counter(
            "jinyi_truncated_inputs", "Inputs that were cut to a model's length.", registry=registry
        )

        self._slab_rows = Histogram(
            "jinyi_slab_rows", "Rows the worker computed together.", buckets=_ROWS, registry=registry
        )
        self._slab_tokens = Histogram(
            "jinyi_slab_tokens", "Tokens the worker computed together.", buckets=_TOKENS, registry=registry
        )
        self._slab_seconds = Histogram(
            "jinyi_slab_seconds", "Time of what is computed together.", buckets=_SECONDS, registry=registry
        )
        self._padding = Counter("jinyi_padding_tokens", "Tokens of padding computed.", registry=registry)
        given_up = Counter(
            "jinyi_given_up",
            "Requests refused for want of room, late for their deadline, or left by their client.",
            ["reason"],
            registry=registry,
        )
        self._given_up = {reason: given_up.labels(reason) for reason in _GIVEN_UP}
        self._rows = Counter("jinyi_rows", "Rows of the requests that were let in.", registry=registry)
        self._cached = Counter("jinyi_cached_rows", "Of these: kept from before.", registry=registry)
        self._shared = Counter("jinyi_shared_rows", "Of these: computed for another.", registry=registry)
        self._failed = Counter("jinyi_failed_rows", "Rows that could not be computed.", registry=registry)
        self._lost = Counter("jinyi_worker_lost", "Times the worker ended or hung.", registry=registry)
        version = Gauge("jinyi_info", "Version of the server.", ["version"], registry=registry)
        version.labels(__version__).set(1)

    def watch(self, snapshot: Callable[[], Snapshot], ready: Callable[[], bool]) -> None:
        """Ask queue and health for their figures whenever metrics are read.

        Args:
            snapshot: of the queue.
            ready: whether requests are let in.
        """
        self.registry.register(_Watched(snapshot, ready))

    def queue_event(self, name: str, figures: Mapping[str, float]) -> None:
        """Count an event of the queue; see `jinyi.serve.queue.Observer`."""
        if name == "slab":
            self._slab_rows.observe(figures["rows"])
            self._slab_tokens.observe(figures["tokens"])
            self._slab_seconds.observe(figures["seconds"])
            self._padding.inc(figures["padded"] - figures["tokens"])
        elif name == "request":
            self._rows.inc(figures["rows"])
            self._cached.inc(figures["cached"])
            self._shared.inc(figures["shared"])
        elif name in self._given_up:
            self._given_up[name].inc()
        elif name == "failed":
            self._failed.inc(figures["rows"])
        elif name == "lost":
            self._lost.inc()

    def request_done(self, route: str, visit: Visit, seconds: float) -> None:
        """Count a request.

        Args:
            route: its path, where it is one of the server's.
            visit: the request.
            seconds: it took.
        """
        self._requests.labels(route, str(visit.status)).inc()
        self._seconds.labels(route).observe(seconds)
        facts = visit.facts
        if "tokens" in facts:
            self._tokens.observe(facts["tokens"])
        if facts.get("truncated"):
            self._truncated.inc(facts["truncated"])
        for name, stage in self._stages.items():
            if name in facts:
                stage.observe(facts[name] / 1000)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    """Figures that are read off when they are asked for."""

    def __init__(self, snapshot: Callable[[], Snapshot], ready: Callable[[], bool]) -> None:
        self._snapshot = snapshot
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        for name, meaning in _GAUGES.items():
            yield GaugeMetricFamily(f"jinyi_queue_{name}", meaning, value=getattr(now, name))
        yield GaugeMetricFamily(
            "jinyi_worker_up", "1 while the worker computes.", value=now.worker == "ready"
        )
        yield GaugeMetricFamily("jinyi_ready", "1 while requests are let in.", value=self._ready())
        yield CounterMetricFamily("jinyi_worker_restarts", "Starts after the first.", value=now.restarts)
