"""A Docker engine of the tests' own, which may be killed: its own root, socket, containerd and control groups.

It is started and ended by its process id, has no bridge and no firewall rules, and leaves no mount, process, control
group or directory behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors

from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.sandbox.engines.image_names import reference
from tests.faults.census import CGROUPS, processes

PATIENCE = 30.0


class PrivateEngine:
    """`with PrivateEngine("python") as engine`: an engine at `engine.host` that has these images."""

    def __init__(self, *images: str) -> None:
        self.images = images
        self.directory = Path(tempfile.mkdtemp(prefix="ks-engine-", dir="/tmp"))
        self.host = f"unix://{self.directory}/docker.sock"
        self.group = self.directory.name
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def __enter__(self) -> Self:
        try:
            self.start()
            for image in self.images:
                self._take_over(image)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        place = self.directory
        # A dead containerd that the machine's init has not reaped yet would count as one that runs.
        (place / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        command = ["dockerd", f"--host={self.host}", f"--data-root={place}/data", f"--exec-root={place}/exec"]
        command += [f"--pidfile={place}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        command += [f"--cgroup-parent=/{self.group}", f"--containerd-namespace={self.group}"]
        command += [f"--containerd-plugins-namespace={self.group}-plugins"]
        with (place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        started = time.monotonic()
        while not self.answers():
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() - started < PATIENCE, "the engine does not answer"
            time.sleep(0.05)

    def answers(self) -> bool:
        # Not by docker-py, which leaves a socket that did not connect to the garbage collector.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(self.host.removeprefix("unix://"))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(1024)
        return False

    def kill(self) -> None:
        """End the engine as a crash does; its containers know nothing of it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _take_over(self, image: str) -> None:
        """Copy an image from the engine that the other tests use."""
        name = reference(image)
        saved = connect().api.get_image(name)
        with contextlib.closing(docker.DockerClient(base_url=self.host, timeout=120)) as client:
            api: Any = client.api
            api._post(api._url("/images/load"), data=saved, timeout=None).raise_for_status()
            assert api.inspect_image(name)

    def close(self) -> None:
        """End it and all that it started, and remove what it made."""
        if self._process is not None and self._process.poll() is None:
            self._remove_containers()
            self.kill()  # at its leisure it would take seconds
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        self._remove_control_groups()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _remove_containers(self) -> None:
        with contextlib.suppress(docker.errors.DockerException):
            client = docker.DockerClient(base_url=self.host, timeout=20)
            with contextlib.closing(client):
                for container in client.api.containers(all=True):
                    with contextlib.suppress(docker.errors.APIError):
                        client.api.remove_container(container["Id"], force=True)

    def _remove_control_groups(self) -> None:
        for group in sorted(CGROUPS.glob(f"*/{self.group}*"), reverse=True):
            for directory, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    def processes(self) -> list[int]:
        """The engine's own, its containerd's, and those of its containers."""
        return processes([str(self.directory), f"/{self.group}/"])

    def mounts(self) -> list[str]:
        """All mounts below its directory, in the order in which they were made."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{self.directory}/")]

    def control_groups(self) -> list[Path]:
        """The groups of its containers."""
        return [path for path in CGROUPS.glob(f"*/{self.group}/*") if path.is_dir()]
