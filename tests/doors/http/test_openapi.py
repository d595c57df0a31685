"""The OpenAPI description is true enough to test by, and no request that it allows breaks the server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.running import Running, running

SECONDS = 45
"""For all routes together."""


@pytest.fixture(scope="module")
def quick(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose sessions and cells end soon, so that many calls fit."""
    pool = PoolSettings(ready=2, sessions=6, queue_timeout=0.3, idle_timeout=5)
    directory = tmp_path_factory.mktemp("quick")
    with running(directory, engine=server_engine, pool=pool, max_timeout=2.0) as server:
        yield server


def test_description_is_complete(quick: Running) -> None:
    with quick.client() as client:
        described = client.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert {"summary", "description", "tags"} <= set(operation), (method, path)
    ids = [operation["operationId"] for each in described["paths"].values() for operation in each.values()]
    assert len(ids) == len(set(ids))


def test_reference_loads_nothing_from_elsewhere(quick: Running) -> None:
    with quick.client() as client:
        answer = client.get("/docs")
    assert not re.search(r"<script|https?://|src=|@import", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "/v1/sessions/{identifier}/execute" in answer.text


def test_no_described_request_breaks_the_server(quick: Running, tmp_path: Path) -> None:
    """schemathesis makes good and bad requests of all described ones; none may end in a server error."""
    command = ["-m", "schemathesis.cli", "run", f"{quick.address}/openapi.json", "--checks=not_a_server_error"]
    command += ["--phases=examples,coverage,fuzzing", "--max-examples=8", f"--max-time={SECONDS}", "--workers=1"]
    command += ["--request-timeout=30", "--no-color", "--generation-database=none", "--suppress-health-check=all"]
    command += ["--continue-on-failure"]
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=170, cwd=tmp_path)
    print(ran.stdout[-3000:])
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    generated = re.search(r"(\d+) generated", ran.stdout)
    assert generated, ran.stdout[-3000:]
    assert int(generated[1]) > 500
    with quick.client() as client:
        assert client.get("/readyz").status_code == 200
