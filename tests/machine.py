"""The command on a machine that lacks something: this one, seen through bubblewrap, by a user without rights.

What is taken away there is taken away for that process only, so nothing has to be mounted or set here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shadowing import shadow

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
Result = subprocess.CompletedProcess[str]


class Machine:
    """Starts the command in `directory`, with an empty prefix there, without Docker and without control groups."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.canary = shadow(directory)
        self.prefix = directory / "prefix"
        self.prefix.mkdir()
        self.changes = ["--unshare-user", "--uid", "1234", "--gid", "1234", "--dev-bind", "/", "/", "--tmpfs", "/run"]
        self.changes += ["--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup"]
        # The kernelspecs of this environment: setup looks there, and writes there.
        self.jupyter = directory / "jupyter"
        self.jupyter.mkdir()
        self.changes += ["--bind", str(self.jupyter), str(Path(sys.prefix, "share", "jupyter"))]
        self.environment = {
            **os.environ,
            "DOCKER_HOST": "unix:///no/such/socket",
            "KERNEL_SANDBOX_PREFIX": str(self.prefix),
            "KERNEL_SANDBOX_ENGINE": "",
            "XDG_RUNTIME_DIR": "/run",
            "OPENAI_API_KEY": "",
        }

    def change(self, *options: str | Path) -> None:
        """Take something away: options of bubblewrap."""
        self.changes += map(str, options)

    def without_programs(self) -> None:
        """Leave no bubblewrap and no package manager on PATH."""
        (self.directory / "bin").mkdir()
        (self.directory / "bin" / "sh").symlink_to("/bin/sh")
        self.environment["PATH"] = str(self.directory / "bin")

    def command(self, *arguments: str) -> list[str]:
        program = shutil.which("bwrap")
        assert program is not None
        return [program, *self.changes, "--", COMMAND, *arguments]

    def run(self, *arguments: str) -> Result:
        """Run the command to its end, without a terminal."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    trial = ["bwrap", "--unshare-user", "--dev-bind", "/", "/", "true"]
    if shutil.which("bwrap") is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("bubblewrap: it is not installed, or may not make namespaces: kernel-sandbox doctor")
    made = Machine(tmp_path)
    yield made
    assert not made.canary.exists(), "a module of the working directory was imported"
    shutil.rmtree(made.prefix, ignore_errors=True)  # hundreds of megabytes
