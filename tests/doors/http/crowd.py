"""Clients that a server could do without, all at once: `python -m tests.doors.http.crowd ADDRESS KEY`.

They go on until they are ended. "ready" is printed once all are at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx

IDLE, SLOW, LARGE, GREEDY = 1000, 20, 2, 8
"""How many of each: silent connections, bodies that trickle, uploads past any limit, sessions without end."""
PIECE = b"x" * 65536


async def idle(host: str, port: int) -> None:
    """Hold a connection and say nothing; come again when it is closed."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            with contextlib.suppress(OSError):
                await reader.read(1)
            writer.close()
        await asyncio.sleep(0.5)


async def slow(host: str, port: int, key: str) -> None:
    """Send a body a byte at a time."""
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: {host}:{port}\r\nX-Api-Key: {key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head.encode())
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 0.5)
            writer.close()
        await asyncio.sleep(0.1)


async def large(address: str, key: str) -> None:
    """Upload what is far past the limit, said beforehand or not."""
    for announced in itertools.cycle((True, False)):
        headers = {"x-api-key": key} | ({"content-length": str(2**31)} if announced else {})

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield PIECE
                await asyncio.sleep(0.005)

        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(base_url=address, timeout=10) as client:
                await client.put("/v1/sessions/crowd-0/files/f", content=endless(), headers=headers)
        await asyncio.sleep(0.05)


async def greedy(address: str, key: str, number: int) -> None:
    """Ask for one session after the other, and end none."""
    async with httpx.AsyncClient(base_url=address, timeout=30, headers={"x-api-key": key}) as client:
        for count in itertools.count():
            with contextlib.suppress(httpx.HTTPError):
                await client.post("/v1/sessions", json={"identifier": f"crowd-{number}-{count}"})
            await asyncio.sleep(0.1)


async def crowd(address: str, key: str) -> None:
    """Run all of them at once."""
    host, port = urlsplit(address).hostname or "", urlsplit(address).port or 0
    tasks = [asyncio.create_task(idle(host, port)) for _ in range(IDLE)]
    tasks += [asyncio.create_task(slow(host, port, key)) for _ in range(SLOW)]
    tasks += [asyncio.create_task(large(address, key)) for _ in range(LARGE)]
    tasks += [asyncio.create_task(greedy(address, key, number)) for number in range(GREEDY)]
    await asyncio.sleep(3)
    print("ready", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(crowd(sys.argv[1], sys.argv[2]))
