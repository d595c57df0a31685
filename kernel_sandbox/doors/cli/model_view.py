"""The language model at work, on the screen: that it thinks, its text as it comes, and the whole once it is complete.

What a model writes is no safer than what it has read: all of it goes through `plain`, and through `harmless_markdown`
where it is drawn.
"""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from kernel_sandbox.agents.approval import MARGIN, beside_margin
from kernel_sandbox.show.markdown import harmless_markdown
from kernel_sandbox.terminal.console import Screen, fold
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.terminal.safe import plain
from kernel_sandbox.terminal.status_line import Bottom, StatusLine

MOST_LINES = 12
"""Of a text that streams, as many of its last lines are shown; on a low terminal, fewer."""
TAIL = 4000
"""Characters that these lines are taken from."""
STYLE = "magenta"
"""Of the margin."""


class ModelView:
    """Shows one task's turns of the model, one after the other."""

    def __init__(self, screen: Screen, interrupts: Interrupts) -> None:
        self.tokens = 0
        """What the task has used so far, as far as it is known."""
        self._screen = screen
        self._text = ""
        self._status = StatusLine(interrupts)
        self._bottom = Bottom(screen, self)

    def begin(self) -> None:
        """Show that the model was asked."""
        self._text = ""
        self._status.restart()
        self._bottom.start()

    def take(self, text: str) -> None:
        """Take a piece of its text."""
        self._text += text

    def end(self) -> str:
        """Take the bottom away, and give the text that was on it."""
        self._bottom.stop()
        text, self._text = self._text, ""
        return text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bottom: the last lines of the text, as they are written, and the spinner."""
        width = options.max_width - 1 - len(MARGIN)
        tail = plain(self._text[-TAIL:]).rstrip().split("\n")
        lines = [piece for line in tail for piece in fold(Text(line.expandtabs(4)), width)]
        for line in lines[-min(MOST_LINES, max(console.height - 4, 1)) :] if self._text.strip() else ():
            yield Text.assemble((MARGIN, STYLE), line)
        note = f" · {self.tokens:,} tokens" if self.tokens else ""
        yield from self._status.render(console, "thinking", options.max_width - 1, note)


class Beside:
    """Draws something to the right of the margin."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrower = options.update(width=max(options.max_width - len(MARGIN) - 1, 1))
        for line in console.render_lines(self._renderable, narrower, pad=False):
            yield from (Segment(MARGIN, console.get_style(STYLE)), *line, Segment.line())


def show_prose(screen: Screen, text: str) -> None:
    """Print what a model says between its calls, beside a margin that nothing of ours has."""
    screen.say()
    if screen.live:
        screen.console.print(Beside(Markdown(harmless_markdown(plain(text)), hyperlinks=False)))
    else:
        width = screen.width if screen.console.file.isatty() else None
        screen.say(beside_margin(plain(text), width))


def show_markdown(screen: Screen, text: str) -> None:
    """Print a model's answer: drawn on a terminal, elsewhere as it is."""
    screen.say()
    if screen.live:
        screen.console.print(Markdown(harmless_markdown(plain(text)), hyperlinks=False))
    else:
        screen.say(plain(text))
