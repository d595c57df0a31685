"""`setup` and `demo`, from a machine where nothing is set up yet, and on machines that lack what no step can mend."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines.environments import find, prefix
from kernel_sandbox.setup.environment_builder import FONTS, finish
from tests.conftest import missing, read_to
from tests.machine import COMMAND, Machine, machine

__all__ = ["machine"]

STAGES = ("download packages", "copy the interpreter", "install packages", "compile", "try it")
SETUP = ("setup", "--image", "python", "--no-kernelspec")


def made(machine: Machine) -> list[str]:
    """All that lies where environments are made, what is half made included."""
    return [entry.name for entry in (machine.prefix / "environments").glob("*")]


def test_setup_without_a_terminal_says_what_it_would_do(machine: Machine) -> None:
    exposed: dict[str, object] = {
        "argv": ["python3", "-m", "kernel_sandbox.doors.jupyter.launcher"],
        "display_name": "x",
        "language": "python",
    }
    exposed["metadata"] = {"kernel_provisioner": {"provisioner_name": "kernel-sandbox"}}
    (machine.jupyter / "kernels" / "old").mkdir(parents=True)
    (machine.jupyter / "kernels" / "old" / "kernel.json").write_text(json.dumps(exposed))
    told = machine.run("setup", "--image", "python")
    assert told.returncode == 2
    assert "Engine: bubblewrap (no Docker engine answers)" in told.stdout
    assert f"  1. Make the environment python of bubblewrap in {machine.prefix}/environments" in told.stdout
    assert "  2. Replace the kernelspec " in told.stdout
    assert "add --yes" in told.stderr
    assert made(machine) == []


def test_setup_makes_what_is_missing_and_proves_it(machine: Machine) -> None:
    del machine.environment["KERNEL_SANDBOX_PREFIX"]
    done = machine.run("setup", "--image", "python", "--prefix", str(machine.prefix), "--yes")
    assert done.returncode == 0, done.stderr
    assert "download packages: " in done.stdout
    assert f"profile, so that every session finds it: export KERNEL_SANDBOX_PREFIX={machine.prefix}\n" in done.stdout
    assert "weakened here: no limit for processor time" in done.stdout
    assert "in a sandbox says that 6 * 7 = 42\n" in done.stdout
    assert "✓ Ready. Try it: kernel-sandbox repl --image python\n" in done.stdout
    kernelspec = json.loads((machine.jupyter / "kernels" / "python-sandbox" / "kernel.json").read_text())
    assert kernelspec["metadata"]["kernel_provisioner"]["config"] == {"image": "python"}
    (environment,) = made(machine)
    assert environment.startswith("python-")
    again = machine.run("setup", "--image", "python", "--prefix", str(machine.prefix))
    assert again.returncode == 0, again.stderr
    assert "Nothing is missing.\n" in again.stdout
    assert "6 * 7 = 42\n" in again.stdout
    built = machine.run("image", "build", "python", "--engine", "bubblewrap", "--base", "debian")
    assert "--base is for Docker" in built.stderr


def test_setup_where_docker_has_the_image_only_proves_it(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    subprocess.run([COMMAND, "image", "build", "python", "--engine", "docker"], check=True, capture_output=True)
    done = subprocess.run(
        [COMMAND, *SETUP, "--engine", "docker"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Engine: docker (as asked for)\nNothing is missing.\nSandbox of python on docker")
    assert done.stdout.endswith("✓ Ready. Try it: kernel-sandbox repl --engine docker --image python\n")


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_setup_leaves_nothing_half_made(machine: Machine, stage: str) -> None:
    process = subprocess.Popen(
        [COMMAND, *SETUP, "--engine", "bubblewrap", "--yes"],
        cwd=machine.directory,
        env=machine.environment | {"XDG_RUNTIME_DIR": str(machine.directory)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any(line.startswith(stage) for line in process.stdout)
    assert made(machine) != []
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert made(machine) == []


def test_setup_asks_on_a_terminal_and_takes_no(machine: Machine) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        machine.command(*SETUP),
        cwd=machine.directory,
        env=machine.environment | {"TERM": "dumb"},
        stdin=theirs,
        stdout=subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, b"y\n")  # before the question was shown
    assert process.stdout is not None
    asked = read_to(process.stdout, "[Y/n]: ")
    os.write(ours, b"n\n")
    process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 1
    assert "Do it? [Y/n]" in asked
    assert made(machine) == []


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        ("programs", "bubblewrap is not installed. Install it: "),
        ("namespaces", "bubblewrap may not make a sandbox here ("),
        ("writable prefix", "(Read-only file system). It needs"),
        ("room", "(too little room there). It needs"),
        ("writable home", "(Read-only file system). It needs"),
    ],
)
@pytest.mark.parametrize("command", ["setup --image python --yes", "demo --yes"])
def test_machine_that_lacks_something_is_told_what_and_is_left_alone(
    machine: Machine, command: str, lack: str, words: str
) -> None:
    take_away(machine, lack)
    failed = machine.run(*command.split())
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert words in failed.stderr
    assert made(machine) == []
    assert not (machine.directory / "traffic_accidents.csv").exists()


def take_away(machine: Machine, lack: str) -> None:
    if lack == "programs":
        machine.without_programs()
    elif lack == "namespaces":
        machine.change("--disable-userns")
    elif lack == "writable prefix":
        machine.change("--ro-bind", machine.prefix, machine.prefix)
    elif lack == "room":
        machine.change("--size", "67108864", "--tmpfs", machine.prefix)
    else:
        del machine.environment["KERNEL_SANDBOX_PREFIX"]
        home = machine.directory / "home"
        home.mkdir()
        machine.change("--ro-bind", home, home)
        machine.environment |= {"HOME": str(home), "XDG_CACHE_HOME": ""}


def test_session_that_can_keep_its_sockets_nowhere_says_so(machine: Machine) -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    machine.environment["KERNEL_SANDBOX_PREFIX"] = str(prefix())
    machine.change("--remount-ro", "/run", "--ro-bind", "/tmp", "/tmp", "--ro-bind", "/var/tmp", "/var/tmp")
    failed = machine.run(*SETUP)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: A session keeps its sockets in a temporary directory, and cannot write")
    assert failed.stderr.count("\n") == 1


def test_demo_without_a_terminal_wants_a_yes(machine: Machine) -> None:
    failed = machine.run("demo")
    assert failed.returncode == 2
    assert "add --yes" in failed.stderr


def test_run_without_an_engine_names_setup(machine: Machine) -> None:
    (machine.directory / "cell.py").write_text("print('ran')")
    machine.without_programs()
    failed = machine.run("run", "cell.py")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.rstrip().endswith("kernel-sandbox setup")


def test_docker_that_is_silent_is_not_waited_for(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine.environment["DOCKER_HOST"] = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        told = machine.run(*SETUP)
    assert "Engine: bubblewrap (no Docker engine answers)" in told.stdout
    assert time.monotonic() - started < 30


def test_build_removes_what_is_outdated_or_abandoned_and_nothing_else(machine: Machine) -> None:
    shelf = machine.prefix / "environments"
    kept, outdated, abandoned = f"python-{'0' * 16}", f"python-{'1' * 16}", ".part-abandoned"
    for name in (kept, outdated, abandoned):
        (shelf / name).mkdir(parents=True)
    (shelf / kept / "environment.json").write_text('{"interpreter": "/bin/sh"}')  # another Python's, still there
    (shelf / outdated / "environment.json").write_text('{"interpreter": "/no/longer/there"}')
    (shelf / abandoned / "owner.json").write_text(json.dumps(asdict(replace(Owner.current(), boot="an earlier one"))))
    built = machine.run("image", "build", "python", "--engine", "bubblewrap")
    assert built.returncode == 0, built.stderr
    assert kept in made(machine)
    assert len(made(machine)) == 2


@pytest.mark.usefixtures("quick")
def test_environment_whose_debian_packages_bring_fonts_is_finished(tmp_path: Path) -> None:
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", find("python").root, root], check=True)
    (root / FONTS / "truetype").mkdir(parents=True)
    (site,) = root.glob("opt/venv/lib/python3.*/site-packages")
    finish(root, site)
    assert (root / FONTS / "truetype").is_dir()
