"""The pump that every byte between a Jupyter client and a kernel passes.

For each channel it listens on the host (a unix socket in the private run directory, or a port on 127.0.0.1), and
joins each connection to a socket that leads to the kernel. It moves bytes with back-pressure: a side that does not
read stops the other side, so neither the host nor PID 1 holds more than a socket buffer's worth. What the kernel sends
must keep to ZMTP and to bounds (zmtp.py); nothing of what does not is passed on. The session's own client
(wire.py) needs no listener: it reads what was dialled itself, within the same bounds.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from kernel_sandbox.host.forks import own
from kernel_sandbox.sandbox.zmtp import Bounds, FrameReader

SHELL = 1
HEARTBEAT = 5
"""The port whose messages are as small as a client likes: the kernel sends back what it got."""

Dial = Callable[[int], Awaitable[socket.socket]]
"""Given a port (1 to 5), returns a connected, non-blocking socket that leads to the kernel."""


Callback = TypeVar("Callback", bound=Callable[..., None])


def _contained(callback: Callback) -> Callback:
    """End the connection, and the sandbox by name, where a callback of a protocol fails."""

    @functools.wraps(callback)
    def run(end: _End, *arguments: Any) -> None:
        try:
            callback(end, *arguments)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is not the event loop's
            end.break_off(f"what the gate could not pass on ({type(exc).__name__}: {exc})")

    return cast("Callback", run)


class _End(asyncio.Protocol):
    """One end of a joined pair; what arrives here leaves at the peer's end, unless `check` objects.

    No callback may raise: event loops differ in what they do then. uvloop counts the connection as made and forgets it,
    and its garbage closes descriptors that are somebody else's by that time.
    """

    def __init__(self, check: FrameReader | None = None, violated: Callable[[str], None] | None = None) -> None:
        self._check = check
        self._violated = violated
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None
        self._early: list[bytes] = []
        """What arrived before there was a peer: a kernel greets at once. (Pausing in connection_made would not do:
        asyncio before Python 3.11.3 reads all the same.)"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # by its methods: uvloop's are no subclasses

    @_contained
    def data_received(self, data: bytes) -> None:
        if self._check is not None and (broken := self._check.feed(data)):
            self.break_off(broken)
        elif self.peer is None:
            self._early.append(data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if (way_out := self._way_out) is not None:
            way_out.write(data)

    @property
    def _way_out(self) -> asyncio.Transport | None:
        """The peer's transport, as long as it takes something: uvloop's raise an error once they are closed."""
        transport = self.peer.transport if self.peer is not None else None
        return None if transport is None or transport.is_closing() else transport

    def break_off(self, broken: str) -> None:
        """Drop the connection at both ends, and call whoever ends the sandbox."""
        self._check = None
        for end in (self, self.peer):
            if end is not None and end.transport is not None:
                end.transport.abort()
        if self._violated is not None:
            violated, self._violated = self._violated, None
            violated(broken)

    def join(self, peer: _End) -> None:
        """Pass on to `peer` from now on. Where the peer is lost already, this end closes."""
        self.peer = peer
        for data in self._early:
            self._pass_on(data)
        self._early.clear()
        if peer.transport is None and self.transport is not None:
            self.transport.close()

    @_contained
    def pause_writing(self) -> None:
        if (way_out := self._way_out) is not None:
            way_out.pause_reading()

    @_contained
    def resume_writing(self) -> None:
        if (way_out := self._way_out) is not None:
            way_out.resume_reading()

    @_contained
    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


class Gate:
    """Five listeners, and the connections that came in through them.

    The listeners are plain sockets: asyncio's Server leaks a connection that is accepted while it closes.
    """

    def __init__(self, dial: Dial, bounds: Bounds, violated: Callable[[str], None]) -> None:
        """Hold what the kernel sends to `bounds`; `violated` is called with what it did where it does not keep them."""
        self.dial = dial
        self.bounds = bounds
        self._violated = violated
        self._listeners: dict[int, socket.socket] = {}
        self._joined: dict[_End, int] = {}
        """The clients' ends, and their ports."""
        self._joining: dict[asyncio.Task[None], socket.socket] = {}
        self._paths: list[Path] = []
        self.clients = 0
        """The most that were connected to the current kernel's shell channel at a time, the session itself apart. One
        whose connection the kernel cuts comes again, and counts once."""

    def listen_unix(self, address: str) -> None:
        """Listen on `address`-1 to `address`-5."""
        for port in range(1, 6):
            path = Path(f"{address}-{port}")
            path.unlink(missing_ok=True)
            listener = own(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            self._paths.append(path)
            self._listen(listener, port)

    def listen_tcp(self) -> dict[int, int]:
        """Listen on five free ports of 127.0.0.1 and return them."""
        ports = {}
        for port in range(1, 6):
            listener = own(socket.create_server(("127.0.0.1", 0)))
            ports[port] = listener.getsockname()[1]
            self._listen(listener, port)
        return ports

    def _listen(self, listener: socket.socket, port: int) -> None:
        listener.listen(64)
        listener.setblocking(False)
        self._listeners[port] = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener, port)

    def _accept(self, listener: socket.socket, port: int) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it went away again, or no descriptor is free: the client's libzmq tries again by itself
        own(client).setblocking(False)
        task = asyncio.get_running_loop().create_task(self._join(client, port))
        self._joining[task] = client
        task.add_done_callback(self._join_ended)

    def _join_ended(self, task: asyncio.Task[None]) -> None:
        """Close a client that was not joined, also where the task was cancelled before its first step."""
        client = self._joining.pop(task)
        if task.cancelled() or task.exception() is not None:
            client.close()

    async def _join(self, client: socket.socket, port: int) -> None:
        """Dial, then move bytes both ways. What the client sends meanwhile waits in its socket."""
        loop = asyncio.get_running_loop()
        bounds = replace(self.bounds, least=0) if port == HEARTBEAT else self.bounds
        outer, inner = _End(), _End(FrameReader(bounds), self._violated)
        try:
            inside = await self.dial(port)
            await loop.create_connection(lambda: inner, sock=inside)
            await loop.connect_accepted_socket(lambda: outer, client)
        except BaseException:
            # An OSError says that no kernel is there (any more): the client's libzmq tries again.
            if inner.transport is not None:
                inner.transport.abort()
            raise
        self._joined = {end: at for end, at in self._joined.items() if end.transport is not None} | {outer: port}
        self.clients = max(self.clients, list(self._joined.values()).count(SHELL))
        outer.join(inner)
        inner.join(outer)

    async def aclose(self) -> None:
        """Stop listening and drop every connection. Clients reconnect when a gate listens there again."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners.values():
            loop.remove_reader(listener)
            listener.close()
        for task in list(self._joining):
            task.cancel()
        await asyncio.gather(*self._joining, return_exceptions=True)
        for end in self._joined:
            if end.transport is not None:
                end.transport.abort()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self.clients = 0
        self._listeners.clear()
        self._joined.clear()
        self._paths.clear()
