"""The host gets SIGKILL at each point of a session's life: what ran ends by itself, the next process tidies up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from tests.faults import host
from tests.faults.census import alive, collect, containers_made, left_at, processes, seconds_until_none, traces
from tests.faults.conftest import Fault

ROOT = Path(__file__).parents[2]


def die_at(engine: str, point: str, notebook: Path) -> str:
    """Run a host process to its death, and return the id of its session."""
    command = [sys.executable, "-m", "tests.faults.host", engine, point, str(notebook)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -9, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("point", host.POINTS)
def test_killed_host_leaves_nothing(engine: str, point: str, place: Path, tmp_path: Path, fault: Fault) -> None:
    fault.fault = f"host process killed: {point}"
    notebook, started = tmp_path / "session.ipynb", time.time()
    session_id = die_at(engine, point, notebook)
    fault.detected_s = seconds_until_none(lambda: alive(engine, session_id), 2)
    words = [session_id, *containers_made(session_id, started)] if engine == "docker" else [session_id]
    seconds_until_none(lambda: [f"process {pid}" for pid in processes(words)], 1)
    collect(engine)
    left = [*traces(session_id, words), *left_at(place)]
    fault.leaked = len(left)
    assert not left
    if point not in host.STARTS:
        check_notebook(notebook)


def check_notebook(path: Path) -> None:
    """The cells that were complete are there, whole and valid."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == ["first = 1\nprint('first')", "first + 1"]
    assert notebook.cells[1].outputs[0].data["text/plain"] == "2"
