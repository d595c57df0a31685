"""Cells of plain requests, which have no stream that could end with their client.

A cell that waits for its turn is given up with its last client, and never runs. One that has begun runs to its end: the
notebook has it, and so has a retry with the same Idempotency-Key, which joins the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.logs import log_failure
from kernel_sandbox.session.cell import AsyncCellStream

T = TypeVar("T")


class Watched:
    """What a door sees of the cell that it waits for."""

    def __init__(self) -> None:
        self.cell: AsyncCellStream | None = None
        """None until the session has it."""
        self.is_started = False
        """Whether something was started that ends by itself, and is no cell of the request's own."""
        self.is_kept = False
        """Whether its result is told to who asks for it later."""
        self.clients = 0
        """How many wait for it."""

    @property
    def has_begun(self) -> bool:
        """Whether something of it may have run."""
        if self.cell is None or self.cell.is_waiting:
            return self.is_started
        return self.cell.execution is None or self.cell.execution.ran != "no"

    @property
    def is_heard(self) -> bool:
        """Whether anybody is there to be told."""
        return self.is_kept or self.clients > 0


class Run(Watched, Generic[T]):
    """One cell, and the answer that is made of it, in a task of its own."""

    def __init__(self, work: Callable[[Watched], Awaitable[T]]) -> None:
        super().__init__()
        self.is_given_up = False
        """Whether its last client left before it began: it never will, and nobody is to join it."""
        self.task: asyncio.Task[T] = asyncio.ensure_future(self._work(work))
        self.task.add_done_callback(_look_at_failure)

    async def _work(self, work: Callable[[Watched], Awaitable[T]]) -> T:
        return await work(self)

    def join(self) -> None:
        """Count one more client."""
        self.clients += 1

    async def leave(self) -> bool:
        """Count one client less, and give the cell up with the last one if it has not begun. Return whether it is."""
        self.clients -= 1
        if self.clients or self.task.done() or self.has_begun:
            return False
        self.is_given_up = True
        if self.cell is None:
            self.task.cancel()  # no cell is sent any more
        else:
            await self.cell.aclose()  # at once: nothing can begin it meanwhile
        return True


class Runs:
    """All runs that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def begin(self, work: Callable[[Watched], Awaitable[T]]) -> Run[T]:
        """Begin one; who waits for it joins it."""
        run = Run(work)
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        return run

    async def aclose(self) -> None:
        """End them: their cells are interrupted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _look_at_failure(task: asyncio.Task[object]) -> None:
    """Log what nobody foresaw: there may be no client left that would be answered."""
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, Exception) and not isinstance(failure, SandboxError):
        log_failure("a run failed", failure)
