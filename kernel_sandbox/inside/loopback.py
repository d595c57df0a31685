"""Ports of the sandbox's own loopback, for a kernel that can bind no unix sockets.

Part of PID 1. Nothing outside reaches them: the network namespace is the sandbox's. Inside, a unix socket would be no
better hidden: what runs there is the kernel's user. What the host must know is that it speaks to the kernel, and not to
a cell's program that has taken its place: the listening sockets are noted before the first cell, and a connection
counts only while the same ones listen.
"""

from __future__ import annotations

import asyncio
import random
import socket

HIGHEST, LOWEST = 30_000, 20_000
"""Below the ports that Linux gives to connections, above those that people's servers have."""
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
LISTENS = "0A"
"""TCP_LISTEN, as /proc/net/tcp has it (include/net/tcp_states.h)."""


class Loopback:
    """The five ports of one kernel."""

    def __init__(self) -> None:
        self.ports = _free_ports()
        self._pinned: dict[int, str] = {}

    def connection(self) -> dict[str, str | int]:
        """Return what the kernel's connection file says of them."""
        named = {f"{CHANNELS[index]}_port": port for index, port in enumerate(self.ports)}
        return {"transport": "tcp", "ip": "127.0.0.1", **named}

    def listens(self) -> bool:
        """Return whether all of them listen; from then on these sockets are the kernel's."""
        sockets = _listening()
        if not all(port in sockets for port in self.ports):
            return False
        self._pinned = {port: sockets[port] for port in self.ports}
        return True

    async def connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to one of them, 1 to 5. Raises ConnectionRefusedError where the kernel listens there no more."""
        port = self.ports[number - 1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Looked at now: a socket that still listens did so a moment ago, and none comes back once it has closed.
        if self._pinned.get(port) not in (None, _listening().get(port)):
            writer.transport.abort()
            raise ConnectionRefusedError("another socket listens there")
        return reader, writer


def _listening() -> dict[int, str]:
    """Return the inode of the socket that listens on each port; of several on one port, none."""
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if row[3] == LISTENS:
                port = int(row[1].rpartition(":")[2], 16)
                found[port] = "" if port in found else row[9]
    return found


def _free_ports() -> list[int]:
    """Choose five ports on which nobody listens. Raises RuntimeError."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(LOWEST, HIGHEST), 100):
            one = socket.socket()
            held.append(one)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                held.pop().close()
            if len(held) == 5:
                return [each.getsockname()[1] for each in held]
    finally:
        for one in held:
            one.close()
    raise RuntimeError("the sandbox has no free ports for its kernel")
