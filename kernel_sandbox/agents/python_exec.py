"""The agent that writes cells: its tools on a session, and its prompt. It has no way to the host's files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from kernel_sandbox.agents.agent import BaseAgent
from kernel_sandbox.agents.cell_pictures import CellPictures
from kernel_sandbox.agents.cell_tool import MAX_RETRIES, PROMPT, argument_name, prompt_for, tool_definition
from kernel_sandbox.agents.chat_messages import ToolAnswer
from kernel_sandbox.agents.default_session import IMAGE, AnySession, with_session
from kernel_sandbox.agents.events import AgentEvent, CellFinished, CellOutput, OnEvent
from kernel_sandbox.agents.fences import unfence
from kernel_sandbox.agents.listings import FileChanges, compare_listings, describe_listing, describe_saved
from kernel_sandbox.agents.loop import MAX_TURNS
from kernel_sandbox.agents.models import LanguageModelInterface, OpenAILanguageModel
from kernel_sandbox.agents.tools import ToolInterface
from kernel_sandbox.agents.vision import takes_pictures
from kernel_sandbox.artifacts import Artifacts, PictureFolder, Saved
from kernel_sandbox.errors import (
    FileError,
    ProtocolViolation,
    SandboxError,
    SandboxLost,
    SessionClosed,
    TranscriptError,
    what_is_kept,
)
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.outputs import Execution, fresh_kernel
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.setup.image_packages import installed
from kernel_sandbox.show.model_text import DEFAULT_LIMITS, ReadingLimits, read_execution
from kernel_sandbox.spec.languages import PYTHON, Language
from kernel_sandbox.spec.values import DATA_DIRECTORY

SANDBOX_GONE = (SandboxLost, ProtocolViolation)
"""Deaths that take the files too."""

log = logging.getLogger(__name__)


class CellVerdict(Protocol):
    """Whether a cell may run."""

    @property
    def safe(self) -> bool:
        """False refuses the cell."""

    @property
    def reason(self) -> str:
        """Why not; the model reads it."""


CellCheck = Callable[[str], Awaitable[CellVerdict]]
"""Given a cell's source, before it runs. Advice: what holds a cell is the sandbox."""


class PythonExecTool(ToolInterface):
    """`execute_python_code`: runs cells in a session, the default one where none is given.

    A session whose kernel is another makes it `execute_r_code`, and so on: what a model reads is of that language.

    After `max_retries` cells in a row that failed, or that `check` refused, no more are run until the next task begins.
    With `pictures` the model is shown the cells' pictures. Into `artifacts`, a directory of the host, the pictures are
    saved, and after each cell the files that are new or changed under /mnt/data; `Artifacts` has its bounds, and the
    names. An AsyncSession must be used from the event loop that opened it.
    """

    def __init__(
        self,
        session: AnySession | None = None,
        *,
        max_retries: int = MAX_RETRIES,
        limits: ReadingLimits = DEFAULT_LIMITS,
        on_event: OnEvent | None = None,
        check: CellCheck | None = None,
        pictures: bool = False,
        artifacts: str | Path | Artifacts | None = None,
    ) -> None:
        self._session = session
        self._check = check
        self._sees_pictures = pictures
        self._artifacts = Artifacts(artifacts) if isinstance(artifacts, str | Path) else artifacts
        self._pictures = self._artifacts.pictures if self._artifacts is not None else PictureFolder(None)
        self._cells = 0
        self._max_retries = max_retries
        self._limits = limits
        self._on_event = on_event
        self._failures = 0
        self._stopped: Execution | None = None
        self._known: KnownKernel | None = None

    @property
    def _language(self) -> Language:
        return PYTHON if self._session is None else self._session.language

    def get_definition(self) -> dict[str, Any]:
        """Return the definition: one text, python_code, or what it is called where the kernel is another."""
        image, engine = IMAGE, None
        if self._session is not None:
            image, engine = self._session.spec.image, self._session.engine or None
        packages = installed(image, engine) if self._language.is_python else ""
        return tool_definition(self._language, packages=packages, pictures=self._sees_pictures)

    def begin_task(self) -> None:
        """Count failing cells anew."""
        self._failures = 0

    def run(self, arguments: dict[str, Any]) -> str:
        """Run a cell, from sync code, and return the text alone."""
        return call_reactor(self.arun, arguments).text

    async def arun(self, arguments: dict[str, Any]) -> ToolAnswer:
        """Run a cell, and return what the model reads and sees of it. A cancellation interrupts the cell first."""
        self._cells += 1  # those that are refused count too, as they do on the screen
        if self._failures >= self._max_retries:
            return ToolAnswer(f"[Not run.] {self._no_more()}")
        code = unfence(arguments[argument_name(self._language)])
        verdict = await self._check(code) if self._check is not None else None
        if verdict is not None and not verdict.safe:
            self._failures += 1
            return ToolAnswer(f"[Not run.] The cell was refused: {verdict.reason}\n{self._note_on_limit()}".rstrip())

        async def work(session: AsyncSession) -> ToolAnswer:
            return await self._run_cell(session, code)

        return await with_session(self._session, work)

    async def _run_cell(self, session: AsyncSession, code: str) -> ToolAnswer:
        self._known = self._known or KnownKernel(session.generation)
        notes = [self._note_on_stopped()]
        pictures = CellPictures(self._pictures, self._cells)
        before = await _list(session)
        execution, sent = await self._stream(session, code, pictures)
        if (news := self._known.news(sent)) is not None:
            notes.insert(0, f"[{fresh_kernel(news)}]")
        if execution.status == "dead":
            notes.append(await _after_death(session))
            self._known.generation = session.generation
        after = await _list(session)
        changes = None if before is None or after is None else compare_listings(before, after)
        told = await pictures.tell(execution.outputs, seen=self._sees_pictures)
        saved = await self._save(session, changes)
        self._failures = 0 if execution.status == "ok" else self._failures + 1
        if self._failures:
            notes.append(self._note_on_failure(execution))
        if self._on_event is not None:
            because = sent.restarted_because
            self._on_event(CellFinished(execution, changes or FileChanges(), saved, sent.generation, because))
        notes += [str(changes or ""), describe_saved(saved)]
        return ToolAnswer(read_execution(execution, self._limits, notes, told.words), told.shown)

    async def _save(self, session: AsyncSession, changes: FileChanges | None) -> dict[str, Saved]:
        """Save what a cell wrote; None for changes that could not be told."""
        if self._artifacts is None or not self._artifacts.files:
            return {}
        if changes is None:
            return {f"the files under {DATA_DIRECTORY}": Saved(None, "they could not be listed")}
        return await self._artifacts.save(session.files, (*changes.new, *changes.changed))

    async def _stream(
        self, session: AsyncSession, code: str, pictures: CellPictures
    ) -> tuple[Execution, AsyncCellStream]:
        stream = session.stream(code)
        try:
            async for output in stream:
                saved = await pictures.take(output)
                if self._on_event is not None:
                    self._on_event(CellOutput(output, saved))
        except TranscriptError as exc:  # the cell has run all the same
            log.warning("The notebook could not be saved after a cell: %s", exc)
        except BaseException as exc:
            # Whoever ends this wants the cell to end too, and the next one must find the kernel at rest.
            with contextlib.suppress(TranscriptError):
                await stream.aclose()
            if isinstance(exc, asyncio.CancelledError):
                self._stopped = stream.execution
            raise
        return stream.result(), stream

    def _note_on_stopped(self) -> str:
        """Return what became of the cell that the user stopped: its own result said only that it was stopped."""
        stopped, self._stopped = self._stopped, None
        return "" if stopped is None else f"[The user had stopped the cell before this one. {stopped.fate}]"

    def _note_on_failure(self, execution: Execution) -> str:
        return self._note_on_limit() or ("" if execution.status == "dead" else f"[{execution.fate}]")

    def _note_on_limit(self) -> str:
        return f"[{self._no_more()}]" if self._failures >= self._max_retries else ""

    def _no_more(self) -> str:
        return (
            f"{self._failures} cells in a row have failed or were refused: no more are run for this question. Tell "
            "the user what you found out, and what went wrong."
        )


class ListFilesTool(ToolInterface):
    """`list_files`: what is under /mnt/data."""

    def __init__(self, session: AnySession | None = None) -> None:
        self._session = session

    def get_definition(self) -> dict[str, Any]:
        """Return the definition: no parameters."""
        parameters = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
        description = f"List the files under {DATA_DIRECTORY}, with their sizes."
        return {"function": {"name": "list_files", "description": description, "parameters": parameters}}

    def run(self, arguments: dict[str, Any]) -> str:
        """List, from sync code."""
        return call_reactor(self.arun, arguments)

    async def arun(self, arguments: dict[str, Any]) -> str:
        """List the files."""

        async def work(session: AsyncSession) -> str:
            return describe_listing(await session.files.list())

        return await with_session(self._session, work)


async def _list(session: AsyncSession) -> tuple[FileInfo, ...] | None:
    """List the files; None where they cannot be listed, so that nothing is said about them."""
    try:
        return await session.files.list()
    except (FileError, *SANDBOX_GONE):
        return None


async def _after_death(session: AsyncSession) -> str:
    """Start a kernel again after one that has died, and return what is still there."""
    try:
        await session.restart_if_dead()
    except SessionClosed:
        return "[The session is closed: no more cells can be run.]"
    except SandboxError as exc:
        return f"[The kernel could not be restarted: {exc.happened}]"
    told = f"[A fresh kernel runs already. {what_is_kept(session.kept_by_restart)}"
    return f"{told} Load what you need again, and use less memory if that was the cause.]"


class PythonExecAgent(BaseAgent):
    """Answers questions by writing cells and running them in one session, in the language of its kernel.

    `check` looks at each cell before it runs; what it refuses goes back to the model with the reason. `pictures` says
    whether the model is shown the cells' pictures; None decides by its name. `artifacts` is a directory of the host for
    the pictures and the files that cells make, see PythonExecTool; nothing is saved by default.
    """

    def __init__(
        self,
        developer_prompt: str = PROMPT,
        model_name: str = "o3-mini",
        logger: logging.Logger | None = None,
        language_model_interface: LanguageModelInterface | None = None,
        reasoning_effort: str | None = None,
        *,
        session: AnySession | None = None,
        max_retries: int = MAX_RETRIES,
        max_turns: int = MAX_TURNS,
        on_event: OnEvent | None = None,
        check: CellCheck | None = None,
        pictures: bool | None = None,
        artifacts: str | Path | Artifacts | None = None,
    ) -> None:
        super().__init__(
            prompt_for(session.language) if developer_prompt == PROMPT and session is not None else developer_prompt,
            model_name,
            logger,
            language_model_interface or OpenAILanguageModel(logger=logger),
            reasoning_effort,
            max_turns=max_turns,
            on_event=on_event,
        )
        self._session = session
        self._max_retries = max_retries
        self._check = check
        self._sees_pictures = takes_pictures(model_name) if pictures is None else pictures
        self._artifacts = artifacts
        self.setup_tools()

    def setup_tools(self) -> None:
        """Register the tools to run a cell and to list files."""
        self.tool_manager.register_tool(
            PythonExecTool(
                self._session,
                max_retries=self._max_retries,
                on_event=self._emit,
                check=self._check,
                pictures=self._sees_pictures,
                artifacts=self._artifacts,
            )
        )
        self.tool_manager.register_tool(ListFilesTool(self._session))

    def _emit(self, event: AgentEvent) -> None:
        if self.on_event is not None:  # asked now, as it may be set after the tools are
            self.on_event(event)
