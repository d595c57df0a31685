"""Our client of a kernel's channels against libzmq as the peer: both ways, in any pieces, and what breaks off."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from kernel_sandbox import ProtocolViolation
from kernel_sandbox.sandbox.wire import Connection, Frames, Line
from kernel_sandbox.sandbox.zmtp import Bounds, command, message, read_properties, ready

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(frame=4_000_000, message=8_000_000, least=0)


class Peer:
    """A socket of libzmq's on loopback, in this thread."""

    def __init__(self, kind: int, **options: int) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    async def receive(self) -> list[bytes]:
        return await asyncio.to_thread(self.socket.recv_multipart)

    async def send(self, parts: list[bytes]) -> None:
        await asyncio.to_thread(self.socket.send_multipart, parts)

    def close(self) -> None:
        self.socket.close(0)
        self.context.destroy(0)


@contextmanager
def peer(kind: int, **options: int) -> Iterator[Peer]:
    made = Peer(kind, **options)
    try:
        yield made
    finally:
        made.close()


class Client:
    """A line to a peer, and what came of it."""

    def __init__(self, port: int, kind: bytes, bounds: Bounds = BOUNDS) -> None:
        self.read: list[list[bytes]] = []
        self.failed: list[BaseException] = []
        self.news = asyncio.Event()
        self.dialled = 0
        self.port = port
        self.line = Line(self._dial, 1, self._connection, self.failed.append)
        self._made = kind, b"me", bounds

    def _connection(self) -> Connection:
        return Connection(*self._made, lambda frames: self.take(frames), self.failed.append)

    async def _dial(self, port: int) -> socket.socket:
        self.dialled += 1
        inside = socket.create_connection(("127.0.0.1", self.port))
        inside.setblocking(False)
        return inside

    def take(self, frames: Frames) -> None:
        self.read.append([bytes(part) for part in frames])
        self.news.set()

    async def until(self, number: int, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while len(self.read) < number:
                self.news.clear()
                await self.news.wait()


def any_parts(source: random.Random) -> list[bytes]:
    """Parts at the edges of the two forms of a frame's length, and some in between."""
    sizes = source.choices([0, 1, 2, 254, 255, 256, 257, 70_000, 300_000], k=source.randint(1, 8))
    return [source.randbytes(size) for size in sizes]


async def test_dealer_and_router_of_libzmq_understand_each_other() -> None:
    source = random.Random(1)
    sent = [any_parts(source) for _ in range(60)]
    with peer(zmq.ROUTER) as router:
        client = Client(router.port, b"DEALER")
        client.line.open()
        for parts in sent:
            client.line.send(message(parts))
        assert [await router.receive() for _ in sent] == [[b"me", *parts] for parts in sent]
        for parts in sent:
            await router.send([b"me", *parts])
        await client.until(len(sent))
        await client.line.close()
    assert client.read == sent
    assert client.failed == []


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.XPUB])
async def test_subscriber_hears_all_that_a_publisher_of_libzmq_says(kind: int) -> None:
    source = random.Random(2)
    said = [any_parts(source) for _ in range(60)]
    with peer(kind, SNDHWM=0) as publisher:
        client = Client(publisher.port, b"SUB")
        client.line.open()
        while not client.read:  # until the subscription has arrived
            await publisher.send([b"there?"])
            await asyncio.sleep(0.01)
        client.read.clear()
        for parts in said:
            await publisher.send(parts)
        await client.until(len(said))
        await asyncio.sleep(0.05)
        await client.line.close()
    assert [read for read in client.read if read != [b"there?"]] == said


async def test_pings_of_libzmq_are_answered() -> None:
    """It gives a connection up whose peer is silent for 200 ms."""
    with peer(zmq.ROUTER, HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=200) as router:
        client = Client(router.port, b"DEALER")
        client.line.open()
        client.line.send(message([b"hello"]))
        assert await router.receive() == [b"me", b"hello"]
        await asyncio.sleep(0.8)
        assert client.dialled == 1
        await client.line.close()


async def test_ping_gets_its_own_context_back() -> None:
    async with served() as (_, kernel, loop):
        await loop.sock_sendall(kernel, command(b"PING", b"\x00\x0acontext"))
        assert await loop.sock_recv(kernel, 100) == command(b"PONG", b"context")


class served:
    """A client whose peer is a plain socket that has shaken hands."""

    def __init__(self, kind: bytes = b"DEALER", properties: bytes | None = None, bounds: Bounds = BOUNDS) -> None:
        self._kind, self._bounds = kind, bounds
        self._ready = ready({b"Socket-Type": b"ROUTER"}) if properties is None else properties

    async def __aenter__(self) -> tuple[Client, socket.socket, asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        client = self.client = Client(self.listener.getsockname()[1], self._kind, self._bounds)
        client.line.open()
        kernel, _ = await loop.sock_accept(self.listener)
        kernel.setblocking(False)
        self.kernel = kernel
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
        await loop.sock_sendall(kernel, greeting + self._ready)
        said = b""
        while len(said) < 64 + 2 + 40:
            said += await loop.sock_recv(kernel, 1000)
        assert said[:12] == b"\xff" + bytes(8) + b"\x7f\x03\x00"
        assert read_properties(said[64 + 2 + 6 :]) == {b"socket-type": self._kind, b"identity": b"me"}
        return client, kernel, loop

    async def __aexit__(self, *exc: Any) -> None:
        await self.client.line.close()
        self.kernel.close()
        self.listener.close()


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        (ready({b"Socket-Type": b"PUB"}), "a socket of another type"),
        (ready({b"Identity": b"x"}), "a socket of another type"),
        (command(b"READY", b"\x0bSocket-Type" + (2**31).to_bytes(4, "big") + b"ROUTER"), "properties that are cut off"),
        (command(b"READY", b"\x00\x00\x00\x00\x00"), "properties that are cut off"),
        (command(b"READY", b"\xffX"), "properties that are cut off"),
        (b"\x04\x01\x05", "a command without a name"),
        (b"\x04\x00", "a command without a name"),
        (command(b"ERROR", b"\x02no"), "a refusal of its client's handshake"),
    ],
)
async def test_handshake_that_no_client_can_complete_is_told(properties: bytes, why: str) -> None:
    async with served(properties=properties) as (client, _, _):
        async with asyncio.timeout(5):
            while not client.failed:
                await asyncio.sleep(0.01)
        assert isinstance(client.failed[0], ProtocolViolation)
        assert why in str(client.failed[0])


async def test_any_pieces_are_read_as_the_whole() -> None:
    source = random.Random(3)
    said = [any_parts(source) for _ in range(20)]
    stream = b"".join(map(message, said))
    async with served() as (client, kernel, loop):
        place = 0
        while place < len(stream):
            size = source.choice([1, 2, 3, 9, 10, 64, 5000, 200_000])
            await loop.sock_sendall(kernel, stream[place : place + size])
            place += size
            if size < 64:
                await asyncio.sleep(0)
        await client.until(len(said))
        assert client.read == said


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\x02" + (5000).to_bytes(8, "big"), "a part of 5,000 bytes"),
        (
            b"".join(b"\x03" + (900).to_bytes(8, "big") + bytes(900) for _ in range(3)),
            "a message of more than 2,000 bytes",
        ),
        (b"\x01\x00" * 6, "a message of more than 5 parts"),
        (b"\x08\x00", "a frame with unknown flags"),
        (b"\x05\x00", "a command of several parts"),
        (b"\x06" + (99).to_bytes(8, "big"), "a command of 99 bytes"),
        (command(b"X") * 9, "more than 5 commands"),
        (command(b"PING", bytes(19)), "a ping of more than 18 bytes"),
    ],
)
async def test_what_is_out_of_bounds_is_told(stream: bytes, why: str) -> None:
    bounds = Bounds(frame=1000, message=2000, least=0, parts=5, command=50, commands=5)
    async with served(bounds=bounds) as (client, kernel, loop):
        await loop.sock_sendall(kernel, stream)
        async with asyncio.timeout(5):
            while not client.failed:
                await asyncio.sleep(0.01)
        assert isinstance(client.failed[0], ProtocolViolation)
        assert why in str(client.failed[0])
        assert client.read == []


async def test_noise_is_read_or_told_and_never_raises() -> None:
    source = random.Random(4)
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    for _ in range(60):
        stream = bytearray(b"".join(message(any_parts(source)) for _ in range(3)))
        for _ in range(source.randint(1, 4)):
            stream[source.randrange(min(len(stream), 400))] = source.randrange(256)
        async with served() as (_, kernel, _):
            await loop.sock_sendall(kernel, bytes(stream[:20_000]))
            await asyncio.sleep(0.005)
    assert unhandled == []


async def test_connection_that_is_cut_is_made_again_and_sends_what_waited() -> None:
    async with served() as (client, kernel, loop):
        listener = socket.create_server(("127.0.0.1", 0))
        client.port = listener.getsockname()[1]
        listener.setblocking(False)
        kernel.close()
        again, _ = await asyncio.wait_for(loop.sock_accept(listener), 5)
        client.line.send(message([b"later"]))
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
        again.setblocking(False)
        await loop.sock_sendall(again, greeting + ready({b"Socket-Type": b"ROUTER"}))
        said = b""
        async with asyncio.timeout(5):
            while not said.endswith(message([b"later"])):
                said += await loop.sock_recv(again, 1000)
        again.close()
        listener.close()


async def test_reader_that_is_away_stops_the_kernel_and_loses_nothing() -> None:
    """What is on its way is in the sockets' buffers: no thread of ours reads for a loop that computes."""
    number, size = 400, 100_000
    async with served(b"SUB", ready({b"Socket-Type": b"PUB"})) as (client, kernel, _):
        kernel.setblocking(True)
        sent = 0

        def flood() -> None:
            nonlocal sent
            for _ in range(number):
                kernel.sendall(message([bytes(size)]))
                sent += 1

        thread = threading.Thread(target=flood)
        thread.start()
        time.sleep(1)  # noqa: ASYNC251
        assert sent < number / 2
        await client.until(number)
        thread.join()
        assert client.read == [[bytes(size)]] * number


async def test_others_have_their_turn_while_much_is_read() -> None:
    async with served() as (client, kernel, loop):
        small = message([bytes(100)])
        sending = asyncio.ensure_future(loop.sock_sendall(kernel, small * 60_000))
        most = before = 0
        while before < 60_000:
            await asyncio.sleep(0)
            most, before = max(most, len(client.read) - before), len(client.read)
        await sending
        assert most < 20_000


async def test_small_messages_do_not_wait_behind_a_large_one_and_large_ones_let_others_run() -> None:
    """Reading a large message takes long; a cell's idle status comes after it."""
    large, small = [bytes(100_000)], [bytes(100)]
    times: list[tuple[float, float]] = []

    def take(frames: Frames) -> None:
        begun = time.monotonic()
        if len(frames[0]) > 1000:
            time.sleep(0.03)
        times.append((begun, time.monotonic()))

    async with served() as (client, kernel, loop):
        client.take = take  # type: ignore[method-assign]
        await loop.sock_sendall(kernel, b"".join(map(message, (large, small, large, small))))
        async with asyncio.timeout(5):
            while len(times) < 4:
                await asyncio.sleep(0.001)
    waited = [after[0] - before[1] for before, after in itertools.pairwise(times)]
    assert waited[0] < 0.015
    assert waited[1] >= 0.019  # less the clock of the event loop
    assert waited[2] < 0.015


async def test_handler_that_fails_ends_the_reading_and_is_told() -> None:
    async with served() as (client, kernel, loop):
        client.read = None  # type: ignore[assignment]
        await loop.sock_sendall(kernel, message([b"x"]))
        async with asyncio.timeout(5):
            while not client.failed:
                await asyncio.sleep(0.01)
        assert isinstance(client.failed[0], AttributeError)
        await asyncio.sleep(0.1)
        assert client.dialled == 1
