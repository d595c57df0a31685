"""Limits are read again while a session lives: one that somebody took away is put back, and said."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernel_sandbox import Limits, Session
from kernel_sandbox.sandbox import guarding
from kernel_sandbox.sandbox.engines import control_groups, scopes
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup, Setting

LIMITS = Limits(memory="512m", pids=64, cpus=0.5)
LOOSE = {"memory": "-1", "pids": "max", "cpu": "-1", "sockets": "-1"}
LOOSE_UNIFIED = {"memory": "max", "pids": "max", "cpu": "max 100000"}
SAID = {
    "memory": "limit for the memory as a whole",
    "pids": "limit for the number of processes",
    "cpu": "limit for processor time",
    "sockets": "limit for the buffers of TCP sockets",
}
PROBE = """
import time
began, used = time.time(), time.process_time()
while time.time() < began + 2: pass
(time.process_time() - used) / 2
"""


def group_of(session: Session) -> ControlGroup:
    return session._session._sandbox.group  # type: ignore[union-attr]


@pytest.mark.parametrize("limit", ["memory", "pids", "cpu"])
def test_limit_that_was_taken_away_is_put_back_and_said(
    engine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    monkeypatch.setattr(guarding, "LIMITS_READ_EVERY", 0.2)
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        group = group_of(session)
        settings = [setting for setting in group.settings if setting.limit == limit]
        assert settings
        before = {setting.file: setting.file.read_text() for setting in settings}
        with caplog.at_level(logging.WARNING, "kernel_sandbox"):
            for setting in reversed(settings):  # memory and swap together before memory alone (cgroup v1)
                setting.file.write_text((LOOSE_UNIFIED if group.unified else LOOSE)[limit])
            give_up = time.monotonic() + 10
            while SAID[limit] not in caplog.text and time.monotonic() < give_up:
                time.sleep(0.05)
        assert f"Session {session.id}: its {SAID[limit]} was gone, and was set again." in caplog.text
        assert {setting.file: setting.file.read_text() for setting in settings} == before
        assert session.weakened == ()


def test_half_a_processor_is_half_a_processor(engine: str) -> None:
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        assert 0.1 < float(session.execute(PROBE).text) < 0.62


def test_limit_that_stays_gone_is_a_weakness(tmp_path: Path) -> None:
    whole, gone = tmp_path / "memory.max", tmp_path / "cpu.max"
    whole.write_text("1024\n")
    gone.mkdir()  # nobody can write there, root neither
    group = ControlGroup(settings=(Setting("memory", whole, "2048"), Setting("cpu", gone, "50000 100000")))
    assert group.renew() == ([], ["no limit for processor time"])


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ("50000 100000", True),
        ("49999 100000", True),
        ("100000 200000", True),
        ("50001 100000", False),
        ("max 1", False),
    ],
)
def test_more_processor_time_than_the_limit_is_no_limit(tmp_path: Path, found: str, holds: bool) -> None:
    (tmp_path / "cpu.max").write_text(found)
    assert Setting("cpu", tmp_path / "cpu.max", "50000 100000").holds() == holds


HASTENED = """
import sys, threading
from pathlib import Path
from kernel_sandbox.sandbox.engines import control_groups
Path(sys.argv[1], "cgroup.procs").write_text("0")
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
control_groups.hasten_entry(control_groups.ControlGroup((Path("/nowhere/group"),)))
print("went on")
"""


def test_process_that_may_start_no_thread_starts_sandboxes_all_the_same() -> None:
    group = control_groups.create(f"kernel-sandbox-test-{os.getpid()}", Limits(pids=1))
    try:
        places = [place for place in group.directories if (place / "pids.max").exists()]
        if not places or scopes.manager() is not None:
            pytest.skip("no group for the number of processes is made here")
        done = subprocess.run([sys.executable, "-c", HASTENED, places[0]], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("no thread\nwent on\n", "")
    finally:
        control_groups.remove(group.directories)
