"""A host that forks: its child has no part in its sandboxes, and neither's end is the other's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.census import alive, collect, seconds_until_none
from tests.faults.conftest import Fault

ROOT = Path(__file__).parents[2]
KINDS = {
    "sync": ["SessionClosed forked"] * 4 + ["None"],
    "multiprocessing": ["SessionClosed forked"] * 4 + ["None"],
    "async": ["SessionClosed forked"] * 2,
    "pool": ["PoolClosed forked", "SessionClosed forked", "None"],
}
"""How a session is held, and what its uses say in the child."""


@contextmanager
def host(engine: str, kind: str, end: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A host that has forked: the process, its session's id, and its child, which lives."""
    command = [sys.executable, "-m", "tests.faults.forked_host", engine, kind, end]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        session_id = process.stdout.readline().strip()
        pid, _, said = process.stdout.readline().strip().partition(" ")
        try:
            assert said == " ".join([*KINDS[kind], "42"])
            yield process, session_id, int(pid)
        finally:
            process.kill()
            if end == "killed":
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_host_that_forked_leaves_no_sandbox(engine: str, kind: str, fault: Fault) -> None:
    fault.fault = f"host that forked was killed: {kind}"
    with host(engine, kind, "killed") as (process, session_id, child):
        assert alive(engine, session_id)
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        assert process.wait(10) == -signal.SIGKILL
        fault.detected_s = seconds_until_none(lambda: alive(engine, session_id), 2)
        assert Path(f"/proc/{child}").exists()
        ours = [os.readlink(entry) for entry in Path(f"/proc/{child}/fd").iterdir()]
        assert not [name for name in ours if session_id in name or "/k/" in name]
    collect(engine)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_host_goes_on_when_its_child_has_ended(engine: str, kind: str) -> None:
    with host(engine, kind, "goes on") as (process, _, _):
        assert process.stdout is not None
        assert process.stdout.read().strip() == "'went on'"
        assert process.wait(30) == 0
