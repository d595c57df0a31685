"""Real servers on loopback, in a thread of the test's process or in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from kernel_sandbox.doors.http.serving import serve
from kernel_sandbox.pool import PoolSettings
from kernel_sandbox.service.keys import make_key
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.service.storage import Store
from kernel_sandbox.spec.values import Limits

SMALL = Limits(memory="512m", cell_timeout=60)
GEN1, GEN2, DELETE = "2024-02-02-preview", "2025-02-02-preview", "2025-10-02-preview"


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    address: str
    settings: ServerSettings

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, **options)

    def end(self, identifier: str) -> None:
        """End a session, if there is one: a test that made it leaves room for the next."""
        with self.client() as client:
            client.delete("/session", params={"identifier": identifier, "api-version": DELETE}).raise_for_status()


def issue_key(directory: Path, name: str, **given: Any) -> str:
    """Make an API key for a server that will keep its database in `directory`."""
    text, record = make_key(name, **given)

    async def add() -> None:
        async with Store(str(directory / "server.db")) as store:
            await store.add_key(record)

    asyncio.run(add())
    return text


@contextlib.contextmanager
def running(directory: Path, **given: Any) -> Iterator[Running]:
    """Serve the small image until the block ends."""
    pool = given.pop("pool", PoolSettings(ready=1, sessions=12, idle_timeout=120, queue_timeout=60))
    chosen: dict[str, Any] = {"image": "python", "limits": SMALL, "port": 0, "pool": pool}
    chosen |= {"database": str(directory / "server.db"), "save_dir": directory / "transcripts"}
    settings = ServerSettings(**chosen | given)
    address: Future[str] = Future()
    stop: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_run, args=(settings, address, stop), name="server under test")
    thread.start()
    try:
        yield Running(address.result(60), settings)
    finally:
        loop, told = stop.result(10)
        loop.call_soon_threadsafe(told.set)
        thread.join(60)
        assert not thread.is_alive(), "the server did not end"


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


class ServerProcess:
    """`kernel-sandbox serve` in a process of its own, as people start it."""

    def __init__(self, directory: Path, engine: str, *flags: str) -> None:
        self.directory = directory
        program = "from kernel_sandbox.doors.cli import main; main()"
        command = [sys.executable, "-c", program, "serve", "--port=0", f"--engine={engine}", "--image=python"]
        command += [f"--database={directory / 'server.db'}"]
        command += [f"--save-dir={directory / 'transcripts'}", *flags]
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"https?://\S+:\d+", said)
        assert found, (directory / "log").read_text()
        self.address = found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60)


def _run(settings: ServerSettings, address: Future[str], stop: Future[Any]) -> None:
    async def run() -> None:
        told = asyncio.Event()
        stop.set_result((asyncio.get_running_loop(), told))
        await serve(settings, address.set_result, told)

    try:
        asyncio.run(run())
    except BaseException as exc:
        if not address.done():
            address.set_exception(exc)
            return
        raise
