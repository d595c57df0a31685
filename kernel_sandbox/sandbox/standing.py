"""The sandbox of one session, or of one of Jupyter's kernel managers: the one that stands, or another where it is lost.

Runs in the reactor. Only BegunSandbox is for everywhere else: it begins one while its user still imports a session.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.sandbox import LiveSandbox
from kernel_sandbox.spec.values import SandboxSpec


class StandingSandbox:
    """Starts one kernel after the other, in the sandbox that stands or in a new one."""

    def __init__(self, spec: SandboxSpec, engine: str | None, session_id: str, *, alone: bool = False) -> None:
        self.spec, self.engine, self.session_id = spec, engine, session_id
        self._alone = alone
        """As in LiveSandbox."""
        self.live: LiveSandbox | None = None
        self._begun: asyncio.Task[LiveSandbox] | None = None
        """Opens the first sandbox, where that was begun before a kernel was wanted."""

    async def begin(self) -> None:
        """Begin to open a sandbox. The first start of a kernel waits for it, and raises what went wrong."""
        self._begun = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> LiveSandbox:
        live = LiveSandbox(self.spec, self.engine, self.session_id, alone=self._alone)
        await live.open()
        self.live = live
        return live

    async def start_kernel(self, key: bytes, signature_scheme: str, *, own_session: bool) -> dict[str, Any]:
        """Start a kernel and return its connection info; `own_session` as in LiveSandbox.

        Raises EngineError, KernelNotReady, SandboxLost; then the sandbox is closed again.
        """
        if self._begun is not None:
            begun, self._begun = self._begun, None
            await begun
        if self.live is not None and self.live.lost is not None:
            await self.close()
        live = self.live or await self._open()
        try:
            return await live.start_kernel(key, signature_scheme, own_session=own_session)
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def stop_kernel(self) -> None:
        """End the kernel at once. The sandbox stays."""
        if self.live is not None:
            await self.live.stop_kernel()

    async def close(self) -> None:
        """End the sandbox, if there is one or is to be one."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)
        live, self.live = self.live, None
        if live is not None:
            await live.aclose()


class BegunSandbox:
    """A sandbox that is opened from now on, for a session that does not exist yet. Use it in `with`, from sync code.

    It is the only one of a command. The block's end ends the sandbox, whether a session has taken it over or not.
    """

    def __init__(self, spec: SandboxSpec, engine: str | None) -> None:
        self.standing = StandingSandbox(spec, engine, new_session_id(), alone=True)
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        call_reactor(self.standing.begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        call_reactor(self.standing.close)
