"""A server that was killed, and one that was told to end: what they leave, and how soon the next one serves."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from kernel_sandbox.engines import get_engine, registry
from kernel_sandbox.reactor import portal
from tests.server.running import GEN2, ServerProcess

SOON = 2.0
"""Seconds in which a server that starts again must serve."""


def sandboxes_of(engine: str, process: int) -> list[object]:
    """What an engine still has of the sandboxes that a process started."""
    if engine == "docker":
        from kernel_sandbox.engines.docker_client import connect

        containers = connect().containers.list(all=True, filters={"label": "org.kernel-sandbox"})
        return [each.id for each in containers if str(process) in str(each.labels)]
    return [record for record in registry.records() if str(process) in str(record.get("owner", record))]


def descendants(process: int) -> set[psutil.Process]:
    return set(psutil.Process(process).children(recursive=True))


def until_gone(processes: set[psutil.Process], seconds: float = 20) -> bool:
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return not alive


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_that_ends_leaves_no_sandbox_and_its_notebooks(engine: str, tmp_path: Path, how: signal.Signals) -> None:
    with ServerProcess(tmp_path, engine, "--pool-ready=1") as server:
        with server.client() as client:
            cell = {"source": "print('kept')", "create": True}
            client.post("/v1/sessions/one/execute", json=cell).raise_for_status()
            saved = client.get("/v1/transcripts").json()["transcripts"]
        assert [each["session"] for each in saved] == ["one"]
        children = descendants(server.process.pid)
        server.process.send_signal(how)
        status = server.process.wait(60)
    assert status == (-how if how == signal.SIGKILL else 0)
    assert until_gone(children)
    started = time.monotonic()
    with ServerProcess(tmp_path, engine, "--pool-ready=1") as again, again.client() as client:
        assert client.get("/readyz").status_code == 200
        serves_after = time.monotonic() - started
        assert client.get("/v1/sessions").json() == {"sessions": []}
        (kept,) = client.get("/v1/transcripts").json()["transcripts"]
        notebook = client.get(f"/v1/transcripts/{kept['id']}").json()
        assert notebook["cells"][0]["outputs"][0]["text"] == ["kept\n"]
        answer = client.post("/v1/sessions/one/execute", json={"source": "1", "create": True})
        assert answer.json()["status"] == "ok"
        print(f"{engine}: serves again {serves_after:.2f} s after its start, runs a cell after "
              f"{time.monotonic() - started:.2f} s")  # fmt: skip
    assert serves_after < SOON + time_of_imports()
    assert not containers_without_owner(engine)


def time_of_imports() -> float:
    """What an interpreter takes to start here and now, beyond a quiet machine's half second: others may be at work."""
    started = time.monotonic()
    psutil.Popen(["python3", "-c", "import json, asyncio"]).wait()
    return max(0.0, 10 * (time.monotonic() - started) - 1.0)


def containers_without_owner(engine: str) -> list[str]:
    """Sandboxes whose process is gone."""
    orphans: list[str] = portal().call(get_engine(engine).orphans)
    return orphans


def test_asynchronous_execution_of_a_killed_server_is_lost_and_says_so(server_engine: str, tmp_path: Path) -> None:
    query = {"identifier": "a", "api-version": GEN2}
    with ServerProcess(tmp_path, server_engine) as server, server.client() as client:
        body = {"code": "import time; time.sleep(60)", "executionType": "Asynchronous"}
        identity = client.post("/executions", params=query, json=body).json()["id"]
        server.process.kill()
        server.process.wait()
    with ServerProcess(tmp_path, server_engine) as again, again.client() as client:
        told = client.get(f"/executions/{identity}", params=query).json()
    assert (told["status"], told["error"]["code"]) == ("Failed", "ServerRestarted")


def test_server_that_is_told_to_end_lets_requests_end(server_engine: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, server_engine) as server, server.client() as client:
        client.post("/v1/sessions", json={"id": "a"}).raise_for_status()
        source = "print('began', flush=True)\nimport time; time.sleep(1)\n'whole'"
        with client.stream("POST", "/v1/sessions/a/execute?stream=true", json={"source": source}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: output"
            server.process.terminate()
            rest = list(lines)
        assert any("'whole'" in line for line in rest)
        assert '"status":"ok"' in rest[-2]
        assert server.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/healthz")


def test_log_holds_no_identifier_and_no_data(server_engine: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, server_engine) as server, server.client() as client:
        query = {"identifier": "SECRET-name", "api-version": GEN2}
        client.post("/executions", params=query, json={"code": "print('SECRET-output'); 1/0 # SECRET-code"})
        client.post("/files", params=query, files={"file": ("SECRET-file", b"x")})
        client.get("/v1/sessions/SECRET-name/files/SECRET-missing")
        client.get("/SECRET-path", headers={"authorization": "Bearer SECRET-token"})
        client.post("/executions", params=query, content=b"{SECRET")
    assert "SECRET" not in (tmp_path / "log").read_text()
