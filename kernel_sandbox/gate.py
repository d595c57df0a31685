"""The pump that every byte between a Jupyter client and a kernel passes.

For each channel it listens on the host (a unix socket in the private run directory, or a port on 127.0.0.1), and
joins each connection to a socket that leads to the kernel. It moves bytes with back-pressure: a side that does not
read stops the other side, so neither the host nor PID 1 holds more than a socket buffer's worth.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

Dial = Callable[[int], Awaitable[socket.socket]]
"""Given a port (1 to 5), returns a connected, non-blocking socket that leads to the kernel."""


class _End(asyncio.Protocol):
    """One end of a joined pair; what arrives here leaves at the peer's end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


class _ClientEnd(_End):
    """The end of a client that has just connected: it is held until its way to the kernel stands."""

    def __init__(self, gate: Gate, port: int) -> None:
        super().__init__()
        self._gate = gate
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._gate.join(self, self._port)


class Gate:
    """Five listeners, and the connections that came in through them."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._servers: list[asyncio.Server] = []
        self._clients: set[_ClientEnd] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._paths: list[Path] = []

    async def listen_unix(self, address: str) -> None:
        """Listen on `address`-1 to `address`-5."""
        loop = asyncio.get_running_loop()
        for port in range(1, 6):
            path = Path(f"{address}-{port}")
            path.unlink(missing_ok=True)
            server = await loop.create_unix_server(functools.partial(_ClientEnd, self, port), path)
            self._paths.append(path)
            self._servers.append(server)

    async def listen_tcp(self) -> dict[int, int]:
        """Listen on five free ports of 127.0.0.1 and return them."""
        loop = asyncio.get_running_loop()
        ports = {}
        for port in range(1, 6):
            server = await loop.create_server(functools.partial(_ClientEnd, self, port), "127.0.0.1", 0)
            ports[port] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        return ports

    def join(self, client: _ClientEnd, port: int) -> None:
        self._clients = {known for known in self._clients if known.transport is not None} | {client}
        task = asyncio.get_running_loop().create_task(self._join(client, port))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, client: _ClientEnd, port: int) -> None:
        kernel = _End()
        client.peer, kernel.peer = kernel, client
        try:
            inside = await self._dial(port)
            await asyncio.get_running_loop().create_connection(lambda: kernel, sock=inside)
        except OSError:
            # No kernel there (any more): the client's libzmq tries again by itself.
            if client.transport is not None:
                client.transport.close()
            return
        if client.transport is not None:
            client.transport.resume_reading()
        elif kernel.transport is not None:
            kernel.transport.close()

    async def aclose(self) -> None:
        """Stop listening and drop every connection. Clients reconnect when a gate listens there again."""
        for server in self._servers:
            server.close()
        for client in self._clients:
            if client.transport is not None:
                client.transport.abort()
        for task in list(self._joining):
            task.cancel()
        self._servers.clear()
        self._clients.clear()
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()
        self._paths.clear()
