"""A long piece of work on the screen while it runs: builds, downloads, installations."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from kernel_sandbox.setup.progress import Progress as Moment
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.safe import one_line


class ProgressView:
    """Shows the stages of a long piece of work: one line each on a terminal, else a line per step."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._bars = Progress(
            SpinnerColumn(finished_text=Text("✓", "green"), style="cyan"),
            TextColumn("{task.fields[stage]}", style="bold"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[count]}", style="cyan", justify="right"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=screen.console,
        )
        self._task: TaskID | None = None
        self._stage, self._said = "", ""

    def __enter__(self) -> Self:
        if self._screen.live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish_stage()
        if self._screen.live:
            self._bars.stop()

    def take(self, moment: Moment) -> None:
        """Show one moment of the work. The details come from pip and from build steps."""
        if not self._screen.live:
            if moment.done is None or moment.total is not None:
                self._say(moment)
            return
        if moment.stage != self._stage or self._task is None:
            self._finish_stage()
            self._stage = moment.stage
            self._task = self._bars.add_task("", total=moment.total, stage=moment.stage, count="", detail="")
        detail = one_line(moment.detail, max(self._screen.width - 60, 20))
        count = f"{moment.done}/{moment.total}" if moment.total and moment.total < 10_000 else ""
        self._bars.update(self._task, completed=moment.done or 0, total=moment.total, count=count, detail=detail)

    def _finish_stage(self) -> None:
        """Mark a stage as done; the last word of one that was not counted may be why another way is taken."""
        if self._task is not None:
            task = self._bars.tasks[self._task]
            total = task.total or 1
            detail = "" if task.total else task.fields["detail"]
            count = f"{task.total:.0f}/{task.total:.0f}" if task.total and task.fields["count"] else ""
            self._bars.update(self._task, total=total, completed=total, detail=detail, count=count)

    def _say(self, moment: Moment) -> None:
        """Print each step of what is counted in steps, and each line of what is not counted; not every megabyte."""
        counted = moment.stage == "build" and moment.total
        step = moment.stage if moment.total else f"{moment.stage}: {moment.detail}"
        step = f"{moment.stage} {moment.done}/{moment.total}" if counted else step
        if step != self._said:
            self._said = step
            label = step if counted else moment.stage
            self._screen.say(f"{label}{': ' if moment.detail else ''}{one_line(moment.detail, 100)}")
            self._screen.flush()
