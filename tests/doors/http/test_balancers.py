"""What balancers and proxies ask of the service: health, HEAD, HTTP/1.0, Allow, connections that stay."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from kernel_sandbox.pool import PoolSettings
from kernel_sandbox.service.settings import ServerSettings
from tests.doors.http.running import Running, running, until


@pytest.mark.parametrize("ready", [0, 1])
def test_service_is_ready_while_a_session_can_be_started(
    server_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: int
) -> None:
    if server_engine != "bubblewrap":
        pytest.skip("only bubblewrap can be taken away from this process alone")
    pool = PoolSettings(ready=ready, sessions=2)
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nonexistent")
        with running(tmp_path, engine="bubblewrap", pool=pool) as server, server.client() as client:

            def status() -> tuple[int, str]:
                answer = client.get("/readyz")
                return answer.status_code, answer.json()["status"]

            assert status() == (503, "no session can be started")
            assert client.get("/healthz").status_code == 200
            without.undo()
            seen = set()
            until(lambda: seen.add(status()) or (200, "ready") in seen)  # type: ignore[func-returns-value]
            assert client.get("/v1/sessions").json() == {"sessions": []}
            without.setenv("PATH", "/nonexistent")
            until(lambda: status() == (503, "no session can be started"))
            without.undo()
            until(lambda: status() == (200, "ready"))
            assert client.post("/v1/sessions", json={"identifier": "a"}).status_code == 201


def test_service_is_starting_before_its_first_session_is_ready(server_engine: str, tmp_path: Path) -> None:
    with running(tmp_path, engine=server_engine) as server, server.client() as client:
        seen: list[tuple[int, str]] = []

        def ready() -> bool:
            answer = client.get("/readyz")
            seen.append((answer.status_code, answer.json()["status"]))
            return answer.status_code == 200

        until(ready)
    assert seen[0] == (503, "starting")
    assert set(seen) == {(503, "starting"), (200, "ready")}


def test_head_answers_as_get_without_a_body(server: Running, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"identifier": "headed"})
    client.put("/v1/sessions/headed/files/f.bin", content=bytes(300_000))
    paths = ["/", "/healthz", "/docs", "/openapi.json", "/metrics", "/v1/sessions", "/v1/sessions/headed"]
    for path in [*paths, "/v1/sessions/headed/files/f.bin", "/v1/sessions/missing", "/nothing"]:
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        for name in ("content-type", "content-length"):
            assert path == "/metrics" or head.headers.get(name) == whole.headers.get(name), path
    assert client.head("/v1/sessions/headed/interrupt").status_code == 405
    server.end("headed")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/sessions", "GET, HEAD, POST"),
        ("POST", "/v1/sessions/a", "DELETE, GET, HEAD"),
        ("POST", "/v1/sessions/a/files/b", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/files/upload", "DELETE, GET, HEAD, POST"),
        ("GET", "/code/execute", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
    ],
)
def test_refused_method_names_all_that_there_are(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_health_answers_http_1_0_without_a_host(server: Running) -> None:
    for path in ("/healthz", "/readyz"):
        with raw(server) as stream:
            stream.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: stream.recv(65536), b""))
        assert answer.split()[1] == b"200", answer
        assert answer.endswith(b"}")


def test_idle_connection_is_kept_for_as_long_as_it_is_set(server_engine: str, tmp_path: Path) -> None:
    assert ServerSettings().keep_alive == 75
    with running(tmp_path, engine=server_engine, keep_alive=1.5) as server, raw(server) as stream:
        for _ in range(2):
            stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += stream.recv(65536)
        idle = time.monotonic()
        stream.settimeout(20)
        assert stream.recv(65536) == b""
        assert 1.4 < time.monotonic() - idle < 10


def raw(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.address).port or 0), timeout=10)
