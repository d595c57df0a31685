"""Something stands still (SIGSTOP, docker pause): a cell's time limit ends it in the promised time all the same.

The promise: the time limit, then at most 1 s for an answer to the interrupt, twice `interrupt_grace`, and a restart; a
sandbox that is frozen as a whole is given up SIGNALLED_WITHIN after its interrupt was not answered.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kernel_sandbox import Limits, SandboxLost, Session
from kernel_sandbox.sandbox import link as guest_link
from kernel_sandbox.sandbox import sandbox as live
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.faults.census import all_inside, containers, first_process, process_inside, traces
from tests.faults.conftest import Fault

LIMITS = Limits(interrupt_grace=0.5)
ENDLESS = "import time\nprint('on', flush=True)\ntime.sleep(600)"
TIMEOUT = 1.0
RESTART = 1.5
"""Seconds that a restart may take on a busy machine."""


def freeze(engine: str, session_id: str) -> None:
    """Freeze a whole sandbox."""
    if engine == "docker":
        connect().api.pause(containers(session_id)[0])
    else:
        for pid in all_inside(engine, session_id):
            os.kill(pid, signal.SIGSTOP)


def test_stopped_kernel_is_restarted_on_time(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "kernel stopped (SIGSTOP) while a cell runs"
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        inner = int(session.execute("import os; os.getpid()").text)
        pid = process_inside(engine, session.id, inner)
        stream = session.stream(ENDLESS, timeout=TIMEOUT)
        next(stream)
        os.kill(pid, signal.SIGSTOP)
        for _ in stream:
            pass
        assert stream.execution is not None
        fault.detected_s = stream.execution.duration - TIMEOUT
        assert stream.execution.status == "timeout"
        assert "did not stop when interrupted, so the kernel was restarted" in str(stream.execution.cause)
        assert session.execute("6 * 7").text == "42"
    assert fault.detected_s < 1 + 2 * LIMITS.interrupt_grace + RESTART


def test_cell_is_interrupted_past_a_stopped_pid_1(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "PID 1 stopped (SIGSTOP) while a cell runs"
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        pid = first_process(engine, session.id)
        stream = session.stream(ENDLESS, timeout=TIMEOUT)
        next(stream)
        os.kill(pid, signal.SIGSTOP)
        for _ in stream:
            pass
        assert stream.execution is not None
        fault.detected_s = stream.execution.duration - TIMEOUT
        assert "was interrupted; variables are kept" in str(stream.execution.cause)
        os.kill(pid, signal.SIGCONT)
        assert len(session.files.list()) == 0
    assert fault.detected_s < 0.5


def test_frozen_sandbox_is_given_up_by_name(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "whole sandbox frozen while a cell runs"
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        stream = session.stream(ENDLESS, timeout=TIMEOUT)
        next(stream)
        freeze(engine, session.id)
        for _ in stream:
            pass
        assert stream.execution is not None
        fault.detected_s = stream.execution.duration - TIMEOUT
        assert stream.execution.status == "dead"
        with pytest.raises(SandboxLost, match="did not answer for 5 s: it is frozen or overloaded"):
            stream.execution.raise_for_error()
        session.restart()
        assert session.execute("6 * 7").text == "42"
    assert fault.detected_s < 1 + live.SIGNALLED_WITHIN + 0.5
    fault.leaked = len(left := traces(session.id))
    assert not left


def test_frozen_sandbox_takes_no_upload_and_says_so(
    engine: str, place: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.fault = "sandbox frozen during an upload"
    monkeypatch.setattr(guest_link, "PATIENCE", 1.0)
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        freeze(engine, session.id)
        started = time.monotonic()
        with pytest.raises(SandboxLost):
            session.files.write("large.bin", bytes(32 * 1024 * 1024))
        fault.detected_s = time.monotonic() - started
        assert "did not answer" in str(session.execute("1").cause)
    assert fault.detected_s < 2
    assert not traces(session.id)


def test_frozen_sandbox_is_replaced_by_a_restart(
    engine: str, place: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.fault = "idle sandbox frozen, then restarted"
    monkeypatch.setattr(live, "STOPPED_WITHIN", 1.0)
    with Session(engine=engine, image="python", limits=LIMITS) as session:
        freeze(engine, session.id)
        started = time.monotonic()
        session.restart()
        fault.detected_s = time.monotonic() - started
        assert session.execute("6 * 7").text == "42"
        freeze(engine, session.id)
    assert fault.detected_s < 1 + 1 + RESTART
    assert not traces(session.id)
