"""Questions to an agent on a session, one after the other: put, judged, kept in the transcript, and given up.

Every door that asks comes here. A door says how a question is put (`Manner`), and shows what happens (`View`); a door
in an event loop of its own awaits `aask`. What is shown, and what Ctrl-C is, is not here.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kernel_sandbox.agents.approval import Approval, ask_user
from kernel_sandbox.agents.default_session import AnySession
from kernel_sandbox.agents.events import AgentEvent, ModelAnswered
from kernel_sandbox.agents.file_access import FileAccessTool
from kernel_sandbox.agents.loop import TaskSummary
from kernel_sandbox.agents.python_exec import PythonExecAgent
from kernel_sandbox.agents.recipient import ChosenModel
from kernel_sandbox.agents.safety import SafetyCheck, Verdict, model_check, rules_check
from kernel_sandbox.artifacts import Artifacts
from kernel_sandbox.errors import SandboxError, TranscriptError
from kernel_sandbox.host import links
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.session.sync import Session
from kernel_sandbox.show.markdown import harmless_markdown
from kernel_sandbox.text.clipping import one_line

TICK = 0.25
"""Seconds between two ticks of a view."""
LONGEST_HEADING = 2000
LONGEST_REASON = 500

Step = AgentEvent | Approval
OnStep = Callable[[Step], object]
"""Called in the event loop of the session: it must be quick. An Approval waits until somebody decides it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a question is put."""

    reasoning_effort: str | None = None
    safety: Literal["off", "rules", "model"] = "off"
    """Who looks at each cell before it runs."""
    approve: bool = False
    """Whether the user is asked before each cell, after that look."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question."""

    text: str
    task: TaskSummary
    unsaved: TranscriptError | None = None
    """Why the notebook does not hold it. It is worth showing all the same."""

    @property
    def is_final(self) -> bool:
        """Whether the model had come to its end: False where it was stopped before."""
        return self.task.ended == "answer"


class View(Protocol):
    """What shows a question; all of it is called by `Questions.ask`, in the thread that called that."""

    def show(self, event: AgentEvent) -> None:
        """Show what has happened."""

    def approve(self, approval: Approval) -> str:
        """Show the whole cell and return the user's word. A KeyboardInterrupt gives the question up."""

    def tick(self) -> None:
        """Move what moves while nothing happens."""


class Questions:
    """Puts questions to one agent, which remembers them. One at a time."""

    def __init__(self, session: AnySession, chosen: ChosenModel, *, artifacts: Artifacts | None = None) -> None:
        """Take an open session; pictures and files of its cells go into `artifacts`."""
        self.chosen = chosen
        self._session = session
        self._manner = Manner()
        self._on_step: OnStep = _unseen
        self._asked: Future[Answer] | None = None
        self._agent = PythonExecAgent(
            model_name=chosen.name,
            language_model_interface=chosen.model,
            session=session,
            check=self._judge,
            on_event=self._take,
            artifacts=artifacts,
        )

    def add_context(self, content: str) -> None:
        """Add something that the model reads before the next question."""
        self._agent.add_context(content)

    async def add_file(self, path: Path) -> None:
        """Copy a file that the user named into the sandbox, and tell the model what it holds.

        Raises HostFileRefused, also for what a link in the working directory leads to, and SandboxError.
        """
        links.check_for_model(f"--data {path}", path)
        tool = FileAccessTool(self._session, directories=[path.absolute().parent])
        self.add_context(await tool.arun({"filename": path.name}))

    def ask(self, question: str, view: View, manner: Manner = Manner()) -> Answer | None:
        """Put a question to the agent of a Session, and show what it does; None where it was given up.

        However it ends, the agent is at rest then. Raises ModelError, and SandboxError where it cannot go on.
        """
        steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()

        async def work() -> Answer:
            try:
                return await self.aask(question, steps.put, manner)
            finally:  # a question that was given up is over only here: its cell has been interrupted by now
                steps.put(None)

        self._asked = portal().start_task_soon(work)
        try:
            while (step := _next(steps, view)) is not None:
                self._show(step, view)
        except BaseException:
            self.give_up()
            while steps.get() is not None:
                pass
            raise
        return None if self._asked.cancelled() else self._asked.result()

    def give_up(self) -> None:
        """Give up the question that `ask` waits for: its cell is interrupted. From any thread."""
        if self._asked is not None:
            self._asked.cancel()

    def _show(self, step: Step, view: View) -> None:
        if not isinstance(step, Approval):
            view.show(step)
            return
        try:
            step.decide("" if step.refusal else view.approve(step))
        except KeyboardInterrupt:
            self.give_up()

    async def aask(self, question: str, on_step: OnStep, manner: Manner = Manner()) -> Answer:
        """Put a question to the agent, in the event loop of the session. Cancelling it gives it up.

        Raises ModelError, and SandboxError where it cannot go on.
        """
        self._on_step, self._manner = on_step, manner
        self._keep(f"## {harmless_markdown(one_line(question, LONGEST_HEADING))}")
        try:
            text = await self._agent.atask(question, reasoning_effort=manner.reasoning_effort)
        except asyncio.CancelledError:
            self._keep("*The question was given up.*")
            raise
        except SandboxError as exc:
            self._keep(f"*No answer came: {harmless_markdown(one_line(exc.happened, LONGEST_REASON))}*")
            raise
        assert self._agent.last_task is not None
        return Answer(text, self._agent.last_task, self._keep(harmless_markdown(text)))

    def _take(self, event: AgentEvent) -> None:
        """Take an event where cells are recorded too: what was said before one must stand above it."""
        if isinstance(event, ModelAnswered) and event.completion.tool_calls and event.completion.content.strip():
            self._keep(harmless_markdown(event.completion.content.strip()))
        self._on_step(event)

    async def _judge(self, source: str) -> Verdict:
        """Have a cell judged as the question at hand wants it: first by the machine, then by the user."""
        checks: list[SafetyCheck] = []
        language = self._session.language
        if self._manner.safety == "rules":
            if not language.is_python:
                return Verdict(False, f"The rules read Python alone, not {language.title}: nothing runs under them.")
            checks.append(rules_check)
        if self._manner.safety == "model":
            checks.append(model_check(self.chosen.model, written_in=language.title))
        if self._manner.approve:
            checks.append(ask_user(self._on_step))
        for check in checks:
            verdict = await check(source)
            if not verdict.safe:
                return verdict
        return Verdict(True)

    def _keep(self, markdown: str) -> TranscriptError | None:
        """Add to the transcript, and return why it could not be saved: an answer must not be lost for that."""
        session = self._session._session if isinstance(self._session, Session) else self._session
        session.transcript.add_markdown(markdown)
        try:
            session.transcript.autosave()
        except TranscriptError as exc:
            return exc
        return None


def _next(steps: queue.SimpleQueue[Step | None], view: View) -> Step | None:
    while True:
        try:
            return steps.get(timeout=TICK)
        except queue.Empty:
            view.tick()


def _unseen(step: Step) -> None:
    """Nobody looks on."""
