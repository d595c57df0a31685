"""One cell on the screen: its code, its outputs as they come, and how it ended.

`run` and `repl` show with it. On a terminal a line at the bottom says what runs and for how long; elsewhere there is
plain text only. The events are hostile: all of their text goes through `Screen.lines`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

from kernel_sandbox.artifacts import PictureFolder, Saved
from kernel_sandbox.session.outputs import (
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    Event,
    ExecuteResult,
    Picture,
    StreamOutput,
    has_picture,
    picture_of,
    text_to_show,
)
from kernel_sandbox.terminal.console import INDENT, Decoder, Screen, fold
from kernel_sandbox.terminal.drawn_tables import fitting_table
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.terminal.safe import LineBuffer, one_line, plain
from kernel_sandbox.terminal.status_line import Bottom, StatusLine

STDERR_STYLE = "red"


class CellView:
    """Shows the events of one cell. Use it in `with`: the line at the bottom goes when it is left."""

    def __init__(self, screen: Screen, pictures: PictureFolder, title: str, interrupts: Interrupts) -> None:
        """Show `title` in the line at the bottom: the number and the first line of the cell."""
        self._screen = screen
        self._pictures = pictures
        self._title = title
        self._buffers = {"stdout": LineBuffer(), "stderr": LineBuffer()}
        self._decoders = {"stdout": Decoder(), "stderr": Decoder()}
        self._updates: dict[str, tuple[DisplayUpdate, Saved | None]] = {}
        self._status = StatusLine(interrupts)
        self._bottom = Bottom(screen, self)

    def __enter__(self) -> Self:
        self._status.restart()
        self._bottom.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            self._show_updates()
        finally:
            self._bottom.stop()
        self._screen.flush()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the line at the bottom away while the user is asked something."""
        self._flush()
        self._bottom.stop()
        yield
        self._bottom.start()

    def take(self, event: Event, saved: Saved | None = None) -> None:
        """Show one event; `saved` says where its picture is, where somebody else has kept it already."""
        if isinstance(event, StreamOutput):
            self._take_stream(event.name, event.text)
        elif isinstance(event, ClearOutput):
            self._buffers = {name: LineBuffer() for name in self._buffers}
            self._pictures.restart_cell()
        elif isinstance(event, DisplayUpdate):
            # Progress displays change many times: their last state is printed, the others pass at the bottom.
            self._updates[event.display_id] = event, saved
        elif isinstance(event, ErrorOutput):
            self._flush()
            self._show_error(event)
        else:
            self._flush()
            self._show_bundle(event, saved)
        if not self._screen.live:
            self._screen.flush()

    def _take_stream(self, name: str, text: str) -> None:
        for other in self._buffers:
            if other != name:
                self._print(other, self._buffers[other].flush())
        self._print(name, self._buffers[name].feed(text))

    def _print(self, name: str, lines: list[str]) -> None:
        self._screen.lines(lines, STDERR_STYLE if name == "stderr" else "", self._decoders[name])

    def _flush(self) -> None:
        for name, buffer in self._buffers.items():
            self._print(name, buffer.flush())

    def _show_updates(self) -> None:
        updates, self._updates = self._updates, {}
        for update, saved in updates.values():
            self._show_bundle(update, saved)

    def _show_error(self, error: ErrorOutput) -> None:
        text = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
        self._screen.lines(text.rstrip("\n").split("\n"), "red" if "\x1b" not in text else "")

    def _show_bundle(self, shown: DisplayData | ExecuteResult | DisplayUpdate, saved: Saved | None) -> None:
        data = shown.data
        picture = picture_of(data)
        table = fitting_table(data, shown.metadata, self._screen.console) if self._screen.live else None
        if picture is not None:
            self._show_picture(picture, saved or self._pictures.keep(picture, shown.display_id))
        elif table is not None:
            self._screen.console.print(Padding(table, (0, 0, 0, len(INDENT))))
        else:
            if has_picture(data):
                self._screen.lines(["[a picture that cannot be read]"], "yellow")
            text = text_to_show(data)
            self._screen.lines(text.split("\n") if text else ())

    def _show_picture(self, picture: Picture, saved: Saved | None) -> None:
        indent = INDENT if self._screen.live else ""
        if saved is None:
            how = "not kept: --save OUT.ipynb or --output-dir DIR keeps it"
            self._screen.say(indent, ("▣ ", "magenta"), f"figure: {picture}", (f"  ({how})", "dim"))
        elif saved.path is None:
            self._screen.say(f"{indent}▣ figure: {picture}, not saved: ", (saved.problem, "red"))
        else:
            self._screen.say(indent, ("▣ ", "magenta"), (str(saved.path), "bold"), (f"  {picture}", "dim"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bottom: the lines that have not ended, the last update, and the spinner."""
        width = options.max_width - len(INDENT) - 1
        unfinished = [buffer.pending for buffer in self._buffers.values() if buffer.pending]
        unfinished += [one_line(text_to_show(update.data), width) for update, _ in list(self._updates.values())[-1:]]
        for line in unfinished:
            yield Text(INDENT) + next(fold(Text(plain(line[:1000]).expandtabs(8)), width))
        yield from self._status.render(console, self._title, width)
