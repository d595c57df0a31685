"""Text from a sandbox made safe to show in the user's terminal: without colours, on one line, as it comes. Pure.

`text.ansi` says what a terminal may be shown; `console` draws the colours.
"""

from __future__ import annotations

from kernel_sandbox.text import characters
from kernel_sandbox.text.ansi import SGR, visible_terminal_text
from kernel_sandbox.text.characters import pictured
from kernel_sandbox.text.clipping import shorten
from kernel_sandbox.text.lines import last_writing

MAX_PENDING = 16 * 1024
"""Characters of a line that does not end, before it is shown as if it had."""


def visible_source(text: str) -> str:
    """Make all of a program visible that does not print, colours too: they could hide what it does."""
    return characters.visible_source(text, pictured)


def plain(text: str) -> str:
    """Make all of a text visible that hides something or that a terminal would obey, and leave colours out."""
    return SGR.sub("", visible_terminal_text(text))


def one_line(text: str, width: int) -> str:
    """Give the first line of a text that is not blank, without colours, in at most `width` characters."""
    line = next((line.strip() for line in plain(text[:10_000]).split("\n") if line.strip()), "").replace("\t", " ")
    return shorten(line, width)


class LineBuffer:
    """Increments of a stream in, whole lines out. A carriage return takes its line back, as progress bars mean it."""

    def __init__(self) -> None:
        self._pending = ""

    @property
    def pending(self) -> str:
        """The line that has not ended yet."""
        return last_writing(self._pending)

    def feed(self, text: str) -> list[str]:
        """Take an increment and give the lines that it ends. They are not made visible yet."""
        *lines, pending = (self._pending + text).split("\n")
        # What was overwritten need not be kept; the last return is, for text that is still to come.
        self._pending = f"{last_writing(pending)}\r" if pending.endswith("\r") else last_writing(pending)
        if len(self._pending) > MAX_PENDING:
            lines.append(self._pending)
            self._pending = ""
        return [last_writing(line) for line in lines]

    def flush(self) -> list[str]:
        """Give the line that has not ended, if there is one, as if it had."""
        pending, self._pending = self.pending, ""
        return [pending] if pending else []
