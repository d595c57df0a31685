"""Opens the service: the database, the kept notebooks, the pool. For every door: HTTP, and MCP over standard input."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from kernel_sandbox.pool import SessionPool
from kernel_sandbox.service.saved import SavedTranscripts
from kernel_sandbox.service.service import SessionService
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.service.storage import Store


@contextlib.asynccontextmanager
async def open_service(settings: ServerSettings) -> AsyncIterator[SessionService]:
    """Open everything that sessions need, and close it in the reverse order.

    Raises StorageError, TranscriptError, and what the pool raises where no sandbox can be had.
    """
    async with (
        Store(settings.database, result_seconds=settings.result_seconds) as store,
        SavedTranscripts(store, settings.save_dir, days=settings.transcript_days) as saved,
        SessionPool(
            settings.pool,
            spec=settings.spec,
            engine=settings.engine,
            save_dir=settings.save_dir,
            prove=True,
        ) as pool,
    ):
        service = SessionService(pool, store, settings, saved)
        try:
            yield service
        finally:
            await service.aclose()
