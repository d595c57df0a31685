"""One question on the screen: the model's turns, its tool calls, the cells with their outputs, and what Ctrl-C does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kernel_sandbox.agents.approval import QUESTION, Approval
from kernel_sandbox.agents.cell_tool import cell_of
from kernel_sandbox.agents.chat_messages import ToolCall
from kernel_sandbox.agents.events import (
    AgentEvent,
    CellFinished,
    CellOutput,
    ModelAnswered,
    TextDelta,
    ToolCallStarted,
    ToolResult,
)
from kernel_sandbox.agents.listings import NAMED, unsaved_lines
from kernel_sandbox.artifacts import PictureFolder
from kernel_sandbox.doors.cli.model_view import ModelView, show_prose
from kernel_sandbox.doors.cli.replay import show_code
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.outputs import Execution, fresh_kernel
from kernel_sandbox.terminal import confirming
from kernel_sandbox.terminal.cell_view import CellView
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.interrupts import Hints, Interrupts
from kernel_sandbox.terminal.safe import one_line
from kernel_sandbox.text.amounts import format_seconds

THINKING: Hints = ("Ctrl-C gives the question up", "giving the question up", "giving the question up")
RUNNING: Hints = (
    "Ctrl-C interrupts the cell",
    "interrupting the cell; Ctrl-C again gives the question up",
    "giving the question up",
)


class TaskView:
    """Shows the steps of one question: a `View`. Use it in `with`, in the main thread: it takes Ctrl-C."""

    def __init__(
        self,
        screen: Screen,
        numbers: Iterator[int],
        known: KnownKernel,
        *,
        interrupt: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        """Take the cells' numbers from `numbers`. Ctrl-C calls `interrupt` while a cell runs, else `give_up`.

        `known` is the kernel that the user knows.
        """
        self._screen = screen
        self._numbers = numbers
        self._known = known
        self._number = 0
        self._shown = ""
        self._interrupt = interrupt
        self._give_up = give_up
        self._interrupts = Interrupts(give_up)
        self._model = ModelView(screen, self._interrupts)
        self._cell: CellView | None = None

    def __enter__(self) -> TaskView:
        self._interrupts.__enter__()
        self._think()
        return self

    def __exit__(self, *exc: object) -> None:
        """Show what the model had written when it was stopped, and give Ctrl-C back."""
        try:
            self._close_cell()
            if unfinished := self._model.end().strip():
                show_prose(self._screen, unfinished)
        finally:
            self._interrupts.__exit__(None, None, None)

    def tick(self) -> None:
        """Nothing to do: the bottom of the screen draws itself."""

    def show(self, step: AgentEvent) -> None:
        """Show one step."""
        if isinstance(step, TextDelta):
            self._model.take(step.text)
        elif isinstance(step, ModelAnswered):
            self._end_turn(step)
        elif isinstance(step, ToolCallStarted):
            self._start_call(step.call)
        elif isinstance(step, CellOutput):
            if self._cell is not None:
                self._cell.take(step.output, step.saved)
        elif isinstance(step, CellFinished):
            self._finish_cell(step)
        elif isinstance(step, ToolResult):
            self._end_call(step)
            self._think()

    def _think(self) -> None:
        self._interrupts.change(self._give_up, self._give_up, THINKING)
        self._model.begin()

    def _end_turn(self, step: ModelAnswered) -> None:
        """Show the text before tool calls. Without any it is the answer, which whoever asked shows."""
        self._model.end()
        self._model.tokens = step.usage.prompt_tokens + step.usage.completion_tokens
        if step.completion.tool_calls and step.completion.content.strip():
            show_prose(self._screen, step.completion.content.strip())

    def _start_call(self, call: ToolCall) -> None:
        self._model.end()
        source = cell_of(call)
        if source is None:
            self._screen.say(("→ ", "cyan"), one_line(f"{call.name} {call.arguments}", self._screen.width - 4))
            return
        self._number = next(self._numbers)
        self._interrupts.change(self._interrupt, self._give_up, RUNNING)
        self._shown = source if show_code(self._screen, f"{self._number}", source) else ""
        title = f"{self._number}  {one_line(source, min(60, max(self._screen.width - 24, 10)))}"
        self._cell = CellView(self._screen, PictureFolder(None), title, self._interrupts)
        self._cell.__enter__()

    def _finish_cell(self, step: CellFinished) -> None:
        self._close_cell()
        if (because := self._known.news(step)) is not None:
            self._screen.say((fresh_kernel(because), "yellow"))
        self._say_end(step.execution)
        saved = {name: one.path for name, one in step.saved.items()}
        changed = (*step.files.new, *step.files.changed)
        for info in changed[:NAMED]:
            place = saved.get(info.name) or f"/mnt/data/{info.name}"
            self._screen.say(("  ↓ ", "magenta"), one_line(str(place), 200))
        if len(changed) > NAMED:
            self._screen.say(("  ↓ ", "magenta"), f"… and {len(changed) - NAMED} more")
        for line in unsaved_lines(step.saved):
            self._screen.say(("  ✗ ", "red"), line)

    def _end_call(self, step: ToolResult) -> None:
        """End a tool call; a cell that did not run says why."""
        refused = self._cell is not None
        self._close_cell()
        if refused:
            self._screen.say(("✗", "bold red"), (f" cell {self._number}  {one_line(step.content, 500)}", "red"))

    def _say_end(self, execution: Execution) -> None:
        mark, style = ("✓", "green") if execution.status == "ok" else ("✗", "red")
        word = "" if execution.status == "ok" else f"  {execution.status}"
        took = format_seconds(execution.duration)
        self._screen.say((mark, f"bold {style}"), (f" cell {self._number}  {took}{word}", style))

    def _close_cell(self) -> None:
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.__exit__(None, None, None)

    def approve(self, approval: Approval) -> str:
        """Show the whole cell and return the user's word."""
        with self._cell.paused() if self._cell is not None else contextlib.nullcontext():
            if approval.source != self._shown:
                self._screen.lines(approval.shown.split("\n"))
            try:
                with self._interrupts.passed_on():
                    return confirming.put(input, QUESTION)
            except EOFError:
                return ""
            except KeyboardInterrupt:
                self._screen.say()
                raise
