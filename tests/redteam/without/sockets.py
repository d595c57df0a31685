"""Where a kernel's sockets are: in a directory that nobody else enters, and that the kernel cannot change."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from kernel_sandbox.host.run_directory import RunDirectory
from tests.redteam.cells import strike
from tests.redteam.without import seams
from tests.redteam.without.guest import HASTY
from tests.redteam.without.removal import BOTH, Ground, Removal


def unlocked(ground: Ground) -> None:
    honest = seams.SIGNS_REMOVED.current

    def unlock(directory: int) -> None:
        """Undo the lock, which comes just before."""
        honest(directory)
        os.fchmod(directory, 0o777)

    ground.replace(seams.SIGNS_REMOVED, unlock)


def unpinned(ground: Ground) -> None:
    honest = seams.PINNED_SOCKET.current

    class Named:
        """A socket by its name in the directory, whatever has that name by then."""

        def __init__(self, directory: int, name: str) -> None:
            honest(directory, name).close()
            self.directory, self.name = os.dup(directory), name

        def fileno(self) -> str:
            """Return what follows /proc/self/fd, where the transport looks for a descriptor."""
            return f"{self.directory}/{self.name}"

        def close(self) -> None:
            os.close(self.directory)

    ground.replace(seams.PINNED_SOCKET, Named)


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
    ground.replace(seams.RUN_DIRECTORIES, lambda: base)
    honest = seams.RUN_DIRECTORY.current

    def made(self: RunDirectory) -> None:
        honest(self)
        self.path.chmod(0o755)

    ground.replace(seams.RUN_DIRECTORY, made)


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
    ground.replace(seams.SIGNS_REMOVED, lambda directory: None)


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
