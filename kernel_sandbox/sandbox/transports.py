"""How the gate reaches a kernel's sockets inside the sandbox.

`ipc`: socket files in a directory that host and sandbox share; locked and pinned before the first cell, and reached
through the pinned descriptors ever after. `forward`: a channel of the link to PID 1 per connection, for engines
whose file system is not the host's (a remote Docker, Docker Desktop, gVisor).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod

from kernel_sandbox.host.forks import Descriptor, own
from kernel_sandbox.host.run_directory import InsideSockets, RunDirectory
from kernel_sandbox.inside.mux import Channel, MuxError
from kernel_sandbox.sandbox.link import GuestLink, kernel_name

CHUNK = 256 * 1024


class Transport(ABC):
    """One session's way to its kernels."""

    name: str

    @abstractmethod
    def prepare(self, generation: int) -> None:
        """Make the place where the kernel of this generation binds its sockets."""

    @abstractmethod
    def secure(self, generation: int) -> None:
        """Take the sockets out of the sandbox's reach, before the first cell. Raises ProtocolViolation."""

    @abstractmethod
    async def dial(self, port: int) -> socket.socket:
        """Return a connected socket that leads to the current kernel's port. Raises OSError when it has none."""

    @abstractmethod
    def close(self) -> None:
        """Close descriptors and connections."""


class IpcTransport(Transport):
    name = "ipc"

    def __init__(self, directory: RunDirectory | InsideSockets) -> None:
        self._directory = directory
        self._pinned: dict[int, Descriptor] = {}

    def prepare(self, generation: int) -> None:
        self._directory.open_for_kernel(generation)

    def secure(self, generation: int) -> None:
        self._release()
        self._pinned = self._directory.lock(generation)

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

    def _release(self) -> None:
        for descriptor in self._pinned.values():
            descriptor.close()
        self._pinned = {}

    def close(self) -> None:
        self._release()
        self._directory.close()


class ForwardTransport(Transport):
    """A socket pair joins the link's event loop to whoever dials, which may run in another: it brings waking and
    back-pressure, and a gate and a session read what comes out of it as they read a kernel's own socket."""

    name = "forward"

    def __init__(self, link: GuestLink) -> None:
        self._link = link
        self._kernel = ""
        self._carriers: set[asyncio.Task[None]] = set()

    def prepare(self, generation: int) -> None:
        pass  # PID 1 makes the directory, in a tmpfs of its own

    def secure(self, generation: int) -> None:
        # PID 1 connects inside: whatever answers there later is as hostile as the kernel itself.
        self._kernel = kernel_name(generation)

    async def dial(self, port: int) -> socket.socket:
        channel = await self._link.connect(self._kernel, port)
        ours, theirs = map(own, socket.socketpair())
        theirs.setblocking(False)
        task = asyncio.get_running_loop().create_task(_carry(channel, theirs))
        self._carriers.add(task)
        task.add_done_callback(self._carriers.discard)
        ours.setblocking(False)
        return ours

    def close(self) -> None:
        for task in self._carriers:
            task.cancel()


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
        await asyncio.gather(*both, return_exceptions=True)
        end.close()
        with contextlib.suppress(MuxError):
            await channel.reset()
