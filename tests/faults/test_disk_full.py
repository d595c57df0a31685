"""A disk of the host is full: the transcript's, or the one that holds the sockets. Work that was done stays."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from kernel_sandbox import EngineError, Session, TranscriptError
from tests.faults.census import control_groups, own_descriptors, traces
from tests.faults.conftest import Fault
from tests.faults.disks import fill, set_size, small_disk, use_up_files

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a small disk is mounted by root")

ADVICE = "make room in /tmp, or set XDG_RUNTIME_DIR or TMPDIR"


def sources(path: Path) -> list[str]:
    """The cells of a notebook file that is whole, valid and strict JSON."""
    notebook = json.loads(path.read_bytes(), parse_constant=pytest.fail)
    nbformat.validate(notebook)
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_full_disk_keeps_the_notebook_and_says_what_to_do(
    engine: str, place: Path, tmp_path: Path, fault: Fault
) -> None:
    fault.fault = "disk full when the transcript is saved"
    with small_disk(tmp_path / "disk", "256k") as disk:
        notebook, large = disk / "session.ipynb", "kept = 6 * 7\nprint('x' * 400_000)"
        with Session(engine=engine, image="python", save=notebook) as session:
            session.execute("'small'")
            before = notebook.read_bytes()
            started = time.monotonic()
            with pytest.raises(TranscriptError, match=r"No space left on device\): free some room, or save it else"):
                session.execute(large)
            fault.detected_s = time.monotonic() - started
            assert notebook.read_bytes() == before
            assert os.listdir(disk) == ["session.ipynb"]
            assert sources(notebook) == ["'small'"]
            with pytest.raises(TranscriptError):
                session.execute("kept")  # it runs all the same
            elsewhere = session.transcript.save(tmp_path / "elsewhere.ipynb", validate=True)
            assert sources(elsewhere) == ["'small'", large, "kept"]
            set_size(disk, "4m")
            assert session.execute("kept + 1").text == "43"
            assert sources(notebook) == ["'small'", large, "kept", "kept + 1"]
            assert os.listdir(disk) == ["session.ipynb"]


def test_full_disk_fails_a_stream_only_at_its_end(place: Path, engine: str, tmp_path: Path, fault: Fault) -> None:
    fault.fault = "disk full when a streamed cell is saved"
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk)
        with Session(engine=engine, image="python", save=disk / "session.ipynb") as session:
            stream, shown = session.stream("print('shown')"), []
            with pytest.raises(TranscriptError, match="free some room"):
                for event in stream:
                    shown.append(event)
            assert [getattr(event, "text", "") for event in shown] == ["shown\n"]
            assert stream.execution is not None
            assert stream.execution.status == "ok"
            assert os.listdir(disk) == ["filler"]


@pytest.fixture(params=["bytes", "files"])
def full_place(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where run directories go, on a disk that has no more bytes, or no more files."""
    with small_disk(place / "disk", "512k") as disk:
        fill(disk) if request.param == "bytes" else use_up_files(disk)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(disk))
        yield disk


def test_full_run_directory_refuses_a_session_and_leaves_nothing(
    engine: str, full_place: Path, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "traitlets")  # a captured exception would keep what its frames hold
    fault.fault = "disk full for the run directory, at the start"
    session = Session(engine=engine, image="python")
    assert not traces(session.id)  # whatever connects to the engine has done so
    descriptors, listing = own_descriptors(), sorted(os.listdir(full_place))
    started = time.monotonic()
    with pytest.raises(EngineError, match=ADVICE):
        session.open()
    fault.detected_s = time.monotonic() - started
    assert own_descriptors() <= descriptors
    left = [*traces(session.id), *control_groups([session.id])]
    left += [name for name in os.listdir(full_place) if name not in [*listing, "kernel-sandbox"]]
    fault.leaked = len(left)
    assert not left
    assert fault.detected_s < 2


def test_run_directory_that_fills_up_stops_no_session_and_no_close(engine: str, place: Path, fault: Fault) -> None:
    fault.fault = "disk full for the run directory, later"
    with small_disk(place / "disk", "512k") as disk, pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(disk))
        with Session(engine=engine, image="python") as session:
            filler = fill(disk)
            assert session.execute("6 * 7").text == "42"
            session.files.write("a.txt", "here")
            with pytest.raises(EngineError, match=ADVICE):
                Session(engine=engine, image="python").open()
            filler.unlink()
            session.restart()
            assert session.files.read("a.txt") == b"here"
            fill(disk)
        left = [*traces(session.id), *disk.glob("kernel-sandbox/*/owner.json")]
        fault.leaked = len(left)
        assert not left


def test_full_run_directory_refuses_a_restart_until_there_is_room(place: Path, docker: None, fault: Fault) -> None:
    fault.fault, fault.engine = "disk full for the run directory, at a restart", "docker"
    with small_disk(place / "disk", "512k") as disk, pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(disk))
        with Session(engine="docker", image="python") as session:
            filler = fill(disk)
            with pytest.raises(EngineError, match=ADVICE):
                session.restart()
            died = session.execute("1")
            assert died.status == "dead"
            assert ADVICE in str(died.cause)
            filler.unlink()
            session.restart()
            assert session.execute("6 * 7").text == "42"
        assert not traces(session.id)
        shutil.rmtree(disk / "kernel-sandbox")
