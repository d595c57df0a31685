"""What a session keeps on the host, and what helps it inside, is taken away: work goes on, or says why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_sandbox import SandboxLost, Session
from tests.faults.census import all_inside, collect, first_process, left_at, process_inside, traces
from tests.faults.conftest import Fault

Attack = Callable[[Session], None]


def remove_gate(session: Session) -> None:
    for path in session.connection_file.parent.glob("h-?"):
        path.unlink()


def replace_gate(session: Session) -> None:
    for path in session.connection_file.parent.glob("h-?"):
        path.unlink()
        path.write_text("no socket")


def kill_helpers(session: Session) -> None:
    """Kill all inside but PID 1 and the kernel: the zygote, that is."""
    kernel = process_inside(session.engine, session.id, int(session.execute("import os; os.getpid()").text))
    kept = {first_process(session.engine, session.id), kernel}
    helpers = [pid for pid in all_inside(session.engine, session.id) if pid not in kept]
    assert helpers
    for pid in helpers:
        os.kill(pid, signal.SIGKILL)


ATTACKS: dict[str, Attack] = {
    "connection file removed": lambda session: session.connection_file.unlink(),
    "gate's sockets removed": remove_gate,
    "gate's sockets replaced by files": replace_gate,
    "owner's record removed": lambda session: (session.connection_file.parent / "owner.json").unlink(),
    "process that forks kernels killed": kill_helpers,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_session_goes_on_and_restarts_without(attack: str, engine: str, place: Path, fault: Fault) -> None:
    fault.fault = attack
    with Session(engine=engine, image="python") as session:
        session.files.write("kept.txt", "here")
        session.execute("kept = 6 * 7")
        ATTACKS[attack](session)
        assert session.execute("kept").text == "42"
        started = time.monotonic()
        session.restart()
        fault.detected_s = time.monotonic() - started
        assert session.execute("open('kept.txt').read()").text == "'here'"
        assert session.connection_file.exists()
    collect(engine)
    fault.leaked = len(left := [*traces(session.id), *left_at(place)])
    assert not left


@pytest.mark.parametrize("depth", ["run directory", "directory of all run directories"])
def test_removed_directory_ends_the_session_at_its_next_start(
    depth: str, engine: str, place: Path, fault: Fault
) -> None:
    fault.fault = f"{depth} removed"
    with Session(engine=engine, image="python") as session:
        directory = session.connection_file.parent
        session.execute("kept = 6 * 7")
        shutil.rmtree(directory if depth == "run directory" else directory.parent)
        assert session.execute("kept").text == "42"
        started = time.monotonic()
        with pytest.raises(SandboxLost, match=r"directory on this host was removed .* Call restart\(\) for a new one"):
            session.restart()
        fault.detected_s = time.monotonic() - started
        assert "was removed" in str(session.execute("1").cause)
        assert not traces(session.id)
        session.restart()
        assert session.execute("6 * 7").text == "42"
    fault.leaked = len(left := [*traces(session.id), *left_at(place)])
    assert not left
