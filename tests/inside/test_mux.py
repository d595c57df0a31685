"""The stream protocol between host and guest, both ends in this process; then a peer that breaks it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kernel_sandbox.inside.mux import DATA, END, HEADER, MAX_FRAME, OPEN, WINDOW, Channel, Mux, MuxError

pytestmark = pytest.mark.anyio
Serve = Callable[[Channel, bytes], Awaitable[None]]


class Pair:
    """A host's Mux and a guest's, joined by two queues."""

    def __init__(self, serve: Serve) -> None:
        inwards: asyncio.Queue[bytes] = asyncio.Queue()
        outwards: asyncio.Queue[bytes] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()

        def accept(channel: Channel, payload: bytes) -> None:
            self.tasks.add(asyncio.ensure_future(serve(channel, payload)))

        self.host = Mux(outwards.get, inwards.put)
        self.guest = Mux(inwards.get, outwards.put, accept)
        self.to_host, self.to_guest = outwards, inwards
        self.running = [asyncio.ensure_future(self.host.run()), asyncio.ensure_future(self.guest.run())]

    async def close(self) -> None:
        await self.to_host.put(b"")
        await self.to_guest.put(b"")
        await asyncio.gather(*self.running, *self.tasks, return_exceptions=True)


async def echo(channel: Channel, payload: bytes) -> None:
    await channel.send(payload)
    while chunk := await channel.receive():
        await channel.send(chunk)
    await channel.send_eof()


async def test_channel_carries_bytes_both_ways_past_its_window() -> None:
    pair = Pair(echo)
    channel = await pair.host.open(b"hello ")
    sent = bytes(range(256)) * (WINDOW * 3 // 256)
    sending = asyncio.ensure_future(channel.send(sent))
    received = b""
    while len(received) < len(sent) + 6:
        received += await channel.receive()
    await sending
    await channel.send_eof()
    assert received == b"hello " + sent
    assert await channel.receive() == b""
    await pair.close()


async def test_channel_that_nobody_reads_stops_its_sender_and_no_other() -> None:
    taken = asyncio.Event()

    async def deaf(channel: Channel, payload: bytes) -> None:
        if payload == b"deaf":
            await taken.wait()
        else:
            await echo(channel, payload)

    pair = Pair(deaf)
    blocked = asyncio.ensure_future((await pair.host.open(b"deaf")).send(b"x" * WINDOW * 2))
    lively = await pair.host.open(b"lively")
    assert await asyncio.wait_for(lively.receive(), 5) == b"lively"
    assert not blocked.done()
    blocked.cancel()
    taken.set()
    await pair.close()


async def test_sender_stops_when_the_peer_refuses_the_rest() -> None:
    async def refuse(channel: Channel, payload: bytes) -> None:
        await channel.receive()
        await channel.send(b"no room")

    pair = Pair(refuse)
    channel = await pair.host.open(b"")
    assert await asyncio.wait_for(channel.send(bytes(3 * WINDOW), unless_answered=True), 5) is False
    assert await channel.receive() == b"no room"
    await pair.close()


async def test_channel_line_leaves_what_follows() -> None:
    pair = Pair(echo)
    channel = await pair.host.open(b'{"ok": true}\nrest')
    assert await channel.receive_line(100) == b'{"ok": true}'
    assert await channel.receive() == b"rest"
    await pair.close()


async def test_channels_fail_when_the_stream_ends() -> None:
    pair = Pair(echo)
    channel = await pair.host.open(b"")
    await pair.to_host.put(b"")
    with pytest.raises(MuxError, match="gone"):
        while True:
            await channel.receive()
    with pytest.raises(MuxError, match="gone"):
        await pair.host.open(b"")
    await pair.close()


@pytest.mark.parametrize(
    "hostile",
    [
        HEADER.pack(1, DATA, MAX_FRAME + 1),
        HEADER.pack(1, 99, 0),
        b"".join(HEADER.pack(1, DATA, MAX_FRAME) + bytes(MAX_FRAME) for _ in range(2 * WINDOW // MAX_FRAME + 1)),
        HEADER.pack(1, END, 0) + HEADER.pack(1, DATA, 1) + b"x",
    ],
    ids=["frame too large", "unknown kind", "past the window", "data after the end"],
)
async def test_mux_ends_at_a_peer_that_breaks_the_protocol(hostile: bytes) -> None:
    stream: asyncio.Queue[bytes] = asyncio.Queue()
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    mux = Mux(stream.get, send)
    channel = await mux.open(b"")
    await stream.put(hostile)
    with pytest.raises(MuxError):
        await asyncio.wait_for(mux.run(), 5)
    with pytest.raises(MuxError):
        await channel.send(b"x")


async def test_mux_ignores_frames_for_channels_it_does_not_know() -> None:
    pair = Pair(echo)
    await pair.to_host.put(HEADER.pack(77, DATA, 1) + b"x" + HEADER.pack(78, OPEN, 0))
    channel = await pair.host.open(b"still")
    assert await channel.receive() == b"still"
    await pair.close()
