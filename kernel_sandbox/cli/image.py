"""`kernel-sandbox image`: build and list the images that sandboxes start from."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from kernel_sandbox.cli.cell_view import format_seconds
from kernel_sandbox.cli.console import Screen, make_table
from kernel_sandbox.cli.terminal import one_line
from kernel_sandbox.engines.docker_client import connect
from kernel_sandbox.images import build, image_names, list_images
from kernel_sandbox.policy import format_size
from kernel_sandbox.progress import Progress as Moment


@click.group()
def image() -> None:
    """Build and list the images that sandboxes start from.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image list
    """


@image.command("build", short_help="Build an image.")
@click.argument("name", type=click.Choice(image_names()))
@click.option(
    "--base",
    type=click.Choice(["auto", "python", "debian"]),
    default="auto",
    show_default=True,
    help="python: the official slim image, pulled. debian: a root made on this machine, without a registry. "
    "auto: the first that can be had.",
)
def build_command(name: str, base: Literal["auto", "python", "debian"]) -> int:
    """Build the image NAME, unless it is up to date.

    The packages are downloaded here, as the image's lock names them, and the build itself has no network. It takes
    a few minutes the first time.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image build python --base debian

    \b
    Exit status:
      0     the image is there
      2     it could not be built: stderr says why
      130   ended by Ctrl-C
    """
    screen = Screen()
    with Report(screen) as report:
        built = build(name, base=base, client=connect(), progress=report.take)
    state = "is up to date" if built.up_to_date else f"built in {format_seconds(built.seconds)}"
    details = f"  {format_size(built.size)}, base {built.base}"
    screen.say(("✓ ", "bold green"), (built.reference, "bold"), f" {state}", (details, "dim"))
    screen.say("  Try it: ", (f"kernel-sandbox repl --image {name}", "cyan"))
    return 0


@image.command("list", short_help="List the images and how they were built.")
def list_command() -> int:
    """List the images of this package and say which are built.

    \b
    Exit status:
      0     the list was shown
      2     no engine answers
    """
    table = make_table("NAME", "STATE", "SIZE", "BASE", "CREATED", "REFERENCE")
    for info in list_images(connect()):
        state = Text("built", "green") if info.built else Text("not built", "yellow")
        state = Text("out of date", "yellow") if info.stale else state
        size = format_size(info.size) if info.size is not None else ""
        created = f"{info.created.astimezone():%Y-%m-%d %H:%M}" if info.created else ""
        table.add_row(info.name, state, size, info.base or "", created, info.reference if info.built else "")
    Screen().table(table)
    return 0


class Report:
    """Shows the stages of a build: a line each that moves on a terminal, else a line for each stage and step."""

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
        self._bars.stop()

    def take(self, moment: Moment) -> None:
        """Show one moment of the work. The details come from pip and from build steps."""
        if not self._screen.live:
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
            self._bars.update(self._task, total=total, completed=total, detail=detail)

    def _say(self, moment: Moment) -> None:
        """Print each step of what is counted in steps, and each line of what is not counted; not every megabyte."""
        counted = moment.stage == "build" and moment.total
        step = moment.stage if moment.total else f"{moment.stage}: {moment.detail}"
        step = f"{moment.stage} {moment.done}/{moment.total}" if counted else step
        if step != self._said:
            self._said = step
            label = step if counted else moment.stage
            self._screen.say(f"{label}: {one_line(moment.detail, 100)}")
            self._screen.flush()
