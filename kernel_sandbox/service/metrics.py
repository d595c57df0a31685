"""The service's metrics, in Prometheus' text format. Labels are templates and states; no label is of anybody's making.

The numbers of the pool are read when they are asked for; the rest is counted here. All of it lives in a registry of its
own, so that two services in one process do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kernel_sandbox.pool import Histogram as PoolHistogram
from kernel_sandbox.pool import PoolMetrics

PREFIX = "kernel_sandbox"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WEBSOCKET"})

_COUNTERS = {
    "warm_hits": "Sessions that were ready when they were wanted.",
    "cold_starts": "Sessions that were waited for.",
    "start_failures": "Sessions that did not start.",
    "deaths": "Kernels and sandboxes that ended by themselves.",
    "restarts": "Dead sessions that were started again.",
    "expired": "Sessions ended for being idle or old.",
    "shut_down": "Sessions ended on request.",
    "refused": "Requests for a session for which there was no room.",
}
_HISTOGRAMS = {
    "acquire_seconds": "From a request for a session to having it, where a new one was needed.",
    "warm_seconds": "The same, where one was ready.",
    "refill_seconds": "From the start of a session to its being ready.",
}


def known_method(method: str) -> str:
    """Return a request's method, or "other" for one that somebody made up."""
    return method if method in METHODS else "other"


class Metrics:
    """Counts requests, and reads the pool when it is asked for everything."""

    def __init__(self, pool_metrics: Callable[[], PoolMetrics]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_PoolCollector(pool_metrics))
        ProcessCollector(namespace=PREFIX, registry=self._registry)
        self._requests = Counter(
            "requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            namespace=PREFIX,
            registry=self._registry,
        )
        self._seconds = Histogram(
            "request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            namespace=PREFIX,
            registry=self._registry,
            buckets=SECONDS,
        )
        self._tools = Histogram(
            "tool_seconds",
            "From an MCP client's call of a tool to its result.",
            ["tool", "failed"],
            namespace=PREFIX,
            registry=self._registry,
            buckets=SECONDS,
        )
        self.requests_in_flight = Gauge(
            "requests_in_flight", "Requests that are under way.", namespace=PREFIX, registry=self._registry
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is its template, as in "/v1/sessions/{id}"; never a path that somebody sent."""
        self._requests.labels(known_method(method), route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_tool(self, tool: str, failed: bool, seconds: float) -> None:
        """Count a call of a tool; `tool` is one that there is."""
        self._tools.labels(tool, str(failed).lower()).observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Return everything as text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _PoolCollector(Collector):
    """Translates what the pool counts."""

    def __init__(self, pool_metrics: Callable[[], PoolMetrics]) -> None:
        self._pool_metrics = pool_metrics

    def collect(self) -> Iterator[Metric]:
        found = self._pool_metrics()
        sessions = GaugeMetricFamily(f"{PREFIX}_sessions", "Sessions by state.", labels=["state"])
        for state, number in found.sessions.items():
            sessions.add_metric([state], number)
        yield sessions
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"{PREFIX}_pool_{name}", text, value=getattr(found, name))
        for name, text in _HISTOGRAMS.items():
            histogram: PoolHistogram = getattr(found, name)
            given = histogram.as_dict()
            buckets = [(bound, count) for bound, count in given["buckets"].items()]
            yield HistogramMetricFamily(f"{PREFIX}_pool_{name}", text, buckets=buckets, sum_value=given["sum"])

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: the registry would ask the pool, which may not be open yet."""
        return iter(())
