"""The running guest: boot it, run commands in it, put HEAD and the engine's images there, shut it down.

It has no network but the way in by ssh, so that what attacks in it reaches nothing. The disk is recipe.py's.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.guest import recipe
from tests.guest.recipe import CLONE, ROOT, CannotMake

ACCOUNTS = {"root": "root", "user": "ada", "member": "bob"}
"""Who checks run as: root, an ordinary user, and one in group docker. All log in with a systemd session."""
IMAGES = ("kernel-sandbox/python", "kernel-sandbox/datascience")
PYTHON = "/opt/checks/bin/python"
BOOT = 300.0
"""Seconds from power to ssh; translated by QEMU it takes some 40 on a quiet machine."""
Result = subprocess.CompletedProcess[str]


class Machine:
    """One guest, kept in a directory. There may be another process that has started it."""

    def __init__(self, directory: Path, *, memory: str = "5G", kvm: bool = False, port: int = 0) -> None:
        self.directory = directory
        self._memory = memory
        self._kvm = kvm
        self._port = port

    @property
    def process(self) -> int | None:
        """The id of its QEMU, or None where it is down."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.directory / "pid").read_text())
            if str(self.directory / "disk.img") in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return None

    def boot(self) -> None:
        """Start it and wait until it answers. Raises CannotMake; then it is down again."""
        recipe.require_programs()
        if not recipe.is_made(self.directory):
            raise CannotMake(f"There is no disk of this recipe in {self.directory}: python -m tests.guest make")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", self._port))
            port = probe.getsockname()[1]
        (self.directory / "port").write_text(str(port))
        (self.directory / "output.txt").unlink(missing_ok=True)
        log = self.directory / "qemu.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                self._qemu(port), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            deadline = time.monotonic() + BOOT
            while self.run("root", "true", patience=20).returncode:
                if started.poll() is not None:
                    raise CannotMake(f"QEMU ended: {log.read_text()[-2000:].strip()}")
                if time.monotonic() > deadline:
                    raise CannotMake(f"No ssh within {BOOT:.0f} s: see {self.directory / 'console.log'}")
                time.sleep(1)
        except BaseException:
            started.kill()
            started.wait()
            raise

    def _qemu(self, port: int) -> list[str]:
        here = self.directory
        processor = ["-accel", "kvm", "-cpu", "host"] if self._kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
        kernel = ["-kernel", f"{here}/vmlinuz", "-initrd", f"{here}/initrd"]
        kernel += ["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0"]
        disk = ["-drive", f"file={here}/disk.img,if=virtio,format=raw,cache=unsafe,discard=unmap"]
        network = ["-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
        network += ["-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci"]
        kept = ["-serial", f"file:{here}/console.log", "-pidfile", f"{here}/pid", "-display", "none", "-no-reboot"]
        line = ["qemu-system-x86_64", "-machine", "q35", *processor, "-smp", "2", "-m", self._memory]
        return [*line, *kernel, *disk, *network, *kept]

    def ssh(self, account: str) -> list[str]:
        """Return the command line that logs in, to which a command may be added."""
        port = (self.directory / "port").read_text()
        line = ["ssh", "-q", "-F", "none", "-i", str(self.directory / "key"), "-p", port]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=15"):
            line += ["-o", option]
        return [*line, f"{ACCOUNTS[account]}@127.0.0.1"]

    def run(self, account: str, command: str, *, given: IO[bytes] | None = None, patience: float = 3600) -> Result:
        """Run a shell command to its end, or for `patience` seconds (status 124): what it said is in `stdout`.

        output.txt has it while it runs.
        """
        line = [*self.ssh(account), f"timeout -k 5 {patience:.0f} sh -c {shlex.quote(command)}"]
        with (self.directory / "output.txt").open("a+b") as output:
            output.write(f"\n== {account}: {command}\n".encode())
            output.flush()
            start = output.tell()
            stdin = subprocess.DEVNULL if given is None else given
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    line, stdout=output, stderr=output, stdin=stdin, timeout=patience + 30, check=False
                )
                output.seek(start)
                return Result(command, done.returncode, output.read().decode("utf-8", "replace"))
        return Result(command, 124, "")

    def python(self, account: str, arguments: str, *, patience: float = 3600) -> Result:
        """Run the checks' Python in the clone of HEAD."""
        return self.run(account, f"cd {CLONE} && {PYTHON} {arguments}", patience=patience)

    def update(self) -> None:
        """Put HEAD there, and the engine's images where this machine's engine has others. Raises CannotMake."""
        self._pipe(["git", "-C", str(ROOT), "archive", "HEAD"], f"rm -rf {CLONE} && mkdir {CLONE} && tar -x -C {CLONE}")
        wanted = _image_ids()
        there = self.run("root", f"docker image inspect --format '{{{{.Id}}}}' {' '.join(IMAGES)}").stdout.split()
        if wanted and wanted != [word for word in there if word.startswith("sha256:")]:
            self._pipe(["docker", "save", *IMAGES], "docker load")

    def _pipe(self, command: list[str], into: str) -> None:
        """Give what a command here says to one of root's in the guest. Raises CannotMake."""
        with subprocess.Popen(command, stdout=subprocess.PIPE) as source:
            done = self.run("root", into, given=source.stdout)
        if done.returncode or source.returncode:
            raise CannotMake(f"{into!r} failed in the guest: {done.stdout[-2000:].strip()}")

    def shut_down(self) -> None:
        """Power it off, and wait until its QEMU has ended. Does nothing where it is down."""
        if (pid := self.process) is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.run("root", "systemctl poweroff", patience=10)
        for order in (0, signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 20
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)
            while self.process == pid and time.monotonic() < deadline:
                time.sleep(0.2)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have it run with HEAD in it; one that ran already goes on running afterwards."""
        ran = self.process is not None
        try:
            if not ran:
                self.boot()
            self.update()
            yield
        finally:
            if not ran:
                self.shut_down()


def _image_ids() -> list[str]:
    """Return the ids of the images of this machine's engine; nothing where it does not have all of them."""
    with contextlib.suppress(FileNotFoundError):
        command = ["docker", "image", "inspect", "--format", "{{.Id}}", *IMAGES]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        return told.stdout.split() if told.returncode == 0 else []
    return []
