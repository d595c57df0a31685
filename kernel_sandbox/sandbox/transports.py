"""How the gate reaches a kernel's sockets inside the sandbox.

`ipc`: socket files in a directory that host and sandbox share; locked and pinned before the first cell, and reached
through the pinned descriptors ever after. `forward`: a channel of the link to PID 1 per connection, for engines
whose file system is not the host's (a remote Docker, Docker Desktop, gVisor).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from abc import ABC, abstractmethod
from pathlib import Path

from kernel_sandbox.host.forks import Descriptor, own
from kernel_sandbox.host.run_directory import InsideSockets, RunDirectory
from kernel_sandbox.inside.mux import Channel, MuxError
from kernel_sandbox.sandbox.engines.base import SOCKETS_INSIDE
from kernel_sandbox.sandbox.link import GuestLink, kernel_name

CHUNK = 256 * 1024


class Transport(ABC):
    """The way to one kernel."""

    name: str
    place: str
    """The directory inside in which the kernel binds its sockets."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the place where the kernel binds its sockets. Raises OSError."""

    @abstractmethod
    def secure(self) -> None:
        """Take the sockets out of the sandbox's reach, before the kernel's first cell. Raises ProtocolViolation."""

    @abstractmethod
    async def dial(self, port: int) -> socket.socket:
        """Return a connected socket that leads to the kernel's port. Raises OSError when it has none."""

    @abstractmethod
    def close(self) -> None:
        """Close descriptors and connections, and remove the place as far as the host has made it."""


class IpcTransport(Transport):
    name = "ipc"

    def __init__(self, directory: RunDirectory | InsideSockets, number: int) -> None:
        self._directory, self._number = directory, number
        self.place = f"{SOCKETS_INSIDE}/{number}"
        self._pinned: dict[int, Descriptor] = {}

    def prepare(self) -> None:
        self._directory.open_for_kernel(self._number)

    def secure(self) -> None:
        self._pinned = self._directory.lock(self._number)

    async def dial(self, port: int) -> socket.socket:
        if port not in self._pinned:
            raise ConnectionRefusedError("no kernel")
        inside = own(socket.socket(socket.AF_UNIX))
        inside.setblocking(False)
        try:
            # The name behind the descriptor may be anybody's by now; the descriptor still is the kernel's socket.
            await asyncio.get_running_loop().sock_connect(inside, f"/proc/self/fd/{self._pinned[port].fileno()}")
        except OSError:
            inside.close()
            raise
        return inside

    def close(self) -> None:
        for descriptor in self._pinned.values():
            descriptor.close()
        self._pinned = {}
        self._directory.remove_of_kernel(self._number)


class ForwardTransport(Transport):
    """A socket pair joins the link's event loop to whoever dials, which may run in another: it brings waking and
    back-pressure, and a gate and a session read what comes out of it as they read a kernel's own socket."""

    name = "forward"

    def __init__(self, link: GuestLink, number: int, place: str | None = None) -> None:
        """`place` is where the kernel binds its sockets, if not in the tmpfs that is there for them."""
        self._link, self._kernel = link, kernel_name(number)
        self.place = place or f"{SOCKETS_INSIDE}/{number}"
        self._carriers: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        pass  # PID 1 makes the directory, in a tmpfs of the sandbox's

    def secure(self) -> None:
        pass  # PID 1 connects inside: whatever answers there later is as hostile as the kernel itself

    async def dial(self, port: int) -> socket.socket:
        channel = await self._link.connect(self._kernel, port)
        ours, theirs = map(own, socket.socketpair())
        theirs.setblocking(False)
        task = asyncio.get_running_loop().create_task(_carry(channel, theirs))
        self._carriers.add(task)
        task.add_done_callback(self._carriers.discard)
        task.add_done_callback(lambda _: theirs.close())  # also where it was cancelled before its first step
        ours.setblocking(False)
        return ours

    def close(self) -> None:
        for task in self._carriers:
            task.cancel()


class Ways:
    """Makes the way to each kernel of one sandbox."""

    def __init__(self, link: GuestLink, directory: RunDirectory, inside: Path | None, *, ipc: bool) -> None:
        """`inside` is where the host reaches the sockets' file system in the sandbox, if not in `directory`."""
        self.name = IpcTransport.name if ipc else ForwardTransport.name
        self._link = link
        self._directory = None if not ipc else directory if inside is None else InsideSockets(inside)

    def to_kernel(self, number: int, *, among_cells: bool) -> Transport:
        """Return the way to the kernel of this number, which binds its sockets before any cell runs, or `among_cells`.

        What cells can write among them is never on the host's disk: such a kernel binds inside, where all can write.
        """
        if self._directory is None:
            return ForwardTransport(self._link, number)
        if among_cells and isinstance(self._directory, RunDirectory):
            return ForwardTransport(self._link, number, f"/tmp/.kernel-sandbox-{number}-{secrets.token_hex(8)}")
        return IpcTransport(self._directory, number)

    def to_ports(self, prepared: Transport, number: int) -> Transport:
        """Return the way to a kernel that listens on ports inside, in the place of one to its sockets."""
        prepared.close()
        return ForwardTransport(self._link, number)

    def close(self) -> None:
        """Close what is held of the sandbox's file systems."""
        if self._directory is not None:
            self._directory.close()


async def _carry(channel: Channel, end: socket.socket) -> None:
    """Move bytes between a channel and a socket until either ends; then close both."""
    loop = asyncio.get_running_loop()

    async def inwards() -> None:
        while chunk := await loop.sock_recv(end, CHUNK):
            await channel.send(chunk)

    async def outwards() -> None:
        while chunk := await channel.receive():
            await loop.sock_sendall(end, chunk)

    both = [loop.create_task(inwards()), loop.create_task(outwards())]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        try:
            await asyncio.gather(*both, return_exceptions=True)
        finally:  # the way may be closed while this ends by itself
            end.close()
            with contextlib.suppress(MuxError):
                await channel.reset()
