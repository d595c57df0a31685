"""Text from a sandbox made safe to show in the user's terminal. Pure.

A terminal obeys what it is shown: control sequences (ECMA-48, and xterm's ctlseqs) move the cursor, set the title,
write links whose words lie, fill the clipboard. Only line ends, tabs and colours in which a text can be read pass;
every other character that hides something (`text.characters` has the table) becomes a picture of itself, so that a
reader sees that it was there.
"""

from __future__ import annotations

from kernel_sandbox.text import characters
from kernel_sandbox.text.characters import pictured
from kernel_sandbox.text.colours import SGR, Colours
from kernel_sandbox.text.lines import last_writing

MAX_PENDING = 16 * 1024
"""Characters of a line that does not end, before it is shown as if it had."""


def visible(text: str, colours: Colours | None = None) -> str:
    """Keep line ends, tabs and legible colours of a text, and make every other character that hides something visible.

    `colours` are those that the text before it has left behind.
    """
    text = text.replace("\r\n", "\n")
    if "\x1b" not in text:
        return characters.visible(text, pictured)
    colours = colours or Colours()
    # What SGR splits is a text, its next sequence's parameters, a text, and so on.
    parts = SGR.split(text)
    parts[::2] = [characters.visible(part, pictured) for part in parts[::2]]
    parts[1::2] = [_sequence(parameters, colours) for parameters in parts[1::2]]
    return "".join(parts)


def visible_source(text: str) -> str:
    """Make all of a program visible that does not print, colours too: they could hide what it does."""
    return characters.visible_source(text, pictured)


def plain(text: str) -> str:
    """Make a text visible as `visible` does, and leave colours out."""
    return SGR.sub("", visible(text))


def one_line(text: str, width: int) -> str:
    """Give the first line of a text that is not blank, without colours, in at most `width` characters."""
    line = next((line.strip() for line in plain(text[:10_000]).split("\n") if line.strip()), "").replace("\t", " ")
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"


def _sequence(parameters: str, colours: Colours) -> str:
    kept = colours.take(parameters)
    return f"{pictured(chr(0x1B))}[{parameters}m" if kept is None else kept


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
