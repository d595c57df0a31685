"""What a running service says of its requests: the log without anybody's data, the metrics, the traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kernel_sandbox.service.keys import make_key
from tests.doors.http.collector import running_collector
from tests.doors.http.running import GEN1, GEN2, ServerProcess, issue_key, running

CANARY = "canary-90b1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def keys(place: Path) -> dict[str, str]:
    given = {"alice": ["executor"], "root": ["admin"]}
    return {name: issue_key(place, name, roles=roles) for name, roles in given.items()}


@pytest.fixture(scope="module")
def log(place: Path, keys: dict[str, str], server_engine: str) -> list[str]:
    """What a server wrote while every kind of request went through it, each with canaries in it."""
    with ServerProcess(place, server_engine, "--pool-ready=1") as server, server.client() as client:
        key = {"x-api-key": keys["alice"]}
        ours, theirs = f"/v1/sessions/{CANARY}%2Fa", f"/v1/sessions/{CANARY}%2Fb"
        cell = {"source": f"print('{CANARY}'); 1/0 # {CANARY}", "create": True}
        for session in (ours, ours, theirs):
            assert client.post(f"{session}/execute", json=cell, headers=key).status_code == 200
        assert client.put(f"{ours}/files/{CANARY}.txt", content=CANARY, headers=key).status_code < 300
        assert client.get(f"{ours}/files/{CANARY}.txt", headers=key).text == CANARY
        assert client.get(f"{ours}/transcript", headers=key).status_code == 200
        query = {"identifier": f"{CANARY}-azure", "api-version": GEN1}
        body = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": f"'{CANARY}'"}}
        assert CANARY in client.post(f"/{CANARY}/code/execute", params=query, json=body, headers=key).text
        query["api-version"] = GEN2
        assert client.get(f"/{CANARY}/files/{CANARY}/content", params=query, headers=key).status_code == 404
        assert client.get(f"/{CANARY}/nothing?{CANARY}", headers=key).status_code == 404
        assert client.post(f"{ours}/execute", content=f"{{{CANARY}", headers=key).status_code in (400, 415, 422)
        assert client.request(CANARY.upper().replace("-", ""), f"/{CANARY}", headers=key).status_code in (404, 405)
        assert client.get(ours, headers={"x-api-key": f"{CANARY}"}).status_code == 401
        assert client.get(ours, headers={"authorization": f"Bearer {make_key(CANARY)[0]}"}).status_code == 401
        assert client.post("/mcp", json={}, headers={"x-api-key": f"{CANARY}"}).status_code == 401
        assert client.get("/v1/admin/sessions", headers=key).status_code == 403
        with pytest.raises(InvalidStatus):
            connect(f"ws{server.address[4:]}{ours}/live?{CANARY}")
        assert client.get("/healthz").status_code == 200
    return (place / "log").read_text().splitlines()


def requests(log: list[str]) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, log) if entry["event"] == "request"]


def test_log_holds_no_data(log: list[str], keys: dict[str, str]) -> None:
    assert len(requests(log)) > 12
    for word in (CANARY, "90b1", "canary", *keys.values(), *(key.rpartition("_")[2] for key in keys.values())):
        assert [line for line in log if word.lower() in line.lower()] == []


def test_log_tells_route_status_identity_and_session(log: list[str]) -> None:
    cells = [entry for entry in requests(log) if entry["route"] == "/v1/sessions/{identifier}/execute"]
    assert [entry["status"] for entry in cells][:3] == [200, 200, 200]
    assert {entry["identity"] for entry in cells} == {"key:alice"}
    assert cells[0]["session"] == cells[1]["session"] != cells[2]["session"]
    assert all(0 < entry["ms"] < 60_000 for entry in cells)
    assert "other" in {entry["method"] for entry in requests(log)}, "a method that was made up"
    refused = [entry for entry in requests(log) if entry["status"] == 401]
    assert len(refused) >= 2
    assert {entry["route"] for entry in refused} == {"/v1/sessions/{identifier}", "/mcp", "unknown"}
    assert not any("identity" in entry or "session" in entry for entry in refused)
    assert {entry["method"] for entry in requests(log)} >= {"GET", "POST", "PUT"}


def test_log_names_unknown_paths_by_no_name(log: list[str]) -> None:
    routes = {entry["route"] for entry in requests(log)}
    assert "unknown" in routes
    assert all(route == "unknown" or route.startswith("/") for route in routes)


def test_log_passes_over_health_and_says_how_it_serves(log: list[str]) -> None:
    assert "/healthz" not in {entry["route"] for entry in requests(log)}
    serving = [entry for entry in map(json.loads, log) if entry["event"] == "serving"]
    assert [entry["accepts"] for entry in serving] == ["keys"]


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def test_metrics_are_for_admins(tmp_path: Path, server_engine: str) -> None:
    alice, root = (
        issue_key(tmp_path, name, roles=roles) for name, roles in (("alice", ["executor"]), ("root", ["admin"]))
    )
    with running(tmp_path, engine=server_engine) as server:
        with server.client(alice) as client:
            assert client.get("/metrics").status_code == 403
            assert client.get(f"/{CANARY}").status_code == 404
            made = client.post(f"/v1/sessions/{CANARY}/execute", json={"source": "1", "create": True})
            assert made.status_code == 200
        with server.client() as client:
            assert client.get("/metrics").status_code == 401
        with server.client(root) as client:
            answer = client.get("/metrics")
    assert answer.status_code == 200
    assert CANARY not in answer.text
    found = samples_of(answer.text)
    route = "/v1/sessions/{identifier}/execute"
    labels = frozenset({"method": "POST", "route": route, "status": "200"}.items())
    assert found["kernel_sandbox_requests_total", labels] == 1
    assert found["kernel_sandbox_request_seconds_count", frozenset({("route", route)})] == 1
    assert (
        found["kernel_sandbox_pool_warm_hits_total", frozenset()]
        + found["kernel_sandbox_pool_cold_starts_total", frozenset()]
        == 1
    )
    assert found["kernel_sandbox_sessions", frozenset({("state", "idle")})] == 1
    assert found["kernel_sandbox_requests_in_flight", frozenset()] == 1, "itself"


@pytest.mark.parametrize(("setting", "status"), [("open", 200), ("off", 404)])
def test_metrics_may_be_open_or_off(tmp_path: Path, server_engine: str, setting: str, status: int) -> None:
    key = issue_key(tmp_path, "root", roles=["admin"])
    with running(tmp_path, engine=server_engine, metrics=setting) as server:
        with server.client() as client:
            assert client.get("/metrics").status_code == (200 if setting == "open" else 401)
        with server.client(key) as client:
            assert client.get("/metrics").status_code == status


def test_request_is_traced(tmp_path: Path, server_engine: str) -> None:
    with running_collector() as collector:
        with (
            running(tmp_path, engine=server_engine, trace_endpoint=collector.endpoint) as server,
            server.client() as client,
        ):
            client.get(f"/v1/sessions/{CANARY}?{CANARY}")
        spans = [span for span in collector.spans() if span["name"] == "request"]
    assert [span["attributes"] for span in spans] == [
        {"http.request.method": "GET", "http.route": "/v1/sessions/{identifier}", "http.response.status_code": 404}
    ]
    assert not any(CANARY.encode() in body for body in collector.received)


def test_tool_calls_have_their_route_and_tool(tmp_path: Path, server_engine: str) -> None:
    def call(client: httpx.Client, method: str, params: dict[str, Any], **headers: str) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        accept = {"accept": "application/json, text/event-stream", **headers}
        return client.post("/mcp", json=body, headers=accept).raise_for_status()

    with ServerProcess(tmp_path, server_engine, "--metrics=open") as server, server.client() as client:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": CANARY, "version": "1"}}
        session = {"mcp-session-id": call(client, "initialize", hello).headers["mcp-session-id"]}
        for arguments in ({"source": f"'{CANARY}'"}, {"source": "1/0"}):
            assert CANARY not in call(client, "tools/list", {}, **session).text
            call(client, "tools/call", {"name": "execute_python", "arguments": arguments}, **session)
        call(client, "tools/call", {"name": CANARY, "arguments": {}}, **session)
        metrics = client.get("/metrics").text
    told = requests((tmp_path / "log").read_text().splitlines())
    seen = [(entry["route"], entry.get("tool"), entry.get("failed")) for entry in told]
    assert {route for route, *_ in seen} == {"/mcp"}
    assert [each[1:] for each in seen if each[1]] == [("execute_python", False), ("execute_python", True)]
    found = samples_of(metrics)
    for failed in ("false", "true"):
        labels = frozenset({"tool": "execute_python", "failed": failed}.items())
        assert found["kernel_sandbox_tool_seconds_count", labels] == 1
    assert CANARY not in metrics + (tmp_path / "log").read_text()
