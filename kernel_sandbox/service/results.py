"""Executions that can be asked for later: the asynchronous ones in the store, the last synchronous ones in memory.

A job runs in the background to its end whoever asked for it; what it returns is JSON in the door's own shape.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.service.runs import Watched
from kernel_sandbox.service.storage import ResultTooLarge, Status, Store
from kernel_sandbox.session.outputs import what_ran

MOST_JOBS = 64
"""Jobs of one owner that run or wait at a time."""
LONGEST_JOB = 800.0
"""Seconds of a job with its wait for a turn; the store takes one that is silent for longer as lost."""
MOST_KEPT = 256
"""Results of synchronous executions in memory."""
LARGEST_KEPT = 64 * 1024
"""Characters of what one of them printed; larger ones are not kept."""

TAKEN = "There is an execution of that id already: GET it for its result, and give each its own id."

Outcome = tuple[Status, Mapping[str, Any]]
"""A final status (Succeeded, Failed) and the resource."""
Job = Callable[[Watched], Awaitable[Outcome]]
"""Given what is to see its cell."""


class TooManyJobs(SandboxError):
    """An owner has as many jobs under way as it may have."""

    retry_after = 5


class DuplicateExecution(SandboxError):
    """There is an execution of that id already."""


class Results:
    """The executions that have an id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: collections.OrderedDict[tuple[str, str], Outcome] = collections.OrderedDict()
        self._taken: set[tuple[str, str]] = set()
        """The ids that are being taken: between asking the store for one and noting it, nobody else gets it."""
        self._jobs: dict[asyncio.Task[None], str] = {}

    async def aclose(self) -> None:
        """End the jobs; those that had not ended count as lost from now on."""
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    @property
    def running(self) -> int:
        return len(self._jobs)

    async def start(self, address: Address, job: Job, execution_id: str | None = None) -> str:
        """Run a job in the background and give the id to ask for it by. Raises TooManyJobs and DuplicateExecution."""
        if list(self._jobs.values()).count(address.owner) >= MOST_JOBS:
            raise TooManyJobs(f"{MOST_JOBS} of your executions are under way: wait for one of them.")
        identity = execution_id or str(uuid.uuid4())
        async with self._taking(address, identity):
            await self._store.save_execution(identity, address.owner, address.identifier, "Running", None)
        task = asyncio.create_task(self._run(address, identity, job))
        self._jobs[task] = address.owner
        task.add_done_callback(lambda done: self._jobs.pop(done, None))
        return identity

    async def _run(self, address: Address, identity: str, job: Job) -> None:
        status: Status
        resource: Mapping[str, Any]
        watched = Watched()
        watched.is_kept = True
        try:
            async with asyncio.timeout(LONGEST_JOB):
                status, resource = await job(watched)
        except SandboxError as exc:
            status, resource = "Failed", {"error": {"code": type(exc).__name__, "message": str(exc)}}
        except TimeoutError:
            execution = watched.cell.execution if watched.cell is not None else None
            late = f"{execution.fate if execution is not None else what_ran('no')} It waited too long for its turn."
            status, resource = "Failed", {"error": {"code": "Timeout", "message": late}}
        try:
            await self._store.save_execution(identity, address.owner, address.identifier, status, dict(resource))
        except ResultTooLarge as exc:
            told = {"error": {"code": "ResultTooLarge", "message": str(exc)}}
            await self._store.save_execution(identity, address.owner, address.identifier, "Failed", told)

    async def run(
        self, address: Address, execution_id: str, job: Callable[[], Awaitable[Outcome]], watched: Watched
    ) -> Outcome:
        """Run a synchronous execution, which can be asked for while it runs and, if it ran, for a while after that.

        Raises DuplicateExecution.
        """
        place = (address.key, execution_id)
        async with self._taking(address, execution_id):
            self._keep(place, ("Running", {}))
        try:
            outcome = await job()
        finally:
            self._kept.pop(place, None)
        if watched.has_begun:
            self._keep(place, _bounded(outcome))
        return outcome

    def _keep(self, place: tuple[str, str], outcome: Outcome) -> None:
        self._kept[place] = outcome
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    async def get(self, address: Address, execution_id: str) -> Outcome | None:
        """Find an execution of that session: its status and resource; None where there is none, or no more."""
        if (kept := self._kept.get((address.key, execution_id))) is not None:
            return kept
        stored = await self._store.get_execution(execution_id, address.owner, address.identifier)
        if stored is None:
            return None
        lost = {"error": {"code": "ServerRestarted", "message": "The server ended before the execution did."}}
        return stored.status, stored.result or (lost if stored.lost else {})

    @contextlib.asynccontextmanager
    async def _taking(self, address: Address, execution_id: str) -> AsyncIterator[None]:
        """Take an id, which is noted within the block. Raises DuplicateExecution for one that is taken."""
        place = (address.key, execution_id)
        if place in self._taken:
            raise DuplicateExecution(TAKEN)
        self._taken.add(place)
        try:
            if await self.get(address, execution_id) is not None:
                raise DuplicateExecution(TAKEN)
            yield
        finally:
            self._taken.discard(place)


def _bounded(outcome: Outcome) -> Outcome:
    """Leave out what an execution showed, if it is too large to be kept."""
    status, resource = outcome
    result = resource.get("result")
    if not isinstance(result, Mapping) or len(json.dumps(result)) <= LARGEST_KEPT:
        return outcome
    told = "[kernel-sandbox: what it showed is too large to be kept; the session's notebook has it]\n"
    return status, {**resource, "result": {**result, "stdout": "", "stderr": told, "executionResult": None}}
