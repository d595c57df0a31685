"""The Docker engine crashes and comes back: what it ran is lost by name, nothing of it stays, and work goes on."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import EngineUnavailable, SandboxLost, Session
from kernel_sandbox.sandbox.engines import docker_client
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.faults.census import containers, seconds_until_none
from tests.faults.conftest import Fault
from tests.faults.private_engine import PrivateEngine

# docker-py leaves a socket that did not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

ENDLESS = "print('on', flush=True)\nwhile True: pass"


@pytest.fixture
def engine(
    private_engine: PrivateEngine, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[str]:
    """The engine that may be killed takes the place of the one that all other tests use."""
    monkeypatch.setenv("DOCKER_HOST", private_engine.host)
    caplog.set_level(logging.CRITICAL, "traitlets")  # a captured exception would keep such a socket to the end
    yield "docker"
    gc.collect()


def left(private_engine: PrivateEngine, session_id: str) -> list[str]:
    found = [f"container {identifier}" for identifier in containers(session_id)]
    found += [f"mount {mount}" for mount in private_engine.mounts() if "/overlay2/" in mount or "/netns/" in mount]
    return found + [f"control group {group}" for group in private_engine.control_groups()]


def test_engine_killed_ends_the_cell_by_name_and_comes_back(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault
) -> None:
    fault.fault = "engine killed while a cell runs, then restarted"
    with Session(engine=engine, image="python") as session:
        stream = session.stream(ENDLESS)
        next(stream)
        killed = time.monotonic()
        private_engine.kill()
        for _ in stream:
            pass
        fault.detected_s = time.monotonic() - killed
        assert stream.execution is not None
        assert stream.execution.status == "dead"
        assert "the engine that ran it does not answer any more" in str(stream.execution.cause)
        with pytest.raises(EngineUnavailable, match="Point DOCKER_HOST at one that runs"):
            session.restart()
        private_engine.start()
        seconds_until_none(lambda: left(private_engine, session.id), 5)
        session.restart()
        assert session.execute("6 * 7").text == "42"
    assert fault.detected_s < 1
    fault.leaked = len(left(private_engine, session.id))
    assert not fault.leaked


def test_engine_killed_under_an_idle_session_that_is_closed_meanwhile(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault
) -> None:
    fault.fault = "engine killed, session closed before it is back"
    session = Session(engine=engine, image="python")
    session.open()
    private_engine.kill()
    killed = time.monotonic()
    died = session.execute("while True: pass")
    fault.detected_s = time.monotonic() - killed
    assert isinstance(died.cause, SandboxLost)
    with pytest.raises(EngineUnavailable):  # it cannot promise that nothing is left
        session.close()
    assert not list(place.glob("kernel-sandbox/*"))
    private_engine.start()
    seconds_until_none(lambda: left(private_engine, session.id), 5)


def test_engine_that_is_down_refuses_by_name_and_leaves_nothing(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault
) -> None:
    fault.fault = "engine down when a session opens"
    private_engine.kill()
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="No Docker engine answers"):
        Session(engine=engine, image="python").open()
    fault.detected_s = time.monotonic() - started
    assert not list(place.glob("kernel-sandbox/*"))
    private_engine.start()
    with Session(engine=engine, image="python") as session:
        assert session.execute("1 + 1").text == "2"


@contextlib.contextmanager
def out_of_reach(private_engine: PrivateEngine) -> Iterator[None]:
    """Take the engine's socket away; who is connected stays so."""
    socket = Path(private_engine.host.removeprefix("unix://"))
    hidden = socket.rename(socket.with_suffix(".hidden"))
    try:
        yield
    finally:
        hidden.rename(socket)


def test_session_goes_on_where_the_engine_is_out_of_reach(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault
) -> None:
    fault.fault = "engine's socket taken away under a session"
    with Session(engine=engine, image="python") as session:
        session.files.write("kept.txt", "here")
        connect().close()  # what it keeps open would still reach the engine
        with out_of_reach(private_engine):
            assert session.execute("6 * 7").text == "42"
            started = time.monotonic()
            with pytest.raises(EngineUnavailable, match="No Docker engine answers"):
                Session(engine=engine, image="python").open()
            fault.detected_s = time.monotonic() - started
            session.restart()
            assert session.files.read("kept.txt") == b"here"
    fault.leaked = len(left(private_engine, session.id))
    assert not fault.leaked


def test_session_that_closes_out_of_the_engines_reach_still_ends(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault
) -> None:
    fault.fault = "engine's socket taken away, session closed"
    session = Session(engine=engine, image="python")
    session.open()
    connect().close()
    with out_of_reach(private_engine):
        closing = time.monotonic()
        with pytest.raises(EngineUnavailable):  # it cannot promise that nothing is left
            session.close()
        fault.detected_s = time.monotonic() - closing
        assert not list(place.glob("kernel-sandbox/*"))
    seconds_until_none(lambda: left(private_engine, session.id), 5)


def test_engine_that_stands_still_refuses_by_name_and_harms_no_session(
    engine: str, private_engine: PrivateEngine, place: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.fault = "engine stopped (SIGSTOP) under a session"
    monkeypatch.setattr(docker_client, "API_TIMEOUT", 1)
    docker_client._client.cache_clear()
    with Session(engine=engine, image="python") as session:
        os.kill(private_engine.pid, signal.SIGSTOP)
        try:
            assert session.execute("6 * 7", timeout=10).text == "42"
            assert session.execute("while True: pass", timeout=0.5).status == "timeout"
            started = time.monotonic()
            with pytest.raises(EngineUnavailable, match="No Docker engine answers"):
                Session(engine=engine, image="python").open()
            fault.detected_s = time.monotonic() - started
        finally:
            os.kill(private_engine.pid, signal.SIGCONT)
        assert session.execute("6 * 7").text == "42"
    assert fault.detected_s < 5
    seconds_until_none(lambda: left(private_engine, session.id), 5)
    docker_client._client.cache_clear()
