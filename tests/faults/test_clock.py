"""The wall clock of the host jumps by hours and decades: no deadline, no cell and no clearing away goes by it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import Session
from tests.faults import shifted
from tests.faults.census import alive, collect, left_at, seconds_until_none, traces
from tests.faults.conftest import Fault

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """What shifts the wall clock of a process: compiled here, because it goes by the machine's C library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler makes what shifts the clock: apt-get install gcc libc6-dev")
    library = tmp_path / "clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("clock.c")], check=True
    )
    return library


def test_wall_clock_that_jumps_disturbs_no_deadline_and_no_clearing_away(
    engine: str, place: Path, shim: Path, tmp_path: Path, fault: Fault
) -> None:
    fault.fault = "wall clock jumps by hours and decades"
    clock = tmp_path / "shift"
    clock.write_bytes(struct.pack("q", 0))
    environment = os.environ | {"LD_PRELOAD": str(shim), "CLOCK_SHIFT": str(clock)}
    command = [sys.executable, "-m", "tests.faults.shifted", engine, str(clock)]
    with Session(engine=engine, image="python") as neighbour:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == -9, done.stderr
        # The jumping process has looked for what dead owners left, too: this one's is not that.
        assert neighbour.execute("6 * 7").text == "42"
    session_id, line = done.stdout.splitlines()
    told = json.loads(line)
    assert max(told["jumps"]) > 9.9 * 3600
    assert min(told["jumps"]) < -49 * 365 * 86400
    for name in shifted.STEPS:
        assert told[name]["short"]["status"] == "ok"
        assert 0.3 <= told[name]["short"]["seconds"] < 10
        assert told[name]["endless"]["status"] == "timeout"
        assert 1 <= told[name]["endless"]["seconds"] < 8
        for cell in (told[name]["short"], told[name]["endless"]):
            assert 0 <= cell["duration"] <= cell["seconds"]
        assert told[name]["file"] == name
        assert told[name]["another"] == "42"
    fault.detected_s = max(told[name]["endless"]["seconds"] - 1 for name in shifted.STEPS)
    seconds_until_none(lambda: alive(engine, session_id), 2)
    collect(engine)
    left = [*traces(session_id), *left_at(place)]
    fault.leaked = len(left)
    assert not left
