"""One session, of this process: what `kernel-sandbox mcp` serves. Begun by its first use, ended with the process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_sandbox.doors.mcp.contract import CallExecution, OnEvent, SessionLine
from kernel_sandbox.doors.mcp.notebook_folder import reserve
from kernel_sandbox.errors import SandboxError, SessionClosed, TranscriptError, what_is_kept
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.session.shell_commands import GRACE
from kernel_sandbox.session.transcript import Transcript

MakeSession = Callable[[Transcript], AsyncSession]
NEW_SANDBOX = "A new sandbox began with this cell: earlier variables and files are gone."


@dataclass(eq=False)
class LocalSession:
    """The holder of sessions of stdio, and its only session. Used in one event loop."""

    make_session: MakeSession
    """Makes a session that is not open yet, which goes on with the transcript."""
    data: Sequence[Path] = ()
    """Files of the host that are copied into every new sandbox."""
    save: Path | None = None
    """Where the notebook is kept after every cell; beside it, if there is such a file already."""
    max_timeout: float = 600.0
    takes_identifiers: bool = False
    key: str = ""
    identifier: str = ""
    _session: AsyncSession | None = None
    _transcript: Transcript = field(default_factory=Transcript)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _begun: int = 0
    """How many sandboxes there have been."""
    _known: KnownKernel = field(default_factory=lambda: KnownKernel(0))
    """Of the sandbox that there is now."""
    _closed: bool = False

    # As a holder of sessions

    def session(self, caller: Any, identifier: str | None) -> LocalSession:
        return self

    def sessions(self, caller: Any) -> Sequence[SessionLine]:
        return ()

    def explain(self, exc: Exception) -> str:
        return exc.happened if isinstance(exc, SandboxError) else str(exc)

    async def aclose(self) -> None:
        """End the sandbox at once, whatever runs in it. No other begins."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    # As a session

    async def run(self, source: str, timeout: float, on_event: OnEvent) -> CallExecution:
        session, is_new = await self._opened()
        stream = session.stream(source, timeout=min(timeout, self.max_timeout + GRACE))
        note = NEW_SANDBOX if is_new and self._begun > 1 else ""
        try:
            async for event in stream:
                on_event(event)
        except TranscriptError as exc:  # the cell has run all the same
            note = str(exc)
        except BaseException:
            await stream.aclose()
            raise
        execution = stream.result()
        news = self._known.news(stream)
        if execution.status == "dead":
            note = f"{note} {await self._after_death(session)}".strip()
        return CallExecution(execution, is_new, note, news)

    async def list_files(self, directory: str) -> tuple[FileInfo, ...]:
        session, _ = await self._opened()
        return await session.files.list(directory)

    async def read_file(self, name: str, limit: int) -> bytes:
        session, _ = await self._opened()
        content = io.BytesIO()
        await session.files.copy_to(name, content, limit=limit)
        return content.getvalue()

    async def write_file(self, name: str, data: bytes) -> FileInfo:
        session, _ = await self._opened()
        return await session.files.write(name, data)

    async def restart(self) -> str:
        """Start a fresh kernel, whatever runs. A session that has not begun has nothing to lose."""
        session = self._session
        if session is None:
            return "There was nothing to restart: the session has not begun yet."
        await session.restart()
        self._known.generation = session.generation
        return f"A fresh kernel runs. {what_is_kept(session.kept_by_restart)}"

    async def shutdown(self) -> str:
        """End the sandbox, whatever runs."""
        session, self._session = self._session, None
        if session is None:
            return "There was nothing to shut down: the session has not begun yet."
        await session.aclose()
        again = ", with the files given at the start" if self.data else ""
        return f"{what_is_kept('nothing')} A new sandbox begins with the next call{again}."

    async def transcript(self) -> bytes:
        return (self._transcript if self._session is None else self._session.transcript).to_bytes()

    async def open(self) -> None:
        """Begin the session before its first use."""
        await self._opened()

    # Reaching the session

    async def _opened(self) -> tuple[AsyncSession, bool]:
        """Give the open session, and whether it has just begun."""
        async with self._opening:
            if self._closed:
                raise SessionClosed("The server is ending.")
            if self._session is not None:
                return self._session, False
            self._begin_notebook()
            session = self.make_session(self._transcript)
            await session.open()
            try:
                for path in self.data:
                    await session.files.upload(path)
                self._transcript.autosave()
            except BaseException:
                await session.aclose()
                raise
            if self._closed:  # meanwhile
                await session.aclose()
                raise SessionClosed("The server is ending.")
            self._session, self._known = session, KnownKernel(session.generation)
            self._begun += 1
            return session, True

    def _begin_notebook(self) -> None:
        if self.save is not None and self._transcript.path is None:
            self._transcript.path = reserve(self.save)

    async def _after_death(self, session: AsyncSession) -> str:
        """Start a kernel again after one that has died, or leave the sandbox; return what the next call finds."""
        try:
            await session.restart_if_dead()
        except SessionClosed:
            return "The next call begins a new sandbox."
        except SandboxError as exc:
            if self._session is session:
                self._session = None  # the next call begins another
            await session.aclose()
            failed = f"No kernel could be started again ({exc.happened})."
            return f"{failed} {what_is_kept('nothing')} The next call begins a new sandbox."
        return "The next call finds a fresh kernel."
