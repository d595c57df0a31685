"""What a sandbox is at, and what a kernel of it is at: two values, whose cases hold what only they have.

    Stands ─ Lost        its stream has ended, by itself
    Stands ─ PutDown     it was ended by this process, which says why
    SandboxClosed may follow each, and nothing follows it

    Running ─ Ended ─ Stopped     a kernel may also be stopped while it runs
    Parked ─ Ended ─ Stopped      a copy that waits is the same, but that no client reaches it

LiveSandbox and LiveKernel make the values and do what they stand for.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from kernel_sandbox.errors import SandboxError

KILLED = -9
"""The exit code of a kernel that was stopped before it told one."""


@dataclass(frozen=True, eq=False)
class Stands:
    """It is there, or is being started."""


@dataclass(frozen=True, eq=False)
class Lost:
    """It is gone. What this machine has of it is still there."""

    why: SandboxError


@dataclass(frozen=True, eq=False)
class PutDown:
    """It is being ended, because of what it did."""

    why: SandboxError
    ending: asyncio.Task[None]


@dataclass(frozen=True, eq=False)
class SandboxClosed:
    """It was ended because nobody wants it any more, or is that of the process from which this one was forked."""

    why: SandboxError


SandboxState: TypeAlias = Stands | Lost | PutDown | SandboxClosed


@dataclass(frozen=True, eq=False)
class Running:
    """It is being started, or lives: there are processes and files of it."""

    death: Future[SandboxError] = field(default_factory=Future)
    """Why it is no longer alive, as soon as that is known."""
    exit_code: None = None


@dataclass(frozen=True, eq=False)
class Parked:
    """It is a copy that waits, without sockets: what it holds in memory is there, and further copies are made of it."""

    death: Future[SandboxError] = field(default_factory=Future)
    exit_code: None = None


@dataclass(frozen=True, eq=False)
class Ended:
    """It has ended; what it started may go on."""

    death: Future[SandboxError]
    exit_code: int


@dataclass(frozen=True, eq=False)
class Stopped:
    """It was ended, with all that it had started. Its death may be told later."""

    death: Future[SandboxError]
    exit_code: int


KernelLife: TypeAlias = Running | Parked | Ended | Stopped


def ended(life: KernelLife, exit_code: int) -> KernelLife:
    """Return what follows the end of a kernel; the first exit code that was told stays."""
    return life if isinstance(life, Ended | Stopped) else Ended(life.death, exit_code)


def stopped(life: KernelLife) -> Stopped:
    """Return what follows the stop of a kernel."""
    return Stopped(life.death, KILLED if life.exit_code is None else life.exit_code)
