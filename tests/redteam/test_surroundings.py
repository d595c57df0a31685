"""Where a command is started, and what is typed: neither lets a stranger choose what runs here or who gets the data."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kernel_sandbox import (
    EngineError,
    ImageNotFound,
    SandboxSpec,
    Session,
    Transcript,
    TranscriptError,
    export_notebook,
)
from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.service.state import default_database
from kernel_sandbox.setup import kernelspec
from kernel_sandbox.setup.wheels import cache_directory
from tests.agents.model_server import Call, Say, model_server
from tests.redteam.cells import attack
from tests.redteam.terminal import on_terminal, through_pipes
from tests.shadowing import shadow, shadow_entry_point, shadow_programs


@attack("Escape")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("image", ["datasciens", "pyhton:3.12", "kernel-sandbox/datascience:1", "anybodys-image"])
def test_mistyped_image_is_not_pulled_from_a_registry(engine: str, image: str) -> None:
    """Anybody may have registered the mistake, and people do what an error message says."""
    with pytest.raises(ImageNotFound) as refused, Session(engine=engine, image=image):
        pass
    assert "docker pull" not in str(refused.value)
    assert ("Did you mean" in str(refused.value)) == image.startswith(("datasciens", "pyhton"))


def own_nothing() -> dict[str, str]:
    """The environment of a user who has no key."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}


@attack("Exfil")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("command", ["ask How --data sales.csv --image python", "demo"])
def test_file_of_a_directory_does_not_name_who_gets_the_data(engine: str, command: str, tmp_path: Path) -> None:
    """Whoever made the directory wrote `.env` too: the user, who only changed into it, is asked."""
    (tmp_path / "sales.csv").write_text("city,sold\nOslo,3\n")
    arguments = (*command.split(), "--engine", engine)
    typed = [(b"here? ", b"y\n")] if command == "demo" else []
    with model_server(Say("Thank you.")) as thief:
        (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={thief.url}\nOPENAI_API_KEY=thiefs\n")
        kernelspec.install(tmp_path / "jupyter" / "kernels")  # else the demo offers that first
        environment = own_nothing() | {"JUPYTER_PATH": str(tmp_path / "jupyter")}
        told = through_pipes(*arguments, directory=tmp_path, environment=environment)
        typed.append((b"Send them? ", b"\n"))
        asked = on_terminal(*arguments, typed=typed, directory=tmp_path, environment=environment)
    assert thief.requests == []
    assert b"--yes" in told
    assert thief.url.encode() in asked
    assert b"Nothing was sent" in asked


WRITE = "open({place!r}, 'w').write('out')"


@attack("Escape")
def test_notebook_that_is_opened_again_runs_in_a_sandbox(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kernel a stranger's notebook names: Jupyter starts the one that the transcript names."""
    place = tmp_path / "written"
    named = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    with Session(engine=engine, image="python", transcript=Transcript(metadata=named)) as session:
        session.execute(WRITE.format(place=str(place)))
        saved = session.transcript.save(tmp_path / "saved.ipynb")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    kernelspec.install(tmp_path / "jupyter" / "kernels", engine=engine, spec=SandboxSpec(image="python"))
    run_as_jupyter_does(saved)
    assert not place.exists()


def run_as_jupyter_does(path: Path) -> None:
    """Run all cells by the kernel that the notebook names."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, allow_errors=True, timeout=60).execute()


@attack("Escape")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_notebook_is_not_offered_to_a_jupyter_without_the_sandboxed_kernel(engine: str, tmp_path: Path) -> None:
    """That would run an agent's cells on the host; somebody else's kernel under the sandboxed one's name would, too."""
    directory = tmp_path / "jupyter" / "kernels" / kernelspec.DEFAULT_NAME
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text('{"argv": ["python3"], "display_name": "x", "language": "python"}')
    (tmp_path / "cells.py").write_text("print(1)")
    environment = os.environ | {"JUPYTER_PATH": str(tmp_path / "jupyter")}
    command = ("run", "cells.py", "--save", "out.ipynb", "--image", "python", "--engine", engine)
    told = through_pipes(*command, directory=tmp_path, environment=environment)
    warned, offered = told.find(b"Jupyter lacks the sandboxed kernel"), told.find(b"jupyter lab out.ipynb")
    assert 0 < warned < told.find(b"kernelspec install") < offered


READ = "import glob\nfor name in glob.glob('/mnt/*/**', recursive=True):\n    print(name)\n    !cat $name"


@attack("Exfil")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize(
    "given",
    ["--data sales.csv", "--data data/secret.csv", "--data ./way/home/secret.csv", "--mount data", "--mount way/home"],
)
def test_link_of_a_directory_shows_a_model_nothing(engine: str, given: str, tmp_path: Path) -> None:
    """The user means the file that lies there, and the link means another of theirs."""
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    here.mkdir()
    (home / "secret.csv").write_text("key\n4711\n")
    for name, target in {"sales.csv": home / "secret.csv", "data": home, "way": tmp_path}.items():
        (here / name).symlink_to(target)
    with model_server(Call([("execute_python_code", {"python_code": READ})]), Say("Thank you.")) as server:
        command = ("ask", "How?", *given.split(), "--base-url", server.url, "--image", "python", "--engine", engine)
        told = through_pipes(*command, directory=here, environment=own_nothing())
    assert "4711" not in str(server.requests)
    assert b"error: " in told


@attack("Escape")
@pytest.mark.parametrize("entry", ["", ".", "bin"])
def test_programs_that_lie_in_a_directory_are_not_run(
    engine: str, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose search paths have entries that mean the working directory runs what others put there, but not by us."""
    place = tmp_path / entry
    place.mkdir(exist_ok=True)
    canary = tmp_path / "canary"
    shadow_programs(place, canary)
    (tmp_path / "cell.py").write_text("print(6 * 7)")
    searched = os.pathsep.join([entry, os.environ["PATH"]])
    command = ("run", "cell.py", "--image", "python", "--engine", engine)
    assert b"42" in through_pipes(*command, directory=tmp_path, environment=os.environ | {"PATH": searched})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", searched)
    with Session(engine=engine, image="python") as session:
        session.execute("1").raise_for_error()
    assert not canary.exists()


@attack("Escape")
@pytest.mark.parametrize("entry", ["", ".", "bin"])
def test_modules_that_lie_in_a_directory_are_not_imported_by_what_we_start(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / entry).mkdir(exist_ok=True)
    canary = shadow(tmp_path / entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, "/nowhere"]))
    assert "<html" in export_notebook(Transcript())
    assert not canary.exists()


@attack("Escape")
@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "XDG_CACHE_HOME", "KERNEL_SANDBOX_PREFIX"])
def test_directory_holds_no_keys_packages_and_roots_of_ours(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With relative paths the service's keys, the pip that makes a root and the root itself would be another's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "planted")
    with contextlib.suppress(EngineError):
        assert not environments.shelf().is_relative_to(tmp_path)
    assert not cache_directory().is_relative_to(tmp_path)
    assert not Path(default_database()).absolute().is_relative_to(tmp_path)


@attack("Escape")
def test_metadata_that_lie_in_a_directory_start_no_kernel(engine: str, tmp_path: Path) -> None:
    """Python's own prompt, and `python -c`, take modules and the metadata of packages from the working directory."""
    canary = shadow_entry_point(tmp_path)
    source = f"from kernel_sandbox import Session\nwith Session(engine={engine!r}, image='python') as session:\n"
    source += "    print(session.execute('6 * 7').text)"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "42\n", done.stderr
    assert not canary.exists()


@attack("Escape")
@pytest.mark.parametrize("entry", ["", "."])
def test_kernelspec_imports_nothing_that_lies_beside_a_notebook(entry: str, tmp_path: Path) -> None:
    canary = shadow(tmp_path)
    argv = kernelspec.kernelspec_document("bubblewrap", SandboxSpec(image="python"))["argv"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([entry, "/nowhere"])}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "is no connection file" in done.stderr
    assert not canary.exists()


@attack("Lateral")
@pytest.mark.parametrize("setting", ["DATABASE", "SAVE_DIR", "CONFIG", "TLS_KEY"])
def test_service_takes_no_keys_from_where_it_is_started(setting: str, tmp_path: Path) -> None:
    environment = os.environ | {
        f"KERNEL_SANDBOX_SERVER_{setting}": "planted",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for command in (("serve", "--port", "0"), ("keys", "list")):
        told = through_pipes(*command, directory=tmp_path, environment=environment)
        assert b"is another place in each directory" in told


@attack("HostDoS")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_links_in_a_directory_do_not_decide_what_is_written(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the directory guessed the names that a command will write to."""
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    here.mkdir()
    for name in ("other.ipynb", "profile"):
        (home / name).write_text("mine")
    links = {"a": "profile", "b": "absent", "d": "other.ipynb", "e": "absent.ipynb"}
    for name, target in {**{f"{name}.ipynb": to for name, to in links.items()}, "c_files": ".", "there": "."}.items():
        (here / name).symlink_to(home / target)
    show = "from IPython.display import display\ndisplay({'image/svg+xml': '<svg/>', 'text/plain': ''}, raw=True)"
    (here / "cell.py").write_text(show)
    for name in (*"abcde", "there/other", "there/new"):
        command = ("run", "cell.py", "--image", "python", "--engine", engine, "--save", f"{name}.ipynb")
        assert b"is a link to" in through_pipes(*command, directory=here)
    with Session(engine=engine, image="python") as session:
        for name in "abde":
            with pytest.raises(TranscriptError, match="is a link to"):
                session.transcript.save(here / f"{name}.ipynb")
        monkeypatch.chdir(here)
        for name in ("there/other", "there/new"):
            with pytest.raises(TranscriptError, match="is a link to"):
                session.transcript.save(f"{name}.ipynb")
    found = [(path.name, path.read_text()) for path in sorted(home.iterdir())]
    assert found == [("other.ipynb", "mine"), ("profile", "mine")]
