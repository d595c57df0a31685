"""Metrics: the text that Prometheus reads, parsed by its own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kernel_sandbox.pool import PoolMetrics
from kernel_sandbox.service.metrics import Metrics

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(metrics: Metrics) -> dict[Sample, float]:
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(body.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(name: str, **labels: str) -> Sample:
    return f"kernel_sandbox_{name}", frozenset(labels.items())


def pool() -> PoolMetrics:
    return PoolMetrics(lambda: {"idle": 2, "ready": 1})


def test_requests_are_counted_by_route_and_status() -> None:
    metrics = Metrics(pool)
    for seconds in (0.002, 0.2):
        metrics.observe_request("POST", "/v1/sessions/{id}/execute", 200, seconds)
    metrics.observe_request("POST", "/v1/sessions/{id}/execute", 429, 0.001)
    found = samples(metrics)
    route = "/v1/sessions/{id}/execute"
    assert found[sample("requests_total", method="POST", route=route, status="200")] == 2
    assert found[sample("requests_total", method="POST", route=route, status="429")] == 1
    assert found[sample("request_seconds_count", route=route)] == 3
    assert abs(found[sample("request_seconds_sum", route=route)] - 0.203) < 1e-9
    assert found[sample("request_seconds_bucket", route=route, le="0.0025")] == 2


def test_method_that_somebody_made_up_makes_no_label() -> None:
    metrics = Metrics(pool)
    for number in range(100):
        metrics.observe_request(f"X{number}", "unknown", 405, 0.001)
    found = {key: value for key, value in samples(metrics).items() if key[0] == "kernel_sandbox_requests_total"}
    assert found == {sample("requests_total", method="other", route="unknown", status="405"): 100}


def test_requests_in_flight_go_up_and_down() -> None:
    metrics = Metrics(pool)
    metrics.requests_in_flight.inc()
    metrics.requests_in_flight.inc()
    metrics.requests_in_flight.dec()
    assert samples(metrics)[sample("requests_in_flight")] == 1


def test_pool_is_read_when_it_is_asked_for() -> None:
    states = {"idle": 2, "ready": 1}
    counted = PoolMetrics(lambda: states)
    metrics = Metrics(lambda: counted)
    counted.warm_hits, counted.refused = 5, 2
    for seconds in (0.0005, 0.0007, 40.0):
        counted.acquire_seconds.observe(seconds)
    states["idle"] = 3
    found = samples(metrics)
    assert (found[sample("sessions", state="idle")], found[sample("sessions", state="ready")]) == (3, 1)
    assert (found[sample("pool_warm_hits_total")], found[sample("pool_refused_total")]) == (5, 2)
    assert found[sample("pool_acquire_seconds_bucket", le="0.0005")] == 1
    assert found[sample("pool_acquire_seconds_bucket", le="0.001")] == 2
    assert found[sample("pool_acquire_seconds_bucket", le="+Inf")] == 3
    assert found[sample("pool_acquire_seconds_count")] == 3
    assert abs(found[sample("pool_acquire_seconds_sum")] - 40.0012) < 1e-9


def test_every_number_of_the_pool_is_shown() -> None:
    names = {name for name, _ in samples(Metrics(pool))}
    for name, value in pool().as_dict().items():
        suffix = {"dict": "", "int": "_total"}[type(value).__name__] if name != "sessions" else None
        expected = "kernel_sandbox_sessions" if suffix is None else f"kernel_sandbox_pool_{name}{suffix}"
        assert {expected, f"{expected}_count"} & names, name


def test_two_services_in_one_process_do_not_meet() -> None:
    first, second = Metrics(pool), Metrics(pool)
    first.observe_request("GET", "/healthz", 200, 0.001)
    assert sample("requests_total", method="GET", route="/healthz", status="200") not in samples(second)


def test_process_itself_is_measured() -> None:
    assert samples(Metrics(pool))[sample("process_resident_memory_bytes")] > 10**6
