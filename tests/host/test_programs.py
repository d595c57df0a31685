"""What a working directory holds is not run and not read by what we start, whatever the environment's paths say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import EngineError, Session
from kernel_sandbox.host import directories, programs
from kernel_sandbox.host.run_directory import base_directory
from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.service.state import default_database
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.setup.wheels import cache_directory
from kernel_sandbox.show.exports import export_notebook
from tests.shadowing import shadow, shadow_programs

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
RELATIVE = ["", ".", "bin", "./bin"]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with programs and modules of somebody else's; the file in which each writes its name."""
    (tmp_path / "bin").mkdir()
    for directory in (tmp_path, tmp_path / "bin"):
        shadow_programs(directory, tmp_path / "canary")
        shadow(directory, tmp_path / "canary")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([*RELATIVE, os.environ["PATH"]]))
    return tmp_path / "canary"


def test_programs_of_the_working_directory_are_not_found(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs.find("bwrap")
    assert found is None or Path(found).is_absolute()
    assert "" not in programs.environment()["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", ".:bin:")
    assert programs.find("bwrap") is None
    assert programs.environment()["PATH"] == os.defpath


def test_no_command_runs_a_program_of_the_working_directory(planted: Path, engine: str) -> None:
    planted.with_name("cell.py").write_text("print(6 * 7)")
    run = ["run", "cell.py", "--image", "python", "--engine", engine]
    for arguments in (run, ["doctor", "--engine", engine], ["image", "list"]):
        done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    assert not planted.exists()


def test_session_starts_no_program_of_the_working_directory(planted: Path, engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        assert session.execute("6 * 7").text == "42"
    assert not planted.exists()


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONUSERBASE", "PYTHONHOME", "JUPYTER_PATH"])
def test_programs_get_no_path_into_the_working_directory(
    planted: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, ".")
    assert variable not in programs.environment()
    monkeypatch.setenv(variable, "/opt/x")
    assert programs.environment(X="1").items() >= {variable: "/opt/x", "X": "1"}.items()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("./x.so", None),
        ("lib/x.so:libjemalloc.so.2 /usr/lib/y.so", "libjemalloc.so.2:/usr/lib/y.so"),
        ("libjemalloc.so.2 /usr/lib/y.so", "libjemalloc.so.2 /usr/lib/y.so"),
    ],
)
def test_programs_load_no_library_of_the_working_directory(
    given: str, passed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", given)
    assert programs.environment().get("LD_PRELOAD") == passed
    assert ("LD_PRELOAD" in programs.relative_entries()) == (given != passed)


def test_page_is_made_without_modules_of_the_working_directory(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbconvert")
    for entry in RELATIVE:
        monkeypatch.setenv("PYTHONPATH", f"{entry}{os.pathsep}/nowhere")
        transcript = Transcript()
        transcript.add_code_cell("6 * 7")
        assert "<html" in export_notebook(transcript)
    assert not planted.exists()


@pytest.mark.parametrize("relative", [".", "x", "./x", "~x"])
def test_directories_of_the_user_are_absolute(relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(variable, relative)
        assert directories.given(variable) is None
    for place in (cache_directory(), directories.state(), base_directory(), Path(default_database())):
        assert place.is_absolute()
        assert not place.is_relative_to(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("KERNEL_SANDBOX_PREFIX", relative.replace("~x", "y"))
    with pytest.raises(EngineError, match="set an absolute path"):
        environments.find("python")


def test_directories_of_root_are_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sandboxes start from, which run as another user, and what a service keeps; the rest is in root's home."""
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "KERNEL_SANDBOX_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache, state = tmp_path / ".cache/kernel-sandbox", tmp_path / ".local/state/kernel-sandbox"
    assert (cache_directory(), directories.state()) == (cache / "wheels", state)
    is_root = os.geteuid() == 0
    assert environments.prefix() == (Path("/var/cache/kernel-sandbox") if is_root else cache)
    assert Path(default_database()).parent == (Path("/var/lib/kernel-sandbox") if is_root else state)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_database() == "/state/kernel-sandbox/server.db"


def test_doctor_names_relative_entries(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "t")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/lib")
    arguments = [COMMAND, "doctor", "--json", "--engine", "bubblewrap"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    (found,) = [finding for finding in json.loads(done.stdout) if finding["subject"] == "Search paths"]
    assert found["verdict"] == "note"
    assert found["detail"].startswith("PATH, TMPDIR mean the working directory too.")
    assert not planted.exists()
