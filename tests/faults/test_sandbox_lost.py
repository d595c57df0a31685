"""A sandbox is taken away behind the session's back: the session knows at once and by name, and can start another."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_sandbox import SandboxLost, Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.faults.census import (
    all_inside,
    bubblewrap_record,
    containers,
    first_process,
    left_at,
    process_inside,
    traces,
)
from tests.faults.conftest import Fault

Attack = Callable[[str], None]


def remove(session_id: str) -> None:
    connect().api.remove_container(containers(session_id)[0], force=True)


def stop(session_id: str) -> None:
    connect().api.stop(containers(session_id)[0])


def kill_pid_1(engine: str) -> Attack:
    return lambda session_id: os.kill(first_process(engine, session_id), signal.SIGKILL)


def kill_all(session_id: str) -> None:
    for pid in [bubblewrap_record(session_id)["process"]["pid"], *all_inside("bubblewrap", session_id)]:
        os.kill(pid, signal.SIGKILL)


ATTACKS: dict[str, tuple[str, Attack]] = {
    "container removed (docker rm -f)": ("docker", remove),
    "container stopped (docker stop)": ("docker", stop),
    "PID 1 of the container killed": ("docker", kill_pid_1("docker")),
    "PID 1 below bubblewrap killed": ("bubblewrap", kill_pid_1("bubblewrap")),
    "all of bubblewrap's processes killed": ("bubblewrap", kill_all),
}
WORDS = "container was killed or removed|container ended with status|first process ended with status"


@pytest.fixture(params=ATTACKS)
def attack(request: pytest.FixtureRequest, fault: Fault) -> tuple[str, Attack]:
    fault.fault, (fault.engine, attack) = request.param, ATTACKS[request.param]
    return fault.engine, attack


def test_lost_sandbox_ends_its_cell_at_once_and_another_follows(
    attack: tuple[str, Attack], place: Path, fault: Fault
) -> None:
    engine, strike = attack
    with Session(engine=engine, image="python") as session:
        stream = session.stream("import time\nprint('on', flush=True)\ntime.sleep(600)")
        next(stream)
        struck = time.monotonic()
        strike(session.id)
        for _ in stream:
            pass
        fault.detected_s = time.monotonic() - struck
        assert stream.execution is not None
        assert stream.execution.status == "dead"
        assert stream.execution.text.startswith("on\n")
        with pytest.raises(SandboxLost, match=WORDS):
            stream.execution.raise_for_error()
        with pytest.raises(SandboxLost):
            session.files.list()
        session.restart()
        assert session.execute("6 * 7").text == "42"
    fault.leaked = len(left := [*traces(session.id), *left_at(place)])
    assert not left
    assert fault.detected_s < 2


def test_sandbox_goes_on_without_bubblewrap_and_still_ends_with_the_session(
    bubblewrap: None, by_itself: None, place: Path, fault: Fault
) -> None:
    fault.fault, fault.engine = "bubblewrap's own process killed", "bubblewrap"
    with Session(engine="bubblewrap", image="python") as session:
        os.kill(bubblewrap_record(session.id)["process"]["pid"], signal.SIGKILL)
        assert session.execute("6 * 7").text == "42"
        closing = time.monotonic()
    fault.detected_s = time.monotonic() - closing
    fault.leaked = len(left := [*traces(session.id), *left_at(place)])
    assert not left


def test_lost_sandbox_ends_an_upload(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "sandbox killed during an upload"
    with Session(engine=engine, image="python") as session:
        pid = first_process(engine, session.id)
        os.kill(pid, signal.SIGSTOP)  # it takes no more of the file than fits on the way
        struck: list[float] = []

        def strike() -> None:
            struck.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(0.5, strike)
        timer.start()
        with pytest.raises(SandboxLost):
            session.files.write("large.bin", bytes(32 * 1024 * 1024))
        fault.detected_s = time.monotonic() - struck[0]
        timer.join()
    assert fault.detected_s < 1
    assert not traces(session.id)


def test_killed_kernel_is_named_and_files_stay(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "kernel killed from outside"
    with Session(engine=engine, image="python") as session:
        session.files.write("kept.txt", "here")
        inner = int(session.execute("import os, time; os.getpid()").text)
        pid = process_inside(engine, session.id, inner)
        stream = session.stream("print('on', flush=True)\ntime.sleep(600)")
        next(stream)
        struck = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        for _ in stream:
            pass
        fault.detected_s = time.monotonic() - struck
        assert stream.execution is not None
        assert "was ended by SIGKILL" in str(stream.execution.cause)
        session.restart()
        assert session.files.read("kept.txt") == b"here"
    assert fault.detected_s < 0.5
