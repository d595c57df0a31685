"""What is said of a notebook that was kept: opened in Jupyter, its cells must not run on this machine unnoticed."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import Session, Transcript
from kernel_sandbox.setup import kernelspec
from tests.conftest import missing, read_to

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
    arguments = [COMMAND, command[0], "--image", "python", *command[1:], "--save", "out.ipynb"]
    environment = os.environ | {"JUPYTER_PATH": str(jupyter)}
    done = subprocess.run(
        arguments, cwd=directory, env=environment, input="1\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command", ["run s.py", "repl", "ask --image datascience describe --model offline --data s.csv"]
)
def test_notebook_is_opened_after_its_kernel_is_installed(tmp_path: Path, jupyter: Path, command: str) -> None:
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    shadow(jupyter)
    lines = run_and_save(tmp_path, jupyter, *command.split()).partition("The notebook is out.ipynb.\n")[2]
    assert lines.startswith(f"{LACKS}  first:        kernel-sandbox kernelspec install\n  then open it: ")
    given = " --data s.csv" if "--data" in command else ""
    assert f"  run it again: kernel-sandbox run out.ipynb{given}\n" in lines
    assert lines.endswith("  make a page:  kernel-sandbox export out.ipynb\n")


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


@pytest.mark.parametrize(
    ("link", "target", "command", "said"),
    [
        ("out.ipynb", "profile", "run s.py --save out.ipynb", "is a link to"),
        ("out.ipynb", "absent.rc", "repl --save out.ipynb", "is a link to"),
        ("out_files", ".", "run s.py --save out.ipynb", "name one with --output-dir"),
        ("out_files", ".", "repl --save out.ipynb", "name one with --output-dir"),
        ("out_files", ".", "ask --model offline x --save out.ipynb", "name one with --output-dir"),
        ("traffic_accidents.csv", "profile", "demo --yes", "run this in another directory"),
        ("traffic_demo.ipynb", "absent.ipynb", "demo --yes", "run this in another directory"),
        ("s.py", "profile", "export n.ipynb --to py", "is there already"),
        ("n.html", "absent.rc", "export n.ipynb", "is there already"),
        ("mine.md", "profile", "export n.ipynb -o mine.md", "is a link to"),
        ("out.ipynb", "other.ipynb", "run s.py --save out.ipynb", "is a link to"),
        ("out.ipynb", "absent.ipynb", "ask --model offline x --save out.ipynb", "is a link to"),
        ("mine.md", "other.md", "export n.ipynb -o mine.md", "is a link to"),
        ("there", ".", "run s.py --save there/other.ipynb", "is a link to"),
        ("there", ".", "repl --save ./there/new.ipynb", "is a link to"),
        ("there", ".", "run s.py --save new.ipynb --output-dir there", "is a link to"),
        ("there", ".", "ask --model offline x --artifacts --output-dir there/new", "is a link to"),
        ("there", ".", "export n.ipynb -o there/other.md", "is a link to"),
        ("there", ".", "mcp --save there/new.ipynb", "is a link to"),
        ("there", ".", "mcp --save-dir there", "is a link to"),
    ],
)
def test_link_does_not_decide_what_is_written_over(
    tmp_path: Path, link: str, target: str, command: str, said: str
) -> None:
    elsewhere, here = tmp_path / "home", tmp_path / "theirs"
    elsewhere.mkdir()
    here.mkdir()
    for name in ("other.ipynb", "other.md", "profile"):
        (elsewhere / name).write_text("mine")
    (here / "s.py").write_text("print(1)")
    Transcript().save(here / "n.ipynb")
    (here / "n.py").symlink_to(elsewhere / "profile")
    (here / link).unlink(missing_ok=True)
    (here / link).symlink_to(elsewhere / target)
    arguments = [COMMAND, *command.split()]
    done = subprocess.run(arguments, cwd=here, input="", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert said == "is there already" or str(elsewhere) in done.stderr, "the way out is the real path"
    found = [(path.name, path.read_text()) for path in sorted(elsewhere.iterdir())]
    assert found == [("other.ipynb", "mine"), ("other.md", "mine"), ("profile", "mine")]


@pytest.mark.parametrize("command", ["mcp --data there/a.csv", "mcp --mount there", "ask x --data there/a.csv"])
def test_link_that_leads_away_is_refused_to_a_model(tmp_path: Path, command: str) -> None:
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    here.mkdir()
    (home / "a.csv").write_text("mine")
    (here / "there").symlink_to(home)
    arguments = [COMMAND, *command.split()]
    done = subprocess.run(arguments, cwd=here, input="", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"is {home}" in done.stderr


@pytest.mark.parametrize("given", ["{home}/new.ipynb", "../home/new.ipynb", "{tmp}/way/new.ipynb", "own/new.ipynb"])
def test_place_that_the_user_names_is_theirs(tmp_path: Path, given: str) -> None:
    """By a path that leaves the working directory; links elsewhere are not of whoever made this directory."""
    if reason := missing("docker"):
        pytest.skip(reason)
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    (here / "own").mkdir(parents=True)
    (tmp_path / "way").symlink_to(home)
    (here / "s.py").write_text("print(1)")
    arguments = ["run", "s.py", "--image", "python", "--save", given.format(home=home, tmp=tmp_path)]
    done = subprocess.run([COMMAND, *arguments], cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    kept = here / "own" if given.startswith("own") else home
    assert Transcript.load(kept / "new.ipynb").sources == ("print(1)",)


def test_typed_paths_of_a_session_go_through_no_link(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    here.mkdir()
    (home / "a.csv").write_text("mine")
    (here / "there").symlink_to(home)
    lines = ":upload there/a.csv\n:download a.csv there/b.csv\n:download a.csv there\n:save there/n.ipynb\n"
    arguments = [COMMAND, "repl", "--image", "python"]
    done = subprocess.run(arguments, cwd=here, input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert f"that is {home}/a.csv, by a link in this directory" in done.stdout
    assert done.stderr.count(f"there is a link to {home}") == 3
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("a.csv", "mine")]


@pytest.mark.parametrize("word", ["y", "n", "y, but it is another's"])
def test_sandboxed_kernel_is_offered_on_a_terminal(tmp_path: Path, jupyter: Path, word: str) -> None:
    """As `demo` does, before its notebook is written; the kernelspecs of this environment are hidden from it."""
    if word not in ("y", "n"):
        shadow(jupyter)
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("bubblewrap is not installed")
    imports = "from kernel_sandbox.doors.cli import keeping; from kernel_sandbox.terminal import console"
    source = f"{imports}; keeping.offer_kernel(console.Screen())"
    hidden = [program, "--dev-bind", "/", "/", "--bind", str(jupyter), str(Path(sys.prefix, "share", "jupyter"))]
    environment = os.environ | {"HOME": str(tmp_path), "TERM": "dumb", "JUPYTER_PATH": ""}
    ours, theirs = pty.openpty()
    command = [*hidden, "--", sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        assert process.stdout is not None
        asked = read_to(process.stdout, "[Y/n]: ")
        os.write(ours, f"{word[0]}\n".encode())
        shown = asked + process.communicate(timeout=60)[0].decode()
    os.close(ours)
    assert shown.startswith(f"{LACKS}Install it in {sys.prefix}/share/jupyter/kernels? [Y/n]: ")
    assert (jupyter / "kernels" / "python-sandbox" / "logo-svg.svg").exists() == (word == "y")
    assert ("holds another kernelspec" in shown) == (word not in ("y", "n"))
    assert process.returncode == 0


def test_link_that_leads_away_is_told_of_what_it_shows(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    here, home = tmp_path / "theirs", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    (home / "secret.csv").write_text("a\n1\n")
    (here / "data.csv").symlink_to(home / "secret.csv")
    (here / "data").symlink_to(home)
    (here / "own").mkdir()
    (here / "mine").symlink_to("own")
    (here / "s.py").write_text("1")
    arguments = ["run", "s.py", "--image", "python", "--data", "data.csv", "--mount", "data", "--mount", "mine"]
    told = subprocess.run([COMMAND, *arguments], cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert f"/mnt/input/data shows {home}, by a link in this directory\n" in told.stdout
    assert f"that is {home}/secret.csv, by a link in this directory\n" in told.stdout
    assert told.stdout.count("by a link") == 2
