"""A short soak, which is a long one in small: honest and hostile cells in sessions that come and go leave nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import soak
from tests.faults.conftest import Fault
from tests.faults.slopes import Sample, judged, line

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(170)
def test_soak_of_honest_and_hostile_cells_leaves_nothing(engine: str, tmp_path: Path, fault: Fault) -> None:
    fault.fault = "20 s of honest and hostile cells by turns"
    told = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.faults.soak", "--minutes", "0.34", "--engine", engine, "--json", str(told)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=160, check=False)
    print(done.stdout)
    assert not done.stderr
    found = json.loads(told.read_text())
    assert not found["wrong"]
    assert found["done"][f"{engine}: cells"] >= 10
    assert found["done"][f"{engine}: sessions"] >= soak.AT_ONCE
    lines = {one["name"]: one for one in found["lines"]}
    assert lines.keys() == soak.TOLERANCES.keys()
    # At rest, a thing left by each session or by each of two cells is seen: there were more of them than is allowed.
    left = {name: one["after"] - one["before"] for name, one in lines.items() if one["verdict"] != "ok"}
    fault.leaked = len(left)
    assert not left
    assert done.returncode == 0


def samples(value_at: object) -> list[Sample]:
    assert callable(value_at)
    return [{"seconds": float(at), "value": value_at(at)} for at in range(0, 600, 2)]


def test_line_that_rises_is_a_leak_and_noise_is_none() -> None:
    chance = random.Random(3)
    noisy = line("value", samples(lambda at: 100 + chance.gauss(0, 5)), 0, 0)
    assert judged(noisy, rest=0, growth=1).verdict == "ok"
    warming = line("value", samples(lambda at: min(at, 190)), 0, 0)
    assert judged(warming, rest=0, growth=1).verdict == "ok"
    rising = line("value", samples(lambda at: 100 + at / 60 + chance.gauss(0, 2)), 0, 0)
    assert rising.slope * 3600 == pytest.approx(60, rel=0.2)
    assert abs(rising.slope * 3600 - 60) < 4 * rising.slope_error * 3600
    assert judged(rising, rest=0, growth=1).verdict == "LEAK"
    assert judged(rising, rest=0, growth=10).verdict == "ok"


def test_thing_that_stays_at_rest_is_a_leak() -> None:
    flat = samples(lambda at: 7.0)
    assert judged(line("value", flat, 3, 4), rest=0, growth=1).verdict == "LEAK"
    assert judged(line("value", flat, 3, 3), rest=0, growth=1).verdict == "ok"
