"""A client of one channel of a kernel: ZMTP over the socket that the gate's dial gives, within the gate's bounds.

It lives in the session's event loop, and reads no faster than the session takes messages: who does not read stops the
kernel, so that nothing is dropped and nothing piles up here. A connection that the kernel cuts is made again, as
libzmq does.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from kernel_sandbox.errors import ProtocolViolation, SandboxError
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.host.run_directory import exhausted
from kernel_sandbox.sandbox.zmtp import (
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

if TYPE_CHECKING:
    from kernel_sandbox.sandbox.gate import Dial

PEERS = {b"DEALER": (b"ROUTER", b"DEALER", b"REP"), b"SUB": (b"PUB", b"XPUB")}
"""What a socket of ours may be joined to (RFC 28 and 29 of rfc.zeromq.org)."""
SLICE = 0.005
"""Seconds for which a channel that never runs dry is read before others have their turn."""
LONG = 2 * SLICE
TURN_OF_OTHERS = 0.02
LARGE = 64 * 1024
"""Where a message took longer than LONG (50 ms for 27 MB), others have more than one turn: an HTTP request takes many.
The next that is larger than LARGE bytes waits for TURN_OF_OTHERS, in seconds."""
AGAIN_FIRST, AGAIN_AT_MOST = 0.005, 0.25
"""Seconds until a connection that was cut is made again."""
PING_AT_MOST = 18
"""Bytes: two of the peer's patience, then what it wants back (RFC 37 of rfc.zeromq.org)."""

Frames = list[Part]


class Connection(asyncio.Protocol):
    """One connection, from its greeting to its end."""

    def __init__(
        self,
        kind: bytes,
        identity: bytes,
        bounds: Bounds,
        take: Callable[[Frames], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`take` gets each message, `failed` what it raises, and a ProtocolViolation for what no kernel may send."""
        self._kind, self._identity = kind, identity
        self._reader = FrameReader(bounds, keeps=True)
        self._take, self._failed = take, failed
        self._waiting: deque[Frames] = deque()
        self._transport: asyncio.Transport | None = None
        self._paused = self._gives_later = False
        self._rests_until = 0.0
        """When the next large message may be given."""
        self.is_over = False
        """Whether it was ended from here, and takes nothing any more."""
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
            self._end(ProtocolViolation(broken))
        elif messages := self._reader.messages:
            self._reader.messages = []
            self._waiting.extend(messages)
            if not self._gives_later:
                self._give()

    def _give(self) -> None:
        """Give the session what waits, for a slice of time; nothing is read while more waits."""
        self._gives_later = False
        began = now = time.monotonic()
        while self._waiting and not self.is_over:
            if self._rests_until > now and sum(map(len, self._waiting[0])) > LARGE:
                self._give_later(self._rests_until - now)
                break
            try:
                self._take(self._waiting.popleft())
            except Exception as exc:  # noqa: BLE001 - without a reader every later cell would wait for nothing
                self._end(exc)
                return
            now = time.monotonic()
            if now - began > LONG:
                self._rests_until = now + TURN_OF_OTHERS
            if self._waiting and now - began > SLICE:
                self._give_later(0)
                break
        if self._paused != self._gives_later:
            self._pause(not self._paused)

    def _give_later(self, seconds: float) -> None:
        self._gives_later = True
        asyncio.get_running_loop().call_later(seconds, self._give)

    def _pause(self, paused: bool) -> None:
        """Read nothing more, or read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def _end(self, exc: BaseException) -> None:
        self.abort()
        self._failed(exc)

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
                elif name == b"PING":
                    if len(data) > PING_AT_MOST:
                        return f"a ping of more than {PING_AT_MOST} bytes"
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
        """Send bytes. What is sent to a connection that has ended is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        self.is_over = True
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)


class Line:
    """A client's way to one channel of a kernel, from `open` to `close`."""

    def __init__(
        self, dial: Dial, port: int, make: Callable[[], Connection], refused: Callable[[BaseException], None]
    ) -> None:
        """`dial` runs in the reactor, and raises OSError where no kernel is there.

        `refused` gets an EngineError where this process has no descriptor for the first connection.
        """
        self._dial, self._port, self._make, self._refused = dial, port, make, refused
        self._connection: Connection | None = None
        self._unsent: list[bytes] = []
        """What was sent before the kernel was ready to take it."""
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to connect."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        """Connect, and again where the kernel cuts the connection."""
        pause, is_first = AGAIN_FIRST, True
        while True:
            try:
                connection = self._connection = await self._connect()
                is_first = False
                connection.on_ready = self._flush
                if connection.is_ready:
                    self._flush()
                await connection.lost
                self._connection = None
                if connection.is_over:
                    return
            except (OSError, SandboxError) as exc:  # no kernel is there, any more or yet; or no descriptor
                if is_first and isinstance(exc, OSError) and (refusal := exhausted(exc)):
                    self._refused(refusal)
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_AT_MOST)

    async def _connect(self) -> Connection:
        found: list[socket.socket] = []

        async def dial() -> None:
            found.append(await self._dial(self._port))

        try:
            await on_reactor(dial)
            _, connection = await asyncio.get_running_loop().create_connection(self._make, sock=found[0])
        except BaseException:
            for inside in found:
                inside.close()
            raise
        return connection

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send a message, now or when there is a connection."""
        if self._connection is not None and self._connection.is_ready:
            self._connection.write(data)
        else:
            self._unsent.append(data)

    async def close(self) -> None:
        """End the connection, and make no other."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
