"""What is said of a notebook that was kept: opened in Jupyter, its cells must not run on this machine unnoticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import Session, Transcript, kernelspec

from .conftest import missing

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
LACKS = "Jupyter lacks the sandboxed kernel: it would run these cells on your machine.\n"
FOREIGN = {"argv": [sys.executable], "display_name": "Python (sandbox)", "language": "python"}


@pytest.fixture
def jupyter(tmp_path: Path) -> Path:
    """A directory that Jupyter looks into first."""
    place = tmp_path / "jupyter"
    (place / "kernels").mkdir(parents=True)
    return place


def shadow(jupyter: Path) -> None:
    """Put somebody else's kernelspec before ours, under its name."""
    directory = jupyter / "kernels" / kernelspec.DEFAULT_NAME
    directory.mkdir()
    (directory / "kernel.json").write_text(json.dumps(FOREIGN))


def run_and_save(directory: Path, jupyter: Path, *command: str) -> str:
    if reason := missing("docker"):
        pytest.skip(reason)
    (directory / "s.py").write_text("print(1)")
    arguments = [COMMAND, *command, "--save", "out.ipynb", "--image", "python"]
    environment = os.environ | {"JUPYTER_PATH": str(jupyter)}
    done = subprocess.run(
        arguments, cwd=directory, env=environment, input="1\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["run s.py", "repl", "ask --model offline describe --data s.csv"])
def test_notebook_is_opened_after_its_kernel_is_installed(tmp_path: Path, jupyter: Path, command: str) -> None:
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    shadow(jupyter)
    lines = run_and_save(tmp_path, jupyter, *command.split()).partition("The notebook is out.ipynb.\n")[2]
    assert lines.startswith(f"{LACKS}  first:        kernel-sandbox kernelspec install\n  then open it: ")
    assert lines.endswith(
        "  run it again: kernel-sandbox run out.ipynb\n  make a page:  kernel-sandbox export out.ipynb\n"
    )


def test_notebook_is_opened_where_its_kernel_is_there(tmp_path: Path, jupyter: Path) -> None:
    kernelspec.install(jupyter / "kernels")
    lines = run_and_save(tmp_path, jupyter, "run", "s.py")
    assert LACKS not in lines
    assert "jupyter lab out.ipynb\n  run it again: kernel-sandbox run out.ipynb\n" in lines


def test_kernel_of_another_is_not_taken_for_the_sandboxed_one(jupyter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter))
    kernelspec.install(jupyter / "kernels")
    assert kernelspec.warning() == ""
    (jupyter / "kernels" / kernelspec.DEFAULT_NAME / "kernel.json").unlink()
    (jupyter / "kernels" / kernelspec.DEFAULT_NAME / "logo-svg.svg").unlink()
    (jupyter / "kernels" / kernelspec.DEFAULT_NAME).rmdir()
    shadow(jupyter)
    assert kernelspec.warning() == f"{LACKS.strip()} First: kernel-sandbox kernelspec install"


def test_kernelspecs_of_the_working_directory_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for entry in ("jupyter", ""):
        kernelspec.install(Path(entry, "kernels"), name="planted")
    monkeypatch.setenv("JUPYTER_PATH", f"jupyter:{os.pathsep}.")
    assert "planted" not in {known.name for known in kernelspec.installed()}


def test_transcript_names_the_sandboxed_kernel_whatever_it_was_of(engine: str) -> None:
    for name in ("python3", "theirs", kernelspec.DEFAULT_NAME):
        transcript = Transcript(metadata={"kernelspec": {"name": name, "display_name": "Python 3", "x": 1}})
        with Session(engine=engine, image="python", transcript=transcript) as session:
            kept = session.transcript.metadata["kernelspec"]
        assert kept == {"name": "python-sandbox", "display_name": "Python (sandbox)", "language": "python"}
