"""Many byte channels over one stream, with flow control per channel.

Both ends run this file: the host (`sandbox/link`) and, read as text, the guest inside the sandbox; so it needs
nothing but the standard library of Python 3.9 or newer. Only the host opens channels: one channel, one operation
of the guest protocol. On the host's side the peer is hostile: frames, windows and the number of channels are
bounded, and a frame that breaks a bound ends the whole stream with MuxError.

A frame is a channel number (4 bytes), a kind (1), a length (4), big-endian, then the payload. Each direction of a
channel may have WINDOW bytes under way that its reader has not taken; the reader grants more with CREDIT, as in
HTTP/2 (RFC 9113, section 5.2), so that one slow reader stops nobody else.
"""

from __future__ import annotations

import asyncio
import collections
import struct
from collections.abc import Awaitable, Callable

HEADER = struct.Struct(">IBI")
OPEN, DATA, END, RESET, CREDIT = range(1, 6)
MAX_FRAME = 256 * 1024
WINDOW = 2 * 1024 * 1024
MAX_CHANNELS = 256

Receive = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


class MuxError(ConnectionError):
    """The stream ended, or the peer broke the protocol."""


class Channel:
    """One byte stream in each direction. Either side may end its own direction, or reset both."""

    def __init__(self, mux: Mux, number: int) -> None:
        self._mux = mux
        self._number = number
        self._chunks: collections.deque[bytes] = collections.deque()
        self._unread = 0
        self._consumed = 0
        self._credit = WINDOW
        self._changed = asyncio.Event()
        self._received_end = False
        self._sent_end = False
        self._failure: str | None = None
        self.patience: float | None = None
        """Seconds without any progress after which a wait on this channel fails; None waits for ever."""

    @property
    def _has_input(self) -> bool:
        return bool(self._chunks) or self._received_end

    async def at_end(self) -> bool:
        """Wait until something has arrived; tell whether it is the end. Raises MuxError as `receive` does."""
        await self._until(lambda: self._has_input)
        return not self._chunks

    async def receive(self) -> bytes:
        """Return the next bytes, or b"" when the peer has ended its direction.

        Raises MuxError when the channel was reset or the stream is gone.
        """
        await self._until(lambda: self._has_input)
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        self._consumed += len(chunk)
        if self._consumed >= WINDOW // 2 and not self._received_end:
            granted, self._consumed = self._consumed, 0
            await self._mux.send_frame(self._number, CREDIT, granted.to_bytes(4, "big"))
        return chunk

    async def receive_line(self, limit: int) -> bytes:
        """Return the bytes up to the next newline; what follows stays for `receive`.

        Raises MuxError when the line is longer than `limit` or the direction ends first.
        """
        line = bytearray()
        while b"\n" not in line:
            chunk = await self.receive()
            if not chunk or len(line) > limit:
                raise MuxError("a line was expected")
            line += chunk
        head, _, rest = bytes(line).partition(b"\n")
        if len(head) > limit:
            raise MuxError("a line is too long")
        if rest:
            self._chunks.appendleft(rest)
            self._unread += len(rest)
            self._consumed -= len(rest)
        return head

    async def send(self, data: bytes, *, unless_answered: bool = False) -> bool:
        """Send bytes; waits while the peer's window is full. Raises MuxError as `receive` does.

        With `unless_answered` it stops as soon as the peer has sent something, and returns False: a peer that
        refuses a large file answers before the end, and takes no more of it.
        """
        view = memoryview(data)
        while view:
            await self._until(lambda: self._credit > 0 or (unless_answered and self._has_input))
            if unless_answered and self._has_input:
                return False
            piece = view[: min(self._credit, MAX_FRAME)]
            self._credit -= len(piece)
            view = view[len(piece) :]
            await self._mux.send_frame(self._number, DATA, bytes(piece))
        return True

    async def send_eof(self) -> None:
        """End this side's direction."""
        if not self._sent_end and self._failure is None:
            self._sent_end = True
            await self._mux.send_frame(self._number, END)
            self._forget_when_over()

    async def reset(self) -> None:
        """Give up both directions; the peer's reads and writes fail."""
        if self._failure is None and not (self._sent_end and self._received_end):
            self.fail("the channel was closed")
            await self._mux.send_frame(self._number, RESET)

    def fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._changed.set()
        self._mux.forget(self._number)

    def deliver(self, kind: int, payload: bytes) -> None:
        """Take one frame from the peer. Raises MuxError when it breaks the protocol."""
        if kind == DATA:
            self._unread += len(payload)
            if self._received_end or self._unread > 2 * WINDOW:
                raise MuxError("the peer sent more than its window")
            self._chunks.append(payload)
        elif kind == END:
            self._received_end = True
            self._forget_when_over()
        elif kind == RESET:
            self.fail("the other side closed the channel")
        elif kind == CREDIT and len(payload) == 4:
            self._credit = min(self._credit + int.from_bytes(payload, "big"), WINDOW)
        else:
            raise MuxError(f"the peer sent a frame of unknown kind {kind}")
        self._changed.set()

    def _forget_when_over(self) -> None:
        if self._sent_end and self._received_end:
            self._mux.forget(self._number)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failure is not None:
                raise MuxError(self._failure)
            self._changed.clear()
            if self.patience is None:
                await self._changed.wait()
                continue
            try:
                async with asyncio.timeout(self.patience):  # on the host alone: Python 3.11 has it
                    await self._changed.wait()
            except TimeoutError:
                raise MuxError(f"nothing came for {self.patience:g} s") from None


class Mux:
    """All channels of one stream. `run` must be running for anything to arrive."""

    def __init__(self, receive: Receive, send: Send, accept: Callable[[Channel, bytes], None] | None = None) -> None:
        self._receive = receive
        self._send = send
        self._accept = accept
        self._channels: dict[int, Channel] = {}
        self._opened = 0
        self._sending = asyncio.Lock()
        self._closed: str | None = None

    async def open(self, payload: bytes) -> Channel:
        """Open a channel whose first frame is `payload` (MAX_FRAME at most). Raises MuxError."""
        if self._closed is not None or len(self._channels) >= MAX_CHANNELS:
            raise MuxError(self._closed or "too many operations at once")
        self._opened += 1
        channel = self._channels[self._opened] = Channel(self, self._opened)
        await self.send_frame(self._opened, OPEN, payload)
        return channel

    async def send_frame(self, number: int, kind: int, payload: bytes = b"") -> None:
        if self._closed is not None:
            raise MuxError(self._closed)
        async with self._sending:  # one drain at a time: StreamWriter allows no more on older Pythons
            try:
                await self._send(HEADER.pack(number, kind, len(payload)) + payload)
            except OSError as exc:
                raise MuxError(f"the stream broke: {exc}") from exc

    async def run(self) -> None:
        """Deliver frames until the stream ends; then every channel fails. Raises MuxError on a violation."""
        buffer = bytearray()
        try:
            while chunk := await self._receive():
                buffer += chunk
                self._deliver_frames(buffer)
        except OSError as exc:
            self.close(str(exc))
            raise exc if isinstance(exc, MuxError) else MuxError(str(exc)) from exc
        finally:
            self.close("the sandbox is gone")

    def close(self, reason: str) -> None:
        """Fail every channel, now and in future, with `reason`."""
        self._closed = self._closed or reason
        for channel in list(self._channels.values()):
            channel.fail(self._closed)

    def forget(self, number: int) -> None:
        self._channels.pop(number, None)

    def _deliver_frames(self, buffer: bytearray) -> None:
        position = 0
        while len(buffer) - position >= HEADER.size:
            number, kind, length = HEADER.unpack_from(buffer, position)
            if length > MAX_FRAME:
                raise MuxError("the peer sent a frame that is too large")
            end = position + HEADER.size + length
            if end > len(buffer):
                break
            self._deliver(number, kind, bytes(buffer[position + HEADER.size : end]))
            position = end
        del buffer[:position]

    def _deliver(self, number: int, kind: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            channel.deliver(kind, payload)
        elif kind == OPEN and self._accept is not None:
            channel = self._channels[number] = Channel(self, number)
            self._accept(channel, payload)
        # Anything else belongs to a channel that is over on this side: frames cross on the way.
