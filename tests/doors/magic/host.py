"""A notebook's kernel for the tests: a real ipykernel in a process of its own, and what its cells sent."""

from __future__ import annotations

import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SETUP = "%load_ext kernel_sandbox\n%config KernelSandboxMagics.engine = 'bubblewrap'"


@dataclass
class Ran:
    """What one cell sent."""

    messages: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    """Seconds after its start, type and content."""
    reply: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [content for _, found, content in self.messages if found == kind]

    @property
    def status(self) -> str:
        return str(self.reply["status"])

    def stream(self, name: str = "stdout") -> str:
        return "".join(content["text"] for content in self.of("stream") if content["name"] == name)

    @property
    def text(self) -> str:
        """Streams, then the texts of displays."""
        return self.stream() + "".join(content["data"]["text/plain"] for content in self.of("display_data"))

    @property
    def bundle(self) -> dict[str, Any]:
        """The one display's bundle."""
        (content,) = self.of("display_data")
        return dict(content["data"])

    @property
    def failure(self) -> str:
        """The one error's traceback, as it is shown."""
        (content,) = self.of("error")
        return "\n".join(content["traceback"])


class Host:
    """One kernel, and its client."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(
        self, source: str, *, on_message: Callable[[str, dict[str, Any]], None] | None = None, timeout: float = 60
    ) -> Ran:
        """Run a cell; `on_message` is told each message as it comes."""
        ran, started = Ran(), time.perf_counter()
        identifier, idle = self.client.execute(source, allow_stdin=True), False
        while not (idle and ran.reply):
            assert time.perf_counter() - started < timeout, f"{source!r} has not ended: {ran}"
            for get in (self.client.get_iopub_msg, self.client.get_shell_msg, self.client.get_stdin_msg):
                try:
                    message = get(timeout=0.01)
                except queue.Empty:
                    continue
                kind, content = message["msg_type"], message["content"]
                if message["parent_header"].get("msg_id") != identifier:
                    continue
                if kind == "execute_reply":
                    ran.reply = content
                elif kind == "status":
                    idle = idle or content["execution_state"] == "idle"
                elif kind != "execute_input":
                    ran.messages.append((time.perf_counter() - started, kind, content))
                if on_message is not None:
                    on_message(kind, content)
        return ran

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def complete(self, code: str) -> list[str]:
        reply = self.client.complete(code, len(code), reply=True, timeout=20)
        return list(reply["content"]["matches"])


@contextmanager
def host_kernel(**environment: str) -> Iterator[Host]:
    """Start a kernel, without the extension."""
    manager = KernelManager(kernel_name="python3")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | environment
    manager.start_kernel(env=env, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Host(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
