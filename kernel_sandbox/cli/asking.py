"""An agent at work, on the screen: its text, its cells with their outputs, its answer, and what it took.

The agent runs in the reactor and its events come through a queue: the main thread alone draws.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rich.markdown import Markdown

from kernel_sandbox.agents import PythonExecAgent
from kernel_sandbox.agents.events import AgentEvent, CellFinished, CellOutput, TextDelta, ToolCallStarted, ToolResult
from kernel_sandbox.agents.markdown import safe_markdown
from kernel_sandbox.agents.messages import ToolCall
from kernel_sandbox.agents.safety import Verdict
from kernel_sandbox.cli.cell_view import CellView, format_seconds
from kernel_sandbox.cli.console import Screen
from kernel_sandbox.cli.interrupts import Interrupts
from kernel_sandbox.cli.pictures import PictureFolder
from kernel_sandbox.cli.run import show_code
from kernel_sandbox.cli.terminal import one_line, visible
from kernel_sandbox.outputs import Execution
from kernel_sandbox.reactor import portal
from kernel_sandbox.sync import Session


@dataclass
class Approval:
    """A cell that waits for the user's word."""

    source: str
    answer: Future[bool] = field(default_factory=Future)


class Steps:
    """The queue between the agent and the screen."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[AgentEvent | Approval | None] = queue.SimpleQueue()

    async def approve(self, source: str) -> Verdict:
        """Be a safety check that asks the user."""
        approval = Approval(source)
        self.queue.put(approval)
        if await asyncio.wrap_future(approval.answer):
            return Verdict(True)
        return Verdict(False, "The user declined this cell. Ask what they want instead.")


class Asking:
    """Puts questions to the agent and shows what it does."""

    def __init__(
        self, screen: Screen, session: Session, agent: PythonExecAgent, steps: Steps, pictures: PictureFolder
    ) -> None:
        self._screen = screen
        self._session = session
        self._agent = agent
        self._steps = steps
        self._pictures = pictures
        self._cells = 0
        self._view: CellView | None = None

    def ask(self, question: str) -> bool:
        """Have one question answered, and keep both in the transcript. False where no answer came.

        The first Ctrl-C interrupts the cell that runs; the second gives the question up.
        """
        self._keep(f"## {safe_markdown(one_line(question, 2000))}")
        future: Future[str] = portal().start_task_soon(self._agent.atask, question)
        future.add_done_callback(lambda _: self._steps.queue.put(None))
        with Interrupts(self._session.interrupt, lambda: _give_up(future)) as interrupts:
            while (step := self._steps.queue.get()) is not None:
                self._show(step, interrupts)
            self._close_view()
        if future.cancelled():
            self._screen.say(("■ ", "bold yellow"), "The question was given up; the session is kept.")
            return False
        answer = future.result()
        self._keep(safe_markdown(answer))
        self._show_answer(answer)
        return self._agent.last_task is not None and self._agent.last_task.ended == "answer"

    def _keep(self, markdown: str) -> None:
        transcript = self._session.transcript
        portal().call(transcript.add_markdown, markdown)
        portal().call(transcript.autosave)

    def _show(self, step: AgentEvent | Approval, interrupts: Interrupts) -> None:
        if isinstance(step, Approval):
            self._ask_approval(step, interrupts)
        elif isinstance(step, TextDelta):
            pass  # the whole text is shown when it is complete: half a table is no table
        elif isinstance(step, ToolCallStarted):
            self._start_call(step.call, interrupts)
        elif isinstance(step, CellOutput):
            if self._view is not None:
                self._view.take(step.output)
        elif isinstance(step, CellFinished):
            self._finish_cell(step)
        elif isinstance(step, ToolResult):
            self._close_view()

    def _start_call(self, call: ToolCall, interrupts: Interrupts) -> None:
        source = _source_of(call)
        if source is None:
            self._screen.say(("→ ", "cyan"), one_line(f"{call.name} {call.arguments}", self._screen.width - 4))
            return
        self._cells += 1
        show_code(self._screen, f"{self._cells}", source)
        self._pictures.start_cell(self._cells)
        title = f"{self._cells}  {one_line(source, min(60, max(self._screen.width - 24, 10)))}"
        self._view = CellView(self._screen, self._pictures, title, interrupts)
        self._view.__enter__()

    def _finish_cell(self, step: CellFinished) -> None:
        self._close_view()
        self._say_end(step.execution)
        for info in (*step.files.new, *step.files.changed):
            self._screen.say(("  ↓ ", "magenta"), one_line(f"/mnt/data/{info.name}", 200))

    def _say_end(self, execution: Execution) -> None:
        mark, style = ("✓", "green") if execution.status == "ok" else ("✗", "red")
        word = "" if execution.status == "ok" else f"  {execution.status}"
        took = format_seconds(execution.duration)
        self._screen.say((mark, f"bold {style}"), (f" cell {self._cells}  {took}{word}", style))

    def _close_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.__exit__(None, None, None)

    def _ask_approval(self, approval: Approval, interrupts: Interrupts) -> None:
        """Show the whole cell and wait for the user's word; anything but yes is no."""
        answer = ""
        with self._view.paused() if self._view is not None else contextlib.nullcontext():
            self._screen.lines(visible(approval.source).split("\n"))
            with contextlib.suppress(EOFError, KeyboardInterrupt), interrupts.passed_on():
                answer = input("Run this cell? [y/N] ")
        approval.answer.set_result(answer.strip().lower() in ("y", "yes"))

    def _show_answer(self, answer: str) -> None:
        text = visible(safe_markdown(answer))
        self._screen.say()
        if self._screen.live:
            self._screen.console.print(Markdown(text, hyperlinks=False))
        else:
            self._screen.say(text)
        summary = self._agent.last_task
        if summary is not None:
            tokens = summary.usage.prompt_tokens + summary.usage.completion_tokens
            used = f", {tokens:,} tokens" if tokens else ""
            turns = "1 turn" if summary.turns == 1 else f"{summary.turns} turns"
            self._screen.say((f"({turns}{used}, {format_seconds(summary.seconds)})", "dim"))


def _give_up(future: Future[str]) -> None:
    future.cancel()


def _source_of(call: ToolCall) -> str | None:
    """The cell of a tool call that runs one; None for any other, and for arguments that cannot be read."""
    if call.name != "execute_python_code":
        return None
    try:
        arguments: Any = json.loads(call.arguments)
    except ValueError:
        return None
    source = arguments.get("python_code") if isinstance(arguments, dict) else None
    return source if isinstance(source, str) else None
