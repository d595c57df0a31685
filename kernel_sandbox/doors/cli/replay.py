"""A script or a notebook, replayed in a fresh sandbox while the user looks on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.syntax import Syntax
from rich.text import Text

from kernel_sandbox.artifacts import PictureFolder
from kernel_sandbox.doors.cli.app import FAILED, INTERRUPTED
from kernel_sandbox.doors.cli.keeping import say_where
from kernel_sandbox.doors.cli.source_files import SKIPPED, is_run, may_fail
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.standing import BegunSandbox
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.outputs import Execution, fresh_kernel
from kernel_sandbox.session.sync import Session, session_in
from kernel_sandbox.session.transcript import Cell, Transcript
from kernel_sandbox.terminal.cell_view import CellView
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.terminal.safe import one_line, visible_source
from kernel_sandbox.terminal.session_opening import opened
from kernel_sandbox.text.amounts import format_seconds

CODE_LINES = 8
"""Lines of a cell that are shown; the whole of it is in the transcript."""


def replay(
    begun: BegunSandbox,
    notebook: Transcript,
    figures: Path | None,
    data: Sequence[Path],
    *,
    misplaced: bool,
    keep_going: bool,
) -> int:
    """Run a notebook's cells in the sandbox, and return the exit status. `misplaced` parameters have no cell there."""
    screen, save = Screen(), notebook.path
    if misplaced:
        screen.say(('No cell is tagged "parameters": they are set before the first cell.', "yellow"))
    running = None
    try:
        session = session_in(begun, transcript=notebook)
        with opened(screen, session, begun, data):
            running = Replay(screen, session, PictureFolder(figures), keep_going)
            running.run()
            return running.conclude(save, data)
    except KeyboardInterrupt:
        screen.say(("■ ", "bold yellow"), "Ended. The sandbox is gone.")
        if running is not None and save is not None:
            say_where(screen, save, data)
        return INTERRUPTED


@dataclass
class Replay:
    """Runs cells one after the other and counts how they end."""

    screen: Screen
    session: Session
    pictures: PictureFolder
    keep_going: bool
    ran: int = 0
    total: int = 0
    skipped: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Number and exception of each cell that failed."""
    interrupted: bool = False
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.known = KnownKernel(self.session.generation)

    def run(self) -> None:
        """Run the cells that the session's transcript begins with, each in its place."""
        cells = self.session.transcript.cells
        self.total = sum(map(is_run, cells))
        self.skipped = sum(cell.is_tagged(SKIPPED) for cell in cells if cell.kind == "code")
        self.session.transcript.autosave()  # with all cells: whatever ends this process, the notebook is whole
        with Interrupts(self.session.interrupt) as interrupts:
            for position, cell in enumerate(cells):
                if not is_run(cell):
                    self._say_heading(cell)
                    continue
                portal().call(self.session.transcript.fill_next, position)
                execution = self._run_cell(cell, interrupts)
                if interrupts.count > 0 or self._has_failed(cell, execution):
                    break
            self.interrupted = interrupts.count > 0
        self.session.transcript.autosave()

    def _say_heading(self, cell: Cell) -> None:
        heading = one_line(cell.source, self.screen.width) if cell.kind == "markdown" else ""
        if heading.startswith("#") and self.screen.live:
            self.screen.say()
            self.screen.say((heading.lstrip("# "), "bold"))

    def _run_cell(self, cell: Cell, interrupts: Interrupts) -> Execution:
        self.ran += 1
        number = f"{self.ran}/{self.total}"
        show_code(self.screen, number, cell.source)
        self.pictures.start_cell(self.ran)
        first_line = one_line(cell.source, min(60, max(self.screen.width - 24, 10)))
        stream = self.session.stream(cell.source, metadata=cell.metadata)
        with CellView(self.screen, self.pictures, f"{number}  {first_line}", interrupts) as view:
            for event in stream:
                view.take(event)
        execution = stream.result()
        if (because := self.known.news(stream)) is not None:
            self.screen.say((fresh_kernel(because), "yellow"))
        self._say_end(execution, number, first_line, expected=may_fail(cell))
        return execution

    def _say_end(self, execution: Execution, number: str, first_line: str, *, expected: bool) -> None:
        mark, style, word = ("✓", "green", "") if execution.status == "ok" else ("✗", "red", execution.status)
        if expected and execution.status == "error":
            mark, style, word = "✓", "green", "failed, as it is tagged to"
        duration = format_seconds(execution.duration)
        if self.screen.live:
            tail = f"  {duration}{'  ' + word if word else ''}"
            self.screen.say((mark, f"bold {style}"), (f" {number}  {first_line}", "dim"), (tail, style))
        else:
            self.screen.say(f"[{number}] {mark} {word or 'ok'}, {duration}")

    def _has_failed(self, cell: Cell, execution: Execution) -> bool:
        """Count a failure, and say whether it ends the run. A dead kernel does in any case."""
        if execution.status == "ok" or (execution.status == "error" and may_fail(cell)):
            return False
        error = execution.error
        self.failures.append((self.ran, error.ename if error else execution.status))
        return execution.status == "dead" or not self.keep_going

    def conclude(self, save: Path | None, data: Sequence[Path]) -> int:
        """Show how the run ended and what can be done next, and return the exit status."""
        took = format_seconds(time.monotonic() - self.started)
        left = self.total - self.ran
        rest = f"; {left} did not run" if left else ""
        self.screen.say()
        if self.interrupted:
            self.screen.say(
                ("■ ", "bold yellow"), f"Interrupted in cell {self.ran} of {self.total}, after {took}{rest}."
            )
        elif self.failures:
            number, name = self.failures[0]
            what = f"Cell {number} of {self.total} failed ({one_line(name, 60)})"
            more = f", and {len(self.failures) - 1} more" if len(self.failures) > 1 else ""
            self.screen.say(("✗ ", "bold red"), f"{what}{more}, after {took}{rest}.")
        else:
            cells = "cell" if self.total == 1 else "cells"
            skipped = f"; {self.skipped} skipped, as tagged" if self.skipped else ""
            self.screen.say(("✓ ", "bold green"), f"{self.total} {cells} in {took}{skipped}.")
        if save is not None:
            say_where(self.screen, save, data)
        else:
            self.screen.say(("No notebook was kept: --save OUT.ipynb makes one.", "dim"))
        return INTERRUPTED if self.interrupted else FAILED if self.failures else 0


def show_code(screen: Screen, number: str, source: str) -> bool:
    """Show the first lines of a cell: highlighted on a terminal, else only the first. True where all of it is shown."""
    if not screen.live:
        screen.say(f"[{number}] {one_line(source, 100)}")
        return False
    lines = visible_source(source).strip("\n").split("\n")
    shown = lines if len(lines) <= CODE_LINES + 1 else lines[:CODE_LINES]
    code = Syntax("", "python", theme="ansi_dark", background_color="default").highlight("\n".join(shown))
    screen.say()
    room, cut = max(screen.width - len(number) - 3, 10), len(shown) < len(lines)
    for place, line in enumerate(code.split("\n")[: len(shown)]):
        head = number if place == 0 else " " * len(number)
        cut = cut or line.cell_len > room
        line.truncate(room, overflow="ellipsis")
        screen.console.print(Text.assemble((head, "bold cyan"), (" │ ", "dim"), line))
    if len(shown) < len(lines):
        screen.say((f"{' ' * len(number)} │ … {len(lines) - CODE_LINES} more lines", "dim"))
    return not cut
