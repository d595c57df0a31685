"""The host's end of the guest protocol: one method per operation of inside/main.py and inside/file_operations.py.

What comes back is hostile once a cell has run: every line is bounded, parsed as JSON, and read field by field.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from kernel_sandbox.errors import KernelNotReady, SandboxLost, last_words
from kernel_sandbox.inside.mux import Channel, Mux, MuxError
from kernel_sandbox.sandbox.engines.base import Sandbox
from kernel_sandbox.spec.values import PYTHON_KERNEL
from kernel_sandbox.text.clipping import one_line

LINE_LIMIT = 16 * 1024
PATIENCE = 30.0
"""Seconds without progress after which an operation is given up: PID 1 always answers, unless it was frozen."""
SAID_PATIENCE = 2.0
"""The same, for what only adds to a message."""
SOURCES = (
    "inside.mux",
    "inside.accounts",
    "inside.boot",
    "inside.main",
    "inside.apart",
    "inside.archive",
    "inside.image_directories",
    "inside.command_line",
    "inside.inspection",
    "inside.common_memory",
    "inside.zygote",
    "inside.kernelspecs",
    "inside.loopback",
    "inside.kernels",
    "inside.copies",
    "inside.copying",
    "inside.fresh_places",
    "inside.survivors",
    "inside.randomness",
    "inside.debugging",
    "inside.application",
    "inside.loaded_libraries",
    "inside.leaving",
    "inside.last_words",
    "inside.allowance",
    "inside.watch",
    "inside.kernel",
    "inside.rehearsal",
    "inside.shell",
    "inside.streams",
    "inside.table_data",
    "inside.widget_text",
    "inside.no_network",
    "inside.file_operations",
    "inside.full_places",
    "inside.error_notes",
    "inside.installers",
    "inside.missing_packages",
)

NAMES = ("name", "display_name", "language")
"""What a kernelspec is called by."""
TEMPLATE_SOURCES = ("inside.confinement", "inside.template", "inside.offspring")
"""What a template has besides."""


class GuestRefused(Exception):
    """PID 1 answered an operation with an error. `code` is a word of the guest protocol, `reason` its text."""

    def __init__(self, code: str, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.said = said
        """What a kernel that failed wrote to standard error last."""


@dataclass(frozen=True, slots=True)
class StartedKernel:
    """What PID 1 tells of a kernel that has started. The names are the image's text: short, and in one line."""

    name: str = "python3"
    """Its kernelspec's."""
    display_name: str = "Python 3 (ipykernel)"
    language: str = "python"
    interrupt_mode: Literal["message", "signal"] = "message"
    by_ports: bool = False
    """Whether it listens on ports inside, where it can bind no unix sockets."""

    @property
    def is_python(self) -> bool:
        """Whether it is one of our own, which does all that a session asks of a kernel."""
        return self.name == PYTHON_KERNEL


@dataclass(frozen=True, slots=True)
class KernelExit:
    """How a kernel ended. A negative exit code is a signal."""

    kernel: str
    exit_code: int
    out_of_memory: bool
    said: str = ""
    """The last that it wrote to standard error: the sandbox's text."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a sandbox uses now; bytes. None where the sandbox cannot see it."""

    memory: int | None
    data: int
    processes: int


def kernel_name(number: int) -> str:
    """The name of a sandbox's nth kernel in the guest protocol: every restart starts a new one."""
    return f"k{number}"


def guest_command() -> list[str]:
    """Return the command that becomes PID 1."""
    return ["python3", "-c", _source("inside.boot")]


def boot_bytes() -> bytes:
    """Return what PID 1 reads first: the guest's sources."""
    return _boot(SOURCES)


def template_bytes(environment: dict[str, str], workdir: str, modules: Sequence[str]) -> bytes:
    """Return what a template reads first: the guest's sources, and what it imports for which kernels."""
    config = {"env": environment, "workdir": workdir, "modules": list(modules)}
    return _boot((*SOURCES, *TEMPLATE_SOURCES), entry="kernel_sandbox.inside.template", config=config)


def _boot(names: Sequence[str], **more: Any) -> bytes:
    sources = {f"kernel_sandbox.{name}": _source(name) for name in names}
    sources |= {"kernel_sandbox": "", "kernel_sandbox.inside": ""}
    boot = json.dumps({"sources": sources, **more}).encode()
    return len(boot).to_bytes(4, "big") + boot


def _source(name: str) -> str:
    *folders, module = name.split(".")
    return resources.files("kernel_sandbox").joinpath(*folders, f"{module}.py").read_text(encoding="utf-8")


def parse(line: bytes) -> dict[str, Any]:
    """Read one line of the guest. Raises SandboxLost for what is not a JSON object."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SandboxLost("The sandbox answered with something that is not its protocol. Start a new session.")
    return answer


def read_started(answer: dict[str, Any]) -> StartedKernel:
    """Read what PID 1 answers to a start."""
    told = answer.get("kernelspec")
    spec = told if isinstance(told, dict) else {}
    name, display_name, language = (one_line(str(spec.get(key) or ""), 100) for key in NAMES)
    mode: Literal["message", "signal"] = "message" if spec.get("interrupt_mode") == "message" else "signal"
    return StartedKernel(name, display_name, language, mode, answer.get("by_ports") is True)


def read_said(answer: dict[str, Any]) -> str:
    """Return what a kernel wrote to standard error last, as the guest tells it."""
    told = answer.get("said")
    try:
        return base64.b64decode(told if isinstance(told, str) else "").decode("utf-8", "replace")
    except ValueError:
        return ""


class GuestLink:
    """The link to one sandbox's PID 1. `run` reads the stream until the sandbox ends."""

    def __init__(self, sandbox: Sandbox, frozen: Callable[[float], None] = lambda seconds: None) -> None:
        """`frozen` is called when PID 1 has taken nothing for so many seconds."""
        self._sandbox, self._frozen = sandbox, frozen
        self._mux = Mux(sandbox.receive, self._send)

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._sandbox.send(data)
        except TimeoutError:
            self._frozen(PATIENCE)
            raise

    async def run(self) -> None:
        """Serve the link until the stream ends. Raises MuxError when the sandbox breaks the protocol."""
        await self._mux.run()

    @contextlib.asynccontextmanager
    async def operation(self, op: str, *, patience: float | None = PATIENCE, **fields: Any) -> AsyncIterator[Channel]:
        """Open a channel for one operation; give it up when the block is left early.

        Raises SandboxLost when the sandbox is gone.
        """
        try:
            channel = await self._mux.open(json.dumps({"op": op, **fields}).encode())
            channel.patience = patience
            try:
                yield channel
            finally:
                with contextlib.suppress(MuxError):
                    await channel.reset()
        except MuxError as exc:
            raise SandboxLost(f"The sandbox does not answer ({exc}).") from exc

    async def answer(self, channel: Channel) -> dict[str, Any]:
        """Read the line that answers an operation. Raises GuestRefused when it says no."""
        answer = parse(await channel.receive_line(LINE_LIMIT))
        if answer.get("ok") is not True:
            raise GuestRefused(str(answer.get("error"))[:100], str(answer.get("message"))[:2000], read_said(answer))
        return answer

    async def ask(self, op: str, *, patience: float | None = PATIENCE, **fields: Any) -> dict[str, Any]:
        """Run an operation that is one line each way."""
        async with self.operation(op, patience=patience, **fields) as channel:
            return await self.answer(channel)

    async def inspect(self, places: Sequence[str], masked: Sequence[str]) -> dict[str, Any]:
        """Ask what the sandbox looks like from inside. Trustworthy only before the first kernel runs."""
        found = (await self.ask("inspect", places=list(places), masked=list(masked))).get("facts")
        if not isinstance(found, dict):
            raise SandboxLost("The sandbox did not say what it looks like from inside.")
        return found

    async def start_kernel(self, name: str, request: dict[str, Any], timeout: float) -> StartedKernel:
        """Start a kernel and return when its sockets are bound. Raises KernelNotReady."""
        late = f"The kernel was not ready after {timeout:g} s. Limits(start_timeout=…) gives it longer."
        try:
            async with asyncio.timeout(timeout):
                return read_started(await self.ask("start", patience=None, kernel=name, **request))
        except GuestRefused as exc:
            raise KernelNotReady(f"The kernel did not start: {exc.reason}.{last_words(exc.said)}") from exc
        except TimeoutError as exc:
            with contextlib.suppress(GuestRefused, SandboxLost):
                late += last_words(read_said(await self.ask("said", patience=SAID_PATIENCE, kernel=name)))
            raise KernelNotReady(late) from exc

    async def fork_kernel(self, name: str, request: dict[str, Any]) -> None:
        """Copy a kernel that is idle, and return when the copy serves, or waits. Raises KernelNotReady."""
        try:
            await self.ask("fork", kernel=name, **request)
        except GuestRefused as exc:
            raise KernelNotReady(f"The kernel could not be copied: {exc.reason}.{last_words(exc.said)}") from exc

    async def stop_kernel(self, name: str) -> bool:
        """End a kernel; when it is the only one, all other processes too, and empty home, /tmp and /dev/shm.

        Returns whether PID 1 is still what it was at the start.
        """
        return (await self.ask("stop", kernel=name)).get("changed") is not True

    async def signal_kernel(self, name: str, number: int) -> None:
        """Send a signal to a kernel's process group."""
        with contextlib.suppress(GuestRefused):  # it has ended already; its exit is told elsewhere
            await self.ask("signal", kernel=name, signal=number)

    async def usage(self) -> Usage:
        answer = await self.ask("usage")
        memory, data, processes = (answer.get(key) for key in ("memory", "data", "processes"))
        return Usage(
            memory=memory if isinstance(memory, int) else None,
            data=data if isinstance(data, int) else 0,
            processes=processes if isinstance(processes, int) else 0,
        )

    async def exits(self) -> AsyncIterator[KernelExit]:
        """Yield each kernel's end as PID 1 reports it, until the sandbox is gone."""
        async with self.operation("watch", patience=None) as channel:
            while True:
                told = parse(await channel.receive_line(LINE_LIMIT))
                code = told.get("exit_code")
                if isinstance(code, int):
                    yield KernelExit(str(told.get("kernel")), code, told.get("out_of_memory") is True, read_said(told))

    async def connect(self, name: str, port: int) -> Channel:
        """Open a byte channel to one of a kernel's sockets (port 1 to 5). Raises MuxError."""
        return await self._mux.open(json.dumps({"op": "connect", "kernel": name, "port": port}).encode())
