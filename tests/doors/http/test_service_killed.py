"""A server that was killed, and one that was told to end: what they leave, and how soon the next one serves."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.doors.http.running import GEN1, GEN2, ServerProcess
from tests.faults.census import alive, collect, containers_made, processes, seconds_until_none, traces

SOON = 2.0
"""Seconds in which a server that starts again must serve."""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_that_ends_leaves_no_sandbox_and_its_notebooks(engine: str, tmp_path: Path, how: signal.Signals) -> None:
    began = time.time()
    with ServerProcess(tmp_path, engine, "--pool-ready=1") as server:
        with server.client() as client:
            session_id, transcript = run_a_cell(client)
        server.process.send_signal(how)
        status = server.process.wait(60)
    assert status == (-how if how == signal.SIGKILL else 0)
    words = [session_id, *containers_made(session_id, began)] if engine == "docker" else [session_id]
    ended = seconds_until_none(lambda: alive(engine, session_id), 10)
    started = time.monotonic()
    with ServerProcess(tmp_path, engine, "--pool-ready=1") as again, again.client() as client:
        assert client.get("/healthz").status_code == 200
        serves, used = time.monotonic() - started, processor_time(again.process.pid)
        assert client.get("/v1/sessions").json() == {"sessions": []}
        assert client.get(f"/v1/transcripts/{transcript}").json()["cells"][0]["outputs"][0]["text"] == ["kept\n"]
        run_a_cell(client)
    seconds_until_none(lambda: [f"process {pid}" for pid in processes(words)], 10)
    collect(engine)
    assert not traces(session_id, words)
    print(f"{engine}, {how.name}: sandbox gone after {ended:.2f} s, serves after {serves:.2f} s ({used:.2f} s of work)")
    assert min(serves, used) < SOON  # while others use the machine, its clock says nothing


def run_a_cell(client: httpx.Client) -> tuple[str, str]:
    """Run a cell in a new session: the id of its sandbox, and of its notebook."""
    query = {"identifier": "one", "api-version": GEN1}
    ran = client.post("/code/execute", params=query, json={"properties": {"code": "print('kept')"}})
    assert ran.json()["properties"]["stdout"] == "kept\n"
    deadline = time.monotonic() + 10
    while not (saved := client.get("/v1/transcripts").json()["transcripts"]):
        assert time.monotonic() < deadline
    return ran.headers["x-ms-session-guid"], saved[0]["id"]


def processor_time(process: int) -> float:
    """Seconds of a processor that a process has used: what its start takes where nothing else runs."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        client.post("/v1/sessions", json={"identifier": "a"}).raise_for_status()
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
