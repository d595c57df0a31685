"""The sandbox of one session, or of one of Jupyter's kernel managers: the one that stands, or another where it is lost.

Runs in the reactor.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kernel_sandbox.sandbox.sandbox import LiveSandbox
from kernel_sandbox.spec.values import SandboxSpec


class StandingSandbox:
    """Starts one kernel after the other, in the sandbox that stands or in a new one."""

    def __init__(self, spec: SandboxSpec, engine: str | None, session_id: str) -> None:
        self._spec, self._engine, self._session_id = spec, engine, session_id
        self.live: LiveSandbox | None = None

    async def start_kernel(self, key: bytes, signature_scheme: str, *, own_session: bool) -> dict[str, Any]:
        """Start a kernel and return its connection info; `own_session` as in LiveSandbox.

        Raises EngineError, KernelNotReady, SandboxLost; then the sandbox is closed again.
        """
        if self.live is not None and self.live.lost is not None:
            await self.close()
        if self.live is None:
            live = LiveSandbox(self._spec, self._engine, self._session_id)
            await live.open()
            self.live = live
        try:
            return await self.live.start_kernel(key, signature_scheme, own_session=own_session)
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def stop_kernel(self) -> None:
        """End the kernel at once. The sandbox stays."""
        if self.live is not None:
            await self.live.stop_kernel()

    async def close(self) -> None:
        """End the sandbox, if there is one."""
        live, self.live = self.live, None
        if live is not None:
            await live.aclose()
