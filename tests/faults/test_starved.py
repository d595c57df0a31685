"""The host process gets no more descriptors or threads: what would start is refused by name, what runs goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio.to_thread
import pytest

from kernel_sandbox import Session
from kernel_sandbox.host.reactor import portal
from tests.faults import starved
from tests.faults.census import collect, left_at, traces
from tests.faults.conftest import Fault

ROOT = Path(__file__).parents[2]


def test_session_without_descriptors_is_refused_at_once_and_harms_no_other(
    engine: str, place: Path, fault: Fault
) -> None:
    fault.fault = "descriptors exhausted at each step of a start"
    command = [sys.executable, "-m", "tests.faults.starved", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [attempt["left"] for attempt in told] == [*starved.LEFT, *starved.LEFT_UNSEEN]
    assert {attempt["running"] for attempt in told} == {"42"}
    refused = [attempt for attempt in told if attempt["refusal"]]
    assert [attempt["left"] for attempt in told if not attempt["refusal"]] == [starved.LEFT[-1]]
    for attempt in refused:
        assert attempt["refusal"].startswith("EngineError: This process gets no more from the system (Too many open")
        assert attempt["refusal"].endswith("raise its limit of open files (ulimit -n), or close other sessions.")
        assert attempt["seconds"] < 5
    fault.detected_s = max(attempt["seconds"] for attempt in refused)
    left = [trace for attempt in told for trace in traces(attempt["session"])]
    left += left_at(place)
    grown = told[-1]["descriptors"] - told[0]["descriptors"]
    fault.leaked = len(left) + grown
    assert not left
    assert grown <= 0


@pytest.mark.timeout(60)
def test_threads_that_wait_for_people_and_models_keep_no_session_from_its_engine(
    engine: str, place: Path, fault: Fault
) -> None:
    fault.fault = "all threads of the shared pool are taken"
    release = threading.Event()

    async def wait() -> None:
        await anyio.to_thread.run_sync(release.wait)

    async def free() -> float:
        return anyio.to_thread.current_default_thread_limiter().available_tokens

    waiting = [portal().start_task_soon(wait) for _ in range(100)]
    try:
        assert portal().call(free) == 0
        started = time.monotonic()
        with Session(engine=engine, image="python") as session:
            assert session.execute("6 * 7").text == "42"
            session.files.write("a.txt", "here")
            session.restart()
            assert session.files.read("a.txt") == b"here"
        collect(engine)
        fault.detected_s = time.monotonic() - started
    finally:
        release.set()
    for task in waiting:
        task.result()
    fault.leaked = len(traces(session.id))
    assert not fault.leaked
