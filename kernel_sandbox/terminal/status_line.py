"""The bottom of a terminal while something goes on: a spinner, what it is, for how long, and what Ctrl-C does.

`CellView` and `ModelView` draw with it. It goes when they are left; elsewhere than on a terminal there is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.terminal.safe import one_line

PATIENCE = 0.3
"""Seconds after which the line appears: what is quick would only make it flicker."""
HINT_AFTER = 4.0


class Bottom:
    """Draws something at the bottom of a terminal, again and again, and takes it away."""

    def __init__(self, screen: Screen, renderable: RenderableType) -> None:
        self._screen = screen
        self._renderable = renderable
        self._live: Live | None = None

    def start(self) -> None:
        if self._screen.live and self._live is None:
            # A new one each time: a Live that is started again goes up by the height that it had, over what was
            # printed since.
            self._live = Live(
                self._renderable,
                console=self._screen.console,
                refresh_per_second=10,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class StatusLine:
    """The line with the spinner."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._spinner = Spinner("dots", style="cyan")
        self.restart()

    def restart(self) -> None:
        """Begin to count the seconds."""
        self._started = time.monotonic()

    def render(self, console: Console, title: str, width: int, note: str = "") -> Iterator[Text]:
        """Give the line, once it is time for it; the title is shortened to fit."""
        elapsed = time.monotonic() - self._started
        if elapsed < PATIENCE:
            return
        spinner = self._spinner.render(console.get_time())
        clock = f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}{note}"
        hint = f"   {self._interrupts.hint}" if elapsed >= HINT_AFTER or self._interrupts.count else ""
        room = width - len(clock) - len(hint) - 6
        title = f" {one_line(title, room)} " if room > 3 else ""
        yield Text.assemble(spinner if isinstance(spinner, Text) else "", title, (f" {clock}{hint}", "dim"))
