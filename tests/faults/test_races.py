"""Sixty sessions at once, opened, used, cancelled, closed, killed at random moments; hosts killed in the crowd."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import crowd
from tests.faults.census import alive, collect, left_at, orphaned_mounts, seconds_until_none, traces
from tests.faults.conftest import Fault

ROOT = Path(__file__).parents[2]
SPAN = {"docker": "12", "bubblewrap": "5"}
"""Seconds in which sixty sessions have started on two processors, about."""
WELL = {"works", "cancelled", "done", "refused", "dead"}
OVERLOADED = ("KernelNotReady: ", "SandboxLost: The sandbox does not answer (nothing came for 30 s)")
"""How a start is refused where sixty at once are more than a machine can do in the time that each may take."""


def command(engine: str, count: int, seed: int) -> list[str]:
    return [sys.executable, "-m", "tests.faults.crowd", engine, str(count), str(seed), SPAN[engine]]


@pytest.mark.timeout(240)
def test_sixty_sessions_at_once_leave_nothing(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "60 sessions at once: opened, cancelled, killed"
    done = subprocess.run(command(engine, 60, 1), cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    ids, told = map(json.loads, done.stdout.splitlines())
    assert not done.stderr
    ends = Counter(life["end"] for life in told["ends"])
    assert ends.total() == 60
    assert {life["fate"] for life in told["ends"]} == set(crowd.FATES)
    assert not [end for end in ends if end not in WELL and not end.startswith(OVERLOADED)]
    assert ends["works"] >= 10
    grown = {name: told["after"][name] - before for name, before in told["before"].items()}
    left = [f"{number} {name}" for name, number in grown.items() if number > 0]
    left += [trace for session_id in ids for trace in traces(session_id)]
    left += left_at(place)
    fault.leaked = len(left)
    assert not left
    if engine == "docker":
        seconds_until_none(orphaned_mounts, 10)  # other tests' containers come and go meanwhile


@pytest.mark.parametrize("seed", [1, 2])
def test_host_killed_in_a_crowd_leaves_nothing(engine: str, seed: int, place: Path, fault: Fault) -> None:
    fault.fault = "host killed while 12 sessions come and go"
    moment = random.Random(seed).uniform(0.5, 4)
    with subprocess.Popen(command(engine, 12, seed), cwd=ROOT, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        ids = json.loads(host.stdout.readline())
        time.sleep(moment)  # the fault's moment; nothing is waited for
        host.kill()
    fault.detected_s = seconds_until_none(lambda: [one for session_id in ids for one in alive(engine, session_id)], 10)
    collect(engine)
    left = [*(one for session_id in ids for one in traces(session_id)), *left_at(place)]
    fault.leaked = len(left)
    assert not left
