"""Kernels and their copies, driven by the session's own client: what tests of copies stand on."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.session import Session

from kernel_sandbox import Limits, SandboxSpec
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.live_kernel import LiveKernel
from kernel_sandbox.sandbox.sandbox import LiveSandbox
from kernel_sandbox.session.channels import Channels
from kernel_sandbox.session.messages import Message

SCHEME = "hmac-sha256"


@dataclass
class Client:
    """Runs cells in one kernel and returns what they showed."""

    kernel: LiveKernel
    channels: Channels
    shown: list[str] = field(default_factory=list)

    async def run(self, source: str, seconds: float = 15.0) -> str:
        """Run a cell to its end, and return its texts and its error. Raises TimeoutError."""
        shown: list[str] = []
        ends: set[str] = set()
        over = asyncio.Event()

        def take(channel: str, message: Message) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.append(content["text"])
            elif kind in ("execute_result", "display_data"):
                shown.append(str(content["data"].get("text/plain")))
            elif kind == "error":
                shown.append(f"{content['ename']}: {content['evalue']}")
            elif kind == "execute_reply" or (kind == "status" and content["execution_state"] == "idle"):
                ends.add(kind)
                if len(ends) == 2:
                    over.set()

        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        self.channels.request("shell", "execute_request", content, take)
        async with asyncio.timeout(seconds):
            await over.wait()
        return "".join(shown).strip()

    async def interrupt(self) -> None:
        await self.channels.ask("control", "interrupt_request", {}, timeout=5)


class Forkable:
    """A sandbox, and clients of its kernels."""

    def __init__(self, live: LiveSandbox) -> None:
        self.live = live
        self._clients: list[Client] = []

    async def start(self) -> Client:
        key = uuid.uuid4().hex.encode()
        await on_reactor(functools.partial(self.live.start_kernel, key, SCHEME, own_session=True))
        return await self.connect(self.live.current, key)

    async def fork(self, source: LiveKernel) -> Client:
        key = uuid.uuid4().hex.encode()
        return await self.connect(await on_reactor(self.live.fork_kernel, source, key, SCHEME), key)

    async def park(self, source: LiveKernel) -> LiveKernel:
        return await on_reactor(self.live.park_copy, source)

    async def stop(self, kernel: LiveKernel) -> None:
        await on_reactor(self.live.stop, kernel)

    async def connect(self, kernel: LiveKernel, key: bytes) -> Client:
        failures: list[Any] = []
        channels = Channels(kernel.gate, Session(key=key, signature_scheme=SCHEME), lambda *_: None, failures.append)
        channels.open()
        client = Client(kernel, channels)
        self._clients.append(client)
        await channels.handshake(15)
        return client

    async def aclose(self) -> None:
        for client in self._clients:
            await client.channels.close()
        await on_reactor(self.live.aclose)


@asynccontextmanager
async def forkable(engine: str, image: str = "python", **given: Any) -> AsyncIterator[tuple[Forkable, Client]]:
    """Open a sandbox with one kernel."""
    given.setdefault("limits", Limits(memory="3g"))
    live = LiveSandbox(SandboxSpec(image=image, **given), engine, new_session_id())
    await on_reactor(live.open)
    sandbox = Forkable(live)
    try:
        yield sandbox, await sandbox.start()
    finally:
        await sandbox.aclose()
