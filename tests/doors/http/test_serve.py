"""`kernel-sandbox serve`: what it says, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox.service.settings import describe
from tests.doors.http.running import ServerProcess


def serve(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command where it is expected to end by itself."""
    program = "from kernel_sandbox.doors.cli import main; main()"
    environment = {**os.environ, "XDG_STATE_HOME": str(directory), "COLUMNS": "100"}
    command = [sys.executable, "-c", program, "serve", "--image=python", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_help_names_every_setting(tmp_path: Path) -> None:
    said = serve(tmp_path, "--help")
    assert said.returncode == 0
    flags = said.stdout.split()
    assert [setting.flag for setting in describe() if setting.flag not in flags] == []
    assert "curl localhost:8000/v1/sessions/mine/execute" in said.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_serving_others_without_asking_who_they_are_is_refused(tmp_path: Path, host: str) -> None:
    for keys in ("auto", "off"):
        refused = serve(tmp_path, f"--host={host}", "--port=0", f"--keys={keys}")
        assert refused.returncode == 2
        assert "keys" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = serve(tmp_path, f"--port={taken.getsockname()[1]}")
    assert refused.returncode == 2
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("flag", ["--port=70000", "--pool-ready=many", "--limits-memory=1", "--nonsense=1"])
def test_setting_that_cannot_be_is_refused(tmp_path: Path, flag: str) -> None:
    refused = serve(tmp_path, flag)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_settings_of_a_file_are_taken_and_flags_go_before(server_engine: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_timeout = 1.0\n[pool]\nready = 0\nsessions = 1\n")
    with ServerProcess(tmp_path, server_engine, f"--config={file}", "--pool-sessions=2") as server:
        with server.client() as client:
            assert [client.post("/v1/sessions", json={"identifier": name}).status_code for name in "ab"] == [201, 201]
            told = client.post("/v1/sessions/a/execute", json={"source": "while True: pass"}).json()
        assert told["status"] == "timeout"
