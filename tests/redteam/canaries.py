"""Things of the host that no sandbox may see or reach: files, sockets, a process, the environment.

All of them say the same token, so that one search through whatever came out finds any of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SLEEPER = """
import pathlib, shutil, sys
sys.stdin.read()
shutil.rmtree(sys.argv[2], ignore_errors=True)
for path in sys.argv[3:]:
    pathlib.Path(path).unlink(missing_ok=True)
"""
"""Holds the token, and clears away when the tests end: by themselves, or killed."""


@dataclass
class Canaries:
    """Made by `canaries`, which also takes them away."""

    token: str
    files: list[str] = field(default_factory=list)
    """In the home directory, /tmp, /dev/shm and /var/tmp of the host, and in `directory`; readable for everybody."""
    directory: str = ""
    """Where a host process may work: a directory of its own."""
    tcp: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Listeners on the loopback of the host, by family."""
    udp: tuple[str, int] = ("127.0.0.1", 0)
    abstract: str = ""
    """The name of an abstract unix socket, without its first zero."""
    unix: str = ""
    """The path of a unix socket."""
    process: int = 0
    """A process of the host that has the token in its arguments and its environment."""
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    """What the listeners were sent: which of them, and the first bytes."""

    def take_heard(self) -> list[tuple[str, bytes]]:
        """Return what was heard, and forget it."""
        heard, self.heard = self.heard, []
        return heard


@contextlib.contextmanager
def canaries() -> Iterator[Canaries]:
    made = Canaries(f"canary-{secrets.token_hex(12)}")
    with contextlib.ExitStack() as stack:
        made.directory = tempfile.mkdtemp(prefix="ks-canary-", dir="/tmp")
        Path(made.directory).chmod(0o755)
        places = ("~", "/tmp", "/dev/shm", "/var/tmp", made.directory)
        made.files = [str(Path(place).expanduser() / f".{made.token}.txt") for place in places]
        made.unix, made.abstract = f"{made.directory}/socket", made.token
        _start_process(made, stack)
        for path in made.files:
            Path(path).write_text(made.token)
            Path(path).chmod(0o644)
        _listen(made, stack)
        os.environ["KERNEL_SANDBOX_CANARY"] = made.token
        stack.callback(os.environ.pop, "KERNEL_SANDBOX_CANARY")
        yield made


def _start_process(made: Canaries, stack: contextlib.ExitStack) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, made.token, made.directory, *made.files],
        stdin=subprocess.PIPE,
        env={"CANARY": made.token},
        start_new_session=True,
    )
    stack.callback(process.wait)
    assert process.stdin is not None
    stack.callback(process.stdin.close)
    made.process = process.pid


def _listen(made: Canaries, stack: contextlib.ExitStack) -> None:
    places: dict[str, tuple[int, object]] = {
        "tcp": (socket.AF_INET, ("127.0.0.1", 0)),
        "abstract": (socket.AF_UNIX, f"\0{made.abstract}"),
        "unix": (socket.AF_UNIX, made.unix),
    }
    if socket.has_ipv6:
        places["tcp6"] = (socket.AF_INET6, ("::1", 0))
    for name, (family, address) in places.items():
        listener = socket.socket(family)
        try:
            listener.bind(address)  # type: ignore[arg-type]
        except OSError:
            listener.close()  # a host without IPv6
            continue
        listener.listen()
        if name.startswith("tcp"):
            made.tcp[name] = listener.getsockname()[:2]
        _serve(made, stack, name, listener)
    Path(made.unix).chmod(0o777)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    made.udp = datagrams.getsockname()
    thread = threading.Thread(target=_hear_datagrams, args=(made, datagrams), daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(datagrams.close)
    stack.callback(_send_end, made.udp)


def _serve(made: Canaries, stack: contextlib.ExitStack, name: str, listener: socket.socket) -> None:
    thread = threading.Thread(target=_greet, args=(made, name, listener), daemon=True)
    thread.start()
    stack.callback(listener.close)
    stack.callback(thread.join)
    stack.callback(listener.shutdown, socket.SHUT_RDWR)


def _greet(made: Canaries, name: str, listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, contextlib.suppress(OSError):
            client.sendall(made.token.encode())
            client.settimeout(1)
            made.heard.append((name, client.recv(4096)))


def _hear_datagrams(made: Canaries, datagrams: socket.socket) -> None:
    while (data := datagrams.recv(4096)) != b"end":
        made.heard.append(("udp", data))


def _send_end(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"end", address)
