"""The notebooks that a pool's sessions leave in its directory, and their index in the store.

A file's name tells nothing of whose it is: the index alone does. A session's notebook is in the index from its first
cell on, so that it is found when the server was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from kernel_sandbox.service.ownership import Address, Reach
from kernel_sandbox.service.storage import StorageError, Store, StoredTranscript
from kernel_sandbox.session.transcript import Transcript

EVERY = 1.0
"""Seconds between two notes about the same notebook."""
SWEEP_EVERY = 60.0


@dataclass(frozen=True, slots=True, repr=False)
class SavedTranscript:
    """A notebook that is kept."""

    id: str
    """By which its owner asks for it."""
    address: Address
    cells: int
    size: int
    created_at: datetime
    updated_at: datetime


class SavedTranscripts:
    """The kept notebooks. An async context manager: inside, old ones are removed as time goes by."""

    def __init__(self, store: Store, directory: Path, *, days: float | None) -> None:
        self._store = store
        self._directory = directory
        self._days = days
        self._noting: dict[str, asyncio.Task[None]] = {}
        self._changed: set[str] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.flush()

    def note(self, address: Address, transcript: Transcript) -> None:
        """Bring the index up to date about a session's notebook, in the background."""
        if transcript.path is None:
            return
        self._changed.add(address.key)
        if address.key not in self._noting:
            task = asyncio.create_task(self._note(address, transcript, transcript.path))
            self._noting[address.key] = task
            task.add_done_callback(lambda done: self._noting.pop(address.key, None))

    async def _note(self, address: Address, transcript: Transcript, path: Path) -> None:
        while address.key in self._changed:
            self._changed.discard(address.key)
            with contextlib.suppress(OSError):  # not saved yet, or removed by hand
                size = path.stat().st_size
                await self._store.record_transcript(
                    address.owner, address.identifier, path, len(transcript.sources), size
                )
            await asyncio.sleep(EVERY)

    async def flush(self) -> None:
        """Wait until the index is up to date."""
        self._changed.clear()
        tasks = list(self._noting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, reach: Reach) -> list[SavedTranscript]:
        """List the notebooks of all sessions within reach, the newest first."""
        return [
            SavedTranscript(
                row.path.stem,
                _address(row),
                row.cells,
                row.size,
                row.created,
                row.updated,
            )
            for row in await self._store.list_transcripts(reach.owner, wanted=lambda row: reach.holds(_address(row)))
        ]

    async def read(self, reach: Reach, transcript_id: str) -> bytes | None:
        """Read a kept notebook; None where none of that id is within reach."""
        path = self._directory / f"{transcript_id}.ipynb"
        for row in await self._store.list_transcripts(reach.owner, 1, path=path):
            if reach.holds(_address(row)):
                return await _read(row.path)
        return None

    async def newest(self, address: Address) -> bytes | None:
        """Read the notebook that the last session of that address left."""
        for row in await self._store.list_transcripts(address.owner, 1, identifier=address.identifier):
            return await _read(row.path)
        return None

    async def _sweep(self) -> None:
        seconds = None if self._days is None else self._days * 86400
        while True:
            with contextlib.suppress(StorageError, OSError):  # a database that is busy, a full disk: the next time
                for path in await self._store.forget_old(seconds):
                    if path.parent == self._directory:
                        path.unlink(missing_ok=True)
            await asyncio.sleep(SWEEP_EVERY)


def _address(row: StoredTranscript) -> Address:
    return Address(row.owner, row.identifier)


async def _read(path: Path) -> bytes | None:
    try:
        return await asyncio.to_thread(path.read_bytes)
    except OSError:
        return None
