"""What an engine is: it starts sandboxes, finds the ones that dead owners left, and says what is wrong with a host.

Engines know containers and processes; they know nothing of kernels or Jupyter. `engines/test_contract.py` runs over
every engine.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host.forks import renew
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.spec.values import SandboxSpec

T = TypeVar("T")

TemplateBoot = Callable[[Sequence[str]], bytes]
"""What a process reads that imports these modules, and forks whole sandboxes for which `argv` then has run."""

SOCKETS_INSIDE = "/opt/kernel-sandbox/run"
"""Where a kernel's socket directories are inside: the run directory's k/ (ipc), or a tmpfs (forward)."""

NAMES_INSIDE = "/opt/kernel-sandbox/names"
"""Where our images look for users too (libnss-extrausers), for engines that cannot show the host's files in /etc."""


_threads = anyio.CapacityLimiter(40)
"""Of the engines' own: in the pool that all callers of anyio share, a prompt may keep a thread for hours."""


def _renew_threads() -> None:
    global _threads
    _threads = anyio.CapacityLimiter(40)


renew(_renew_threads)


def new_session_id() -> str:
    return secrets.token_hex(8)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a call that blocks, but not for long, in a worker thread."""
    return await anyio.to_thread.run_sync(function, *args, limiter=_threads)


async def write(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write to PID 1. Raises OSError when the stream is closed, which event loops tell in different ways."""
    if stream.is_closing():
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    stream.write(data)
    await stream.drain()


def source_missing(source: str) -> EngineError:
    """Return the error for a mount whose source is not there, in the same words for every engine."""
    return EngineError(f"The mount's source {source} is not on the engine's machine: correct its path.")


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """One sandbox that an engine has, as `kernel-sandbox ps` shows it."""

    id: str
    session_id: str
    image: str
    status: str
    created: datetime
    owner_pid: int
    owner_gone: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `kernel-sandbox doctor` looked at."""

    subject: str
    verdict: Literal["ok", "note", "problem"]
    detail: str
    remedy: str = ""
    """The one command or step that mends it."""


class Sandbox(ABC):
    """One running sandbox: a byte stream to its PID 1, and its end.

    PID 1 ends the sandbox when its input ends, so a host process that dies leaves nothing behind.
    """

    id: str
    image: str
    """The image by digest, where the engine knows it."""
    weakened: tuple[str, ...] = ()
    """What the engine could not hold of the promised profile, in words."""
    preload: tuple[str, ...] = ()
    """Modules that the image wants imported ahead of their need."""
    kernel: str | None = None
    """The kernelspec that the image is for, where it says so."""
    own_facts: Mapping[str, Any] = MappingProxyType({})
    """What an image of one's own tells of itself; anybody may have written it."""
    sockets: Path | None = None
    """Where the host reaches SOCKETS_INSIDE, if not in the directory that was shared."""
    group: ControlGroup = ControlGroup()
    """Its limits, as far as they are on this machine."""

    async def renew_limits(self) -> tuple[list[str], list[str]]:
        """Read the limits again; return in words those that were gone and are put back, and those that stay gone."""
        return await in_thread(self.group.renew)

    def settle(self) -> None:  # noqa: B027 - most engines prepare nothing
        """Take note that a kernel has answered: what is done for sandboxes to come is in its way no more."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Return the next bytes that PID 1 wrote, or b"" at the end of the sandbox."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write to PID 1's standard input. Raises OSError when the sandbox is gone."""

    @abstractmethod
    async def epitaph(self) -> str:
        """Return in words why a sandbox ended, as far as the engine can tell. Called once, after the stream's end."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the sandbox and wait until nothing of it is left. Does nothing at the second call."""


class Engine(ABC):
    """Starts sandboxes. Everything runs in the reactor."""

    name: str

    @abstractmethod
    async def check(self, spec: SandboxSpec) -> None:
        """Find out whether a sandbox could be started. Raises EngineUnavailable or ImageNotFound where not."""

    @abstractmethod
    async def start(
        self,
        spec: SandboxSpec,
        argv: list[str],
        *,
        session_id: str,
        shared: Path | None,
        boot: bytes,
        template: TemplateBoot | None = None,
    ) -> Sandbox:
        """Start a sandbox with `argv` as PID 1, the bytes of `boot` first on its standard input.

        `shared` is a host directory to show at SOCKETS_INSIDE; without one a small tmpfs is there. An engine whose
        sandboxes' files the host can reach anyway puts a tmpfs there in any case, and says where (`sockets`). An engine
        that can fork a sandbox instead of starting one may do so where there is a `template`: it is then like one in
        which `argv` has read `boot`. Raises
        EngineUnavailable, ImageNotFound or EngineError; then nothing of the attempt is left.
        """

    @abstractmethod
    async def supports_ipc(self, spec: SandboxSpec) -> bool:
        """Whether sockets in a host directory can be shared with a sandbox (transport ipc)."""

    @abstractmethod
    async def sandboxes(self) -> list[SandboxInfo]:
        """List the sandboxes of this package that the engine has, whoever owns them."""

    @abstractmethod
    async def collect_garbage(self) -> int:
        """Remove the sandboxes whose owner on this machine is dead, and return how many there were."""

    @abstractmethod
    async def examine(self) -> list[Finding]:
        """Look at what a sandbox needs of this host, for `kernel-sandbox doctor`. Never raises."""
