"""Where a kernel's sockets are: in a directory that nobody else enters, and that the kernel cannot change."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from kernel_sandbox.host import run_directory as directories
from kernel_sandbox.host.forks import Descriptor
from kernel_sandbox.sandbox.transports import IpcTransport
from tests.redteam.cells import strike
from tests.redteam.without.guest import HASTY
from tests.redteam.without.removal import BOTH, Ground, Removal


def unlocked(ground: Ground) -> None:
    def lock(self: directories.RunDirectory, generation: int) -> dict[int, Descriptor]:
        with directories._opened(self.shared / str(generation)) as directory:
            directories._remove_signs(directory)
            return directories._pin_all(directory)

    def lock_inside(self: directories.InsideSockets, generation: int) -> dict[int, Descriptor]:
        with directories._opened(str(generation), self._directory.fileno()) as directory:
            directories._remove_signs(directory)
            return directories._pin_all(directory)

    ground.patch.setattr(directories.RunDirectory, "lock", lock)
    ground.patch.setattr(directories.InsideSockets, "lock", lock_inside)


def unpinned(ground: Ground) -> None:
    async def dial(self: IpcTransport, port: int) -> socket.socket:
        place = self._directory
        inside = isinstance(place, directories.InsideSockets)
        path = Path(f"/proc/self/fd/{place._directory.fileno()}") if inside else place.shared  # type: ignore[union-attr]
        last = max(os.listdir(path), key=int)
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, f"{path}/{last}/s-{port}")
        except OSError:
            made.close()
            raise
        return made

    ground.patch.setattr(IpcTransport, "dial", dial)


HAND_OVER = """
directory = "/opt/kernel-sandbox/run/" + max(os.listdir("/opt/kernel-sandbox/run"))
path = directory + "/s-1"
with contextlib.suppress(OSError):
    os.rename(path, directory + "/s-9")
    os.symlink(ELSEWHERE, path)

def cut():
    for number in descriptors("shell"):
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR)

threading.Timer(0.1, cut).start()  # after this cell's reply
"""


def lead_the_host_to_another_service(ground: Ground) -> bool:
    """The shell socket is replaced by a link to a service of the host, and the host made to connect anew."""
    ground.canaries.take_heard()
    with ground.session(limits=HASTY) as session:
        strike(session, HAND_OVER, ELSEWHERE=ground.canaries.unix).raise_for_error()
        time.sleep(0.3)
        session.execute("'for the kernel only'", timeout=1)
    return bool(ground.canaries.take_heard())


def public(ground: Ground) -> None:
    base = Path(tempfile.mkdtemp(prefix="ks-", dir="/tmp"))
    ground.undo.callback(shutil.rmtree, base)
    base.chmod(0o755)
    ground.patch.setattr(directories, "base_directory", lambda: base)
    honest = directories.RunDirectory.__init__

    def made(self: directories.RunDirectory) -> None:
        honest(self)
        self.path.chmod(0o755)

    ground.patch.setattr(directories.RunDirectory, "__init__", made)


NOBODY = 65_534
CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(3)
    client.connect(sys.argv[1])
    print(client.recv(10)[:1] == b"\\xff")
"""


def listen_in_as_another_user(ground: Ground) -> bool:
    """Another user of this machine connects to a kernel's own socket."""
    with ground.session() as session:
        path = session.connection_file.parent / "k" / "1" / "s-1"
        command = ["/usr/bin/env", "-i", "python3", "-c", CONNECT, str(path)]
        done = subprocess.run(command, user=NOBODY, group=NOBODY, cwd="/", capture_output=True, text=True, check=False)
        return done.stdout == "True\n"


def signs_left(ground: Ground) -> None:
    ground.patch.setattr(directories, "_remove_signs", lambda directory: None)


def write_to_the_hosts_disk(ground: Ground) -> bool:
    """A megabyte in the sign of a kernel that is ready, which is its own."""
    write = (
        "with contextlib.suppress(OSError), open('/opt/kernel-sandbox/run/1/ready', 'wb') as f: f.write(bytes(SIZE))"
    )
    size = 1024 * 1024
    with ground.session() as session:
        strike(session, write, SIZE=size).raise_for_error()
        return any(path.stat().st_size >= size for path in session.connection_file.parent.glob("k/1/*"))


REMOVALS = {
    # Each of the two holds the attack alone: the other is gone in both runs.
    "socket directory locked": Removal(
        severity="Lateral",
        engines=BOTH,
        remove=unlocked,
        succeeds=lead_the_host_to_another_service,
        also=("sockets pinned",),
    ),
    "sockets pinned": Removal(
        severity="Lateral",
        engines=BOTH,
        remove=unpinned,
        succeeds=lead_the_host_to_another_service,
        also=("socket directory locked",),
    ),
    # In bubblewrap a file there would be in the sandbox's own memory.
    "sockets alone": Removal(severity="HostDoS", remove=signs_left, succeeds=write_to_the_hosts_disk),
    # In bubblewrap the kernel's sockets are in no directory of the host's.
    "private run directory": Removal(severity="Lateral", remove=public, succeeds=listen_in_as_another_user),
}
