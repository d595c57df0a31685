"""Those that take turns: a bare local kernel, and a session of each engine, with the same few operations."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager

from kernel_sandbox import AsyncSession, Limits
from kernel_sandbox.sandbox.engines import NAMES

LOCAL = "local"
SIDES = (LOCAL, *NAMES)
IMAGE = "datascience"
LIMITS = Limits(output_bytes="64m", session_output_bytes="2g")


class Local:
    """The reference: a kernel as a plain process, driven as jupyter_client's documentation shows."""

    async def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=str(Path(self.directory.name, "kernel.json"))
        )
        self.manager.ip = str(Path(self.directory.name, "k"))
        await self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=60)

    async def execute(self, source: str) -> None:
        # The default hook prints; a program collects.
        collected: list[object] = []
        reply = await self.client.execute_interactive(source, output_hook=collected.append, timeout=120)
        assert reply["content"]["status"] == "ok"

    async def restart(self) -> None:
        await self.manager.restart_kernel()
        await self.client.wait_for_ready(timeout=60)

    async def aclose(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)
        self.directory.cleanup()


class Sandboxed:
    """A session."""

    def __init__(self, engine: str) -> None:
        self.session = AsyncSession(engine=engine, image=IMAGE, limits=LIMITS)

    async def open(self) -> None:
        await self.session.open()

    async def execute(self, source: str) -> None:
        (await self.session.execute(source)).raise_for_error()

    async def restart(self) -> None:
        await self.session.restart()

    async def aclose(self) -> None:
        await self.session.aclose()


Side = Local | Sandboxed


def competitor(side: str) -> Side:
    """Return one that is not open yet."""
    return Local() if side == LOCAL else Sandboxed(side)


def competitors() -> dict[str, Side]:
    return {side: competitor(side) for side in SIDES}


def turns(number: int) -> tuple[str, ...]:
    """Return the sides in this round's order: each is first in one of three rounds."""
    first = number % len(SIDES)
    return SIDES[first:] + SIDES[:first]


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


def tell(what: str, number: int, rounds: int) -> None:
    """Print how far it is."""
    print(f"{what}: round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
