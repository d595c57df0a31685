"""One tool call, from its arguments to its answer. What fails is an answer too; only a cancellation passes through."""

from __future__ import annotations

import asyncio
import base64
import binascii
import collections
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

from kernel_sandbox.agents.arguments import ArgumentsRefused, parse_arguments
from kernel_sandbox.agents.fences import unfence
from kernel_sandbox.agents.listings import shown_name
from kernel_sandbox.doors.mcp.cell_answers import cell_answer, shell_answer
from kernel_sandbox.doors.mcp.cell_progress import CellProgress, Report
from kernel_sandbox.doors.mcp.contract import CallRefused, SessionHolder, ToolSession
from kernel_sandbox.doors.mcp.definitions import DEFAULT_TIMEOUT, MAX_READ, Definition, definitions
from kernel_sandbox.doors.mcp.file_answers import file_answer, listing_answer, notebook_answer
from kernel_sandbox.doors.mcp.notebook_folder import NotebookFolder
from kernel_sandbox.doors.mcp.tool_results import CallResult, TextPart, failure
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.session.shell_commands import GRACE, shell_cell, shell_result
from kernel_sandbox.setup import kernelspec
from kernel_sandbox.spec.languages import PYTHON, Language
from kernel_sandbox.spec.values import DATA_DIRECTORY
from kernel_sandbox.text.characters import visible

T = TypeVar("T")
MOST_WAITING = 16
"""Calls of one session at a time, the one that runs included."""
MAX_SESSIONS = 200
"""That a list names."""
log = logging.getLogger(__name__)


class RefusedByProtocol(Exception):
    """A call that is no tool's to answer: an error of the protocol, with its code (JSON-RPC 2.0, section 5.1)."""

    def __init__(self, message: str, code: int = -32602) -> None:
        super().__init__(message)
        self.code = code


class SessionTools(ABC):
    """Some tools: their definitions, and a call of one of them."""

    def __init__(self, holder: SessionHolder, definitions: Sequence[Definition], language: Language) -> None:
        self._holder = holder
        self.language = language
        """Of the kernels that run the cells."""
        self._waiting: collections.Counter[str] = collections.Counter()
        self.definitions = tuple(definitions)
        self._schemas = {definition.name: definition.arguments for definition in self.definitions}

    async def call(
        self, name: str, arguments: dict[str, Any] | None, *, caller: Any = None, report: Report | None = None
    ) -> CallResult:
        """Run a tool for a caller; `report` is told how it goes on. Raises RefusedByProtocol."""
        if name not in self._schemas:
            known = ", ".join(self._schemas)
            raise RefusedByProtocol(f"There is no tool named {name[:100]!r}. The tools are: {known}.")
        try:
            checked = parse_arguments(json.dumps(arguments or {}), self._schemas[name])
            return await _to_rest(self._answer(name, checked, caller, CellProgress(report)))
        except ArgumentsRefused as exc:
            return failure(visible(f"{name} was not run. {exc}"))
        except CallRefused as exc:
            return failure(visible(str(exc)))
        except SandboxError as exc:
            return failure(visible(self._holder.explain(exc)))
        except RefusedByProtocol:
            raise
        except Exception as exc:  # whatever it is, the caller gets an answer, and the server goes on
            log.error("the tool %s failed: %s", name, type(exc).__name__, exc_info=exc)
            return failure(f"{name} failed, by an error of the server.")

    @abstractmethod
    async def _answer(self, name: str, arguments: dict[str, Any], caller: Any, progress: CellProgress) -> CallResult:
        """Do what a tool is for; its arguments fit its schema."""

    def _seconds(self, timeout: float) -> float:
        if not timeout > 0:
            raise CallRefused("Give a timeout above 0 seconds.")
        return min(timeout, self._holder.max_timeout)

    @contextmanager
    def _counted(self, session: ToolSession) -> Iterator[None]:
        """Hold a session to what may wait for it: each call holds memory."""
        if self._waiting[session.key] >= MOST_WAITING:
            raise CallRefused(f"{MOST_WAITING} calls of this session are under way already: wait for their results.")
        self._waiting[session.key] += 1
        try:
            yield
        finally:
            self._waiting[session.key] -= 1
            if not self._waiting[session.key]:
                del self._waiting[session.key]


class Toolbox(SessionTools):
    """The tools over one holder of sessions. Used from one event loop."""

    def __init__(
        self,
        holder: SessionHolder,
        *,
        language: Language = PYTHON,
        packages: str = "",
        folder: NotebookFolder | None = None,
    ) -> None:
        """`packages` says what is installed; notebooks are saved in `folder`, and embedded where there is none."""
        self._folder = folder
        defined = definitions(
            max_timeout=holder.max_timeout,
            takes_identifiers=holder.takes_identifiers,
            language=language,
            packages=packages,
            saves=folder is not None,
        )
        super().__init__(holder, defined, language)

    async def _answer(self, name: str, arguments: dict[str, Any], caller: Any, progress: CellProgress) -> CallResult:
        if name == "list_sessions":
            return self._list_sessions(caller)
        session = self._holder.session(caller, arguments.pop("identifier", None))
        tools: dict[str, Callable[..., Awaitable[CallResult]]] = {
            "list_files": self._list_files,
            "read_file": self._read_file,
            "write_file": self._write_file,
            "get_transcript": self._get_transcript,
        }
        if name in ("restart_session", "shutdown_session"):  # they end what the others wait for: not counted among them
            return await self._begin_anew(session, keeps_files=name == "restart_session")
        with self._counted(session):
            if name in tools:
                return await tools[name](session, **arguments)
            async with progress.reporting():
                run = self._run_command if name == "run_command" else self._run_cell
                return await run(session, progress, **arguments)

    async def _run_cell(
        self, session: ToolSession, progress: CellProgress, source: str, timeout: float = DEFAULT_TIMEOUT
    ) -> CallResult:
        ran = await session.run(unfence(source), self._seconds(timeout), progress.take)
        return await asyncio.to_thread(cell_answer, ran, session.identifier)

    async def _run_command(
        self, session: ToolSession, progress: CellProgress, command: str, timeout: float = DEFAULT_TIMEOUT
    ) -> CallResult:
        seconds = self._seconds(timeout)
        ran = await session.run(shell_cell(command, timeout=seconds), seconds + GRACE, progress.take)
        return await asyncio.to_thread(shell_answer, ran, shell_result(ran.execution).exit_status, session.identifier)

    async def _list_files(self, session: ToolSession, directory: str = "") -> CallResult:
        return listing_answer(await session.list_files(_below_data(directory)))

    async def _read_file(self, session: ToolSession, name: str) -> CallResult:
        name = _below_data(name)
        return await asyncio.to_thread(file_answer, name, await session.read_file(name, MAX_READ))

    async def _write_file(self, session: ToolSession, name: str, content: str, encoding: str = "utf-8") -> CallResult:
        info = await session.write_file(_below_data(name), _decoded(content, encoding))
        path = f"{DATA_DIRECTORY}/{shown_name(info.name)}"
        data = {"status": "ok", "path": path, "size": info.size}
        return CallResult((TextPart(f"Wrote {path}, {info.size:,} bytes."),), data)

    async def _begin_anew(self, session: ToolSession, *, keeps_files: bool) -> CallResult:
        said = await (session.restart() if keeps_files else session.shutdown())
        return CallResult((TextPart(said),), {"status": "ok", "message": said})

    async def _get_transcript(self, session: ToolSession) -> CallResult:
        notebook = await session.transcript()
        if self._folder is not None:
            path = await asyncio.to_thread(self._folder.save, notebook)
            warning = await asyncio.to_thread(kernelspec.warning)
            said = (
                f"The notebook is saved on the user's machine as {path}.{f' Tell them: {warning}' if warning else ''}"
            )
            return CallResult((TextPart(said),), {"status": "ok", "path": str(path)})
        return await asyncio.to_thread(notebook_answer, notebook)

    def _list_sessions(self, caller: Any) -> CallResult:
        lines = self._holder.sessions(caller)
        shown = [
            {
                "identifier": shown_name(line.identifier),
                "state": line.state,
                "cells": line.cells,
                "created_at": line.created_at.isoformat(timespec="seconds"),
                "last_used_at": line.last_used_at.isoformat(timespec="seconds"),
            }
            for line in lines[:MAX_SESSIONS]
        ]
        text = "\n".join(f"{line['identifier']}\t{line['state']}\t{line['cells']} cells" for line in shown)
        data = {"status": "ok", "sessions": shown, "total": len(lines)}
        return CallResult((TextPart(text or "You have no sessions: the first call of a tool begins one."),), data)


def _below_data(path: str) -> str:
    """Take a path as models write it: from the root, too."""
    if f"{path}/".startswith(f"{DATA_DIRECTORY}/"):
        path = path.removeprefix(DATA_DIRECTORY).lstrip("/")
    return path.rstrip("/")


def _decoded(content: str, encoding: str) -> bytes:
    if encoding != "base64":
        return content.encode("utf-8", "replace")
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise CallRefused("The content is not base64. Send it again, or as encoding utf-8.") from exc


async def _to_rest(work: Coroutine[Any, Any, T]) -> T:
    """Await work in a task of its own, and when cancelled wait until it has cleaned up.

    The protocol's cancellations are anyio's, which strike again at every await: the work would be cancelled while
    it waits for an interrupted cell, and leave the kernel busy. A task is cancelled once.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain of it
        raise
