"""`doctor`: what it finds on this machine, and on machines with something wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import kernel_sandbox
from kernel_sandbox.sandbox.engines.environments import prefix
from tests.conftest import missing
from tests.machine import COMMAND, Machine, machine

__all__ = ["machine"]

Findings = dict[tuple[str, str], dict[str, Any]]
NOWHERE = {"DOCKER_HOST": "unix:///no/such/socket"}


def findings(shown: str) -> Findings:
    """What --json says, by section and subject; of several, the first."""
    found: Findings = {}
    for finding in json.loads(shown):
        found.setdefault((finding["section"], finding["subject"]), finding)
    return found


def problems(found: Findings) -> set[tuple[str, str]]:
    return {name for name, finding in found.items() if finding["verdict"] == "problem"}


def examined(*arguments: str, **environment: str) -> tuple[int, Findings]:
    """The exit status of `doctor --json`, and what it found."""
    done = subprocess.run(
        [COMMAND, "doctor", "--json", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, findings(done.stdout)


def test_doctor_looks_at_an_engine_its_images_and_the_machine(engine: str) -> None:
    status, found = examined("--engine", engine)
    assert status == 0, found
    assert next(iter(found)) == ("session", "A session")
    assert found["session", "A session"]["detail"] == f"takes {engine} (as asked for)"
    expected = {"docker": {"Docker engine", "Runtimes"}, "bubblewrap": {"bubblewrap", "Namespaces", "Environments"}}
    subjects = {subject for section, subject in found if section == engine}
    always = {"Control groups", "LSM", "Image python", "Image datascience", "Self-check"}
    assert expected[engine] | always <= subjects
    assert "all 28 promises" in found[engine, "Self-check"]["detail"]
    machine_subjects = {subject for section, subject in found if section == "machine"}
    assert {"Python", "Packages", "Kernelspecs", "Run directory", "Clock", "Certificates"} <= machine_subjects
    assert {section for section, _ in found} == {"session", engine, "machine"}


def test_doctor_gives_the_mending_command(engine: str, tmp_path: Path) -> None:
    bad = tmp_path / "empty.pem"
    bad.write_text("nothing")
    status, found = examined("--engine", engine, SSL_CERT_FILE=str(bad))
    assert status == 2
    assert problems(found) == {("machine", "Certificates")}
    shown = subprocess.run(
        [COMMAND, "doctor"], env={**os.environ, "SSL_CERT_FILE": str(bad)}, capture_output=True, text=True, check=False
    )
    assert f"✗  Certificates     SSL_CERT_FILE={bad}: it holds no certificates" in shown.stdout
    assert "→ unset SSL_CERT_FILE, or correct it" in shown.stdout


def test_problem_of_one_engine_is_a_note_where_the_other_serves() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    status, found = examined(**NOWHERE)
    assert status == 0, problems(found)
    assert found["session", "A session"]["detail"] == "takes bubblewrap (no Docker engine answers)"
    assert found["docker", "Docker engine"]["verdict"] == "note"
    assert found["docker", "Docker engine"]["remedy"].startswith("unset DOCKER_HOST, or correct it: it is unix:///no/")
    assert examined("--engine", "docker", **NOWHERE)[0] == 2


AS_A_STRANGER = """
import os, sys
from kernel_sandbox import EngineUnavailable
from kernel_sandbox.sandbox.engines import docker_client
os.environ.pop("DOCKER_HOST", None)
{before}
try:
    docker_client._client({host!r}, "default", os.getpid())
except EngineUnavailable as exc:
    print(exc.remedy)
"""


@pytest.mark.parametrize(
    ("before", "remedy"),
    [
        # A user outside the engine's group; one on a machine whose engine is installed, and does not run; root there.
        ("os.chmod({there!r}, 0o600); os.setuid(65534)", "sudo usermod -aG docker $USER, then log in again"),
        ("os.unlink({there!r}); os.setuid(65534)", "sudo systemctl start docker"),
        ("os.unlink({there!r})", "systemctl start docker"),
    ],
)
def test_advice_about_docker_is_that_for_this_user(docker: None, tmp_path: Path, before: str, remedy: str) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    there = tmp_path / "docker.sock"
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(there))
        listening.listen()
        source = AS_A_STRANGER.format(before=before.format(there=str(there)), host=f"unix://{there}")
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == remedy, done.stderr


def test_machine_where_nothing_can_serve_is_told_to_set_up(machine: Machine) -> None:
    checked = machine.run("doctor")
    assert checked.returncode == 2
    first, second = checked.stdout.splitlines()[:2]
    assert first.split("  ")[0] == "✗"
    assert first.endswith("no engine can start one yet")
    assert second.strip() == "→ kernel-sandbox setup"
    assert checked.stdout.rstrip().endswith("Set up what is missing: kernel-sandbox setup")


def test_doctor_sees_what_a_machine_lacks(machine: Machine) -> None:
    machine.change("--disable-userns", "--size", "67108864", "--tmpfs", machine.prefix)
    found = findings(machine.run("doctor", "--json").stdout)
    wrong = {subject for section, subject in problems(found) if section == "bubblewrap"}
    assert wrong == {"Namespaces", "Image datascience", "Environments"}
    assert found["bubblewrap", "Control groups"]["verdict"] == "note"
    assert "kernel-sandbox image build" in found["bubblewrap", "Image datascience"]["remedy"]


def test_read_only_prefix_with_its_environments_is_sound(machine: Machine) -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    machine.environment["KERNEL_SANDBOX_PREFIX"] = str(prefix())
    machine.change("--ro-bind", prefix(), prefix())
    checked = machine.run("doctor", "--json")
    found = findings(checked.stdout)
    assert checked.returncode == 0, problems(found)
    assert found["bubblewrap", "Environments"]["verdict"] == "note"


def test_clock_that_is_behind_the_package_is_a_problem(tmp_path: Path) -> None:
    package = Path(kernel_sandbox.__file__).parent
    shutil.copytree(package, tmp_path / "kernel_sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    if (package.parent / "images").is_dir():
        shutil.copytree(package.parent / "images", tmp_path / "images")
    late = time.time() + 10 * 24 * 3600
    os.utime(tmp_path / "kernel_sandbox" / "errors.py", (late, late))
    source = "from kernel_sandbox.doors.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", source, "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    clock = findings(done.stdout)["machine", "Clock"]
    assert done.returncode == 2
    assert clock["verdict"] == "problem"
    assert "certificates" in clock["detail"]
    assert "date" in clock["remedy"]
