"""Whether the service can serve, as /readyz answers: cheap to ask, and asked all day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.sandbox.engines.choice import PATIENCE, choose_engine
from kernel_sandbox.service.logs import log_event
from kernel_sandbox.service.service import SessionService
from kernel_sandbox.service.storage import StorageError

FRESH = 1.0
"""Seconds for which the engine's last answer holds."""
NO_SESSION = "no session can be started"


class Readiness:
    """What hinders the service, if anything does."""

    def __init__(self, service: SessionService, takes_requests: Callable[[], bool]) -> None:
        """`takes_requests` turns false when the server is about to end."""
        self._service = service
        self._takes_requests = takes_requests
        self._asking = asyncio.Lock()
        self._asked = -FRESH
        self._serves = False
        self._last: str | None = None

    async def hindrance(self) -> str | None:
        """Return why the service takes no requests now; None where it does."""
        found = await self._look()
        if found != self._last:
            log_event("readiness", status=found or "ready")
        self._last = found
        return found

    async def _look(self) -> str | None:
        if not self._takes_requests():
            return "shutting down"
        try:
            await self._service.store.ping()
        except StorageError:
            return "the database does not answer"
        # An engine that is gone or has lost the image is known at once, though sessions are still held ready.
        if self._service.pool.failure is not None or not await self._engine_serves():
            return NO_SESSION
        return None if self._service.pool.proven else "starting"

    async def _engine_serves(self) -> bool:
        async with self._asking:
            if time.monotonic() - self._asked >= FRESH:
                self._serves = await self._ask_engine()
                self._asked = time.monotonic()
            return self._serves

    async def _ask_engine(self) -> bool:
        settings = self._service.settings
        try:
            async with asyncio.timeout(2 * PATIENCE):
                choice = await on_reactor(choose_engine, settings.engine, settings.spec)
                await on_reactor(choice.engine.check, settings.spec)
        except (SandboxError, TimeoutError):
            return False
        return True
