"""A client of one channel of a kernel: ZMTP over the bytes that the gate's dial leads to, with no socket in between.

It lives in the reactor. Messages go to an Inbox, which the session reads in its own event loop; a full one stops the
reading, and with it the kernel, so that nothing is dropped and nothing piles up here. A connection that the kernel cuts
is made again, as libzmq does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from kernel_sandbox.zmtp import (
    OUR_GREETING,
    SUBSCRIBE_TO_ALL,
    Bounds,
    FrameReader,
    Part,
    command,
    message,
    read_command,
    read_properties,
    ready,
)

PEERS = {b"DEALER": (b"ROUTER", b"DEALER", b"REP"), b"SUB": (b"PUB", b"XPUB")}
"""What a socket of ours may be joined to (RFC 28 and 29 of rfc.zeromq.org)."""
ROOM = 1024 * 1024
"""Bytes that wait in an inbox; more wait in the kernel's own process, within its memory."""
SLICE = 0.005
"""Seconds for which an inbox that never runs dry is read before others have their turn."""
AGAIN_FIRST, AGAIN_AT_MOST = 0.005, 0.25
"""Seconds until a connection that was cut is made again."""

Frames = list[Part]


class Inbox:
    """Messages on their way from the reactor to the event loop that made it, where `take` gets each.

    Each counter has one writer, so that the two threads need no lock.
    """

    def __init__(self, take: Callable[[Frames], None], failed: Callable[[BaseException], None]) -> None:
        self._take, self._failed = take, failed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Frames] = deque()
        self._put_bytes = self._taken_bytes = 0
        self._scheduled = self._closed = self._full = False
        self.on_room: Callable[[], None] = lambda: None
        """Called in either thread, when there is room again after `put` said that there is none."""

    def put(self, messages: list[Frames]) -> bool:
        """Leave messages, in the reactor; return whether there is room for more."""
        self._waiting.extend(messages)
        self._put_bytes += sum([sum(map(len, frames)) for frames in messages])
        here = asyncio.get_running_loop() is self._loop
        if not self._scheduled:
            if here:
                self._read()
            else:
                self._scheduled = True
                with contextlib.suppress(RuntimeError):  # the session's loop has ended, and the session with it
                    self._loop.call_soon_threadsafe(self._read)
        room = 0 if here else ROOM
        if self._put_bytes - self._taken_bytes <= room:
            return True
        self._full = True  # and only then looked at again: the reader may have taken all of it just before
        return self._put_bytes - self._taken_bytes <= room

    def _read(self) -> None:
        """Give what waits to the session, for a slice of time."""
        self._scheduled = False
        turn_ends = time.monotonic() + SLICE
        while self._waiting and not self._closed:
            frames = self._waiting.popleft()
            self._taken_bytes += sum(map(len, frames))
            try:
                self._take(frames)
            except Exception as exc:  # noqa: BLE001 - without a reader every later cell would wait for nothing
                self._closed = True
                self._failed(exc)
                return
            if self._waiting and time.monotonic() > turn_ends:
                self._scheduled = True
                self._loop.call_soon(self._read)
                return
        if self._full:
            self._full = False
            self.on_room()

    def close(self) -> None:
        """Take nothing any more. In the event loop that made it."""
        self._closed = True


class Connection(asyncio.Protocol):
    """One connection, from its greeting to its end. `broken` is called with what the kernel must not send."""

    def __init__(
        self, kind: bytes, identity: bytes, bounds: Bounds, inbox: Inbox, broken: Callable[[str], None]
    ) -> None:
        self._kind, self._identity = kind, identity
        self._reader = FrameReader(bounds, keeps=True)
        self._inbox, self._broken = inbox, broken
        self._transport: asyncio.Transport | None = None
        self.is_ready = False
        """Whether the kernel has told what it is: from then on it takes messages."""
        self.on_ready: Callable[[], None] = lambda: None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # by its methods: uvloop's are no subclasses
        self._transport.write(OUR_GREETING + ready({b"Socket-Type": self._kind, b"Identity": self._identity}))

    def data_received(self, data: bytes) -> None:
        """Take what the kernel sent. No exception may leave it: event loops differ in what they do then."""
        try:
            broken = self._reader.feed(data) or self._obey()
        except Exception as exc:  # noqa: BLE001
            broken = f"what its client could not read ({type(exc).__name__}: {exc})"
        if broken:
            self.abort()
            self._broken(broken)
            return
        if messages := self._reader.messages:
            self._reader.messages = []
            if not self._inbox.put(messages) and self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def _obey(self) -> str:
        """Answer the kernel's commands. Returns what rule they break, or an empty text."""
        if not (commands := self._reader.commands):
            return ""
        self._reader.commands = []
        try:
            for body in commands:
                name, data = read_command(body)
                if name == b"READY":
                    self._begin(read_properties(data))
                elif name == b"PING":  # two bytes of its patience come before what it wants back (RFC 37)
                    self.write(command(b"PONG", data[2:]))
                elif name == b"ERROR":
                    return "a refusal of its client's handshake"
        except (ValueError, IndexError) as exc:
            return f"a handshake that no client can complete ({exc})"
        return ""

    def _begin(self, properties: dict[bytes, bytes]) -> None:
        kind = properties.get(b"socket-type", b"")
        if kind not in PEERS[self._kind]:
            raise ValueError("a socket of another type")
        if self.is_ready:
            return
        self.is_ready = True
        if self._kind == b"SUB":
            self.write(message([SUBSCRIBE_TO_ALL]))
        self.on_ready()

    def write(self, data: bytes) -> None:
        """Send bytes, in the reactor. What is sent to a connection that has ended is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)


Connect = Callable[[int, Callable[[], Connection]], Awaitable[Connection]]
"""Joins a port of the kernel (1 to 5) to a connection. Raises OSError where no kernel is there."""


class Line:
    """A client's way to one channel of a kernel, from `open` to `close`, both in the reactor."""

    def __init__(self, connect: Connect, port: int, make: Callable[[], Connection], inbox: Inbox) -> None:
        self._connect, self._port, self._make = connect, port, make
        self._inbox = inbox
        self._connection: Connection | None = None
        self._unsent: list[bytes] = []
        """What was sent before the kernel was ready to take it."""
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to connect."""
        self._loop = asyncio.get_running_loop()
        self._inbox.on_room = lambda: self._call(self._resume)
        self._keeping = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        """Connect, and again where the kernel cuts the connection."""
        pause = AGAIN_FIRST
        while True:
            with contextlib.suppress(OSError):  # no kernel is there, any more or yet
                connection = await self._connect(self._port, self._make)
                self._connection = connection
                connection.on_ready = self._flush
                if connection.is_ready:
                    self._flush()
                await connection.lost
                self._connection = None
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_AT_MOST)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self._send(data)

    def send(self, data: bytes) -> None:
        """Send a message, from any event loop."""
        self._call(self._send, data)

    def _send(self, data: bytes) -> None:
        if self._connection is not None and self._connection.is_ready:
            self._connection.write(data)
        else:
            self._unsent.append(data)

    def _resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call in the reactor: at once where that is here."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            function(*arguments)
        else:
            self._loop.call_soon_threadsafe(function, *arguments)

    async def close(self) -> None:
        """End the connection, and make no other."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
