"""Text from a sandbox made safe to show in the user's terminal. Pure.

A terminal obeys what it is shown: control sequences (ECMA-48, and xterm's ctlseqs) move the cursor, set the title,
write links whose words lie, fill the clipboard. Only line ends, tabs and colours pass; every other control character
becomes a picture of itself, so that a reader sees that it was there.
"""

from __future__ import annotations

import re

MAX_PENDING = 16 * 1024
"""Characters of a line that does not end, before it is shown as if it had."""

# SGR, ECMA-48 section 8.3.117; then what controls a terminal (C0, DEL, C1) or the order and lines of a text (UAX #9).
_SGR = re.compile(r"\x1b\[([0-9;]{0,200})m")
_CONTROL = re.compile(
    r"\x1b\[[0-9;]{0,200}m|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
# Weight, slant, underline, reverse, and colours. Not blinking (5, 6) and not concealed text (8).
_PLAIN_STYLES = {0, 1, 2, 3, 4, 7, 9, 21, 22, 23, 24, 27, 29, 39, 49}
_COLOURS = {*range(30, 38), *range(40, 48), *range(90, 98), *range(100, 108)}


def visible(text: str) -> str:
    """Keep line ends, tabs and colours of a text, and make every other control character visible."""
    return _CONTROL.sub(_show, text.replace("\r\n", "\n"))


def visible_source(text: str) -> str:
    """Make a program visible as `visible` does, and its colours too: they could hide what it does."""
    return visible(text.replace("\x1b", "\u241b"))


def plain(text: str) -> str:
    """Make control characters visible as `visible` does, and leave colours out."""
    return _SGR.sub("", visible(text))


def one_line(text: str, width: int) -> str:
    """Give the first line of a text that is not blank, without colours, in at most `width` characters."""
    line = next((line.strip() for line in plain(text[:10_000]).split("\n") if line.strip()), "").replace("\t", " ")
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"


def _show(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) > 1:
        return found if _is_harmless(found[2:-1]) else f"{_picture(found[0])}{found[1:]}"
    return _picture(found)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the block Control Pictures
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _is_harmless(parameters: str) -> bool:
    """Whether the parameters of an SGR sequence set nothing but colours and plain styles."""
    numbers = [int(part or 0) for part in parameters.split(";")]
    while numbers:
        first = numbers.pop(0)
        if first in (38, 48):
            taken = {5: 1, 2: 3}.get(numbers[0] if numbers else 0, 0)
            values, numbers = numbers[1 : 1 + taken], numbers[1 + taken :]
            if not taken or len(values) < taken or max(values) > 255:
                return False
        elif first not in _PLAIN_STYLES and first not in _COLOURS:
            return False
    return True


class LineBuffer:
    """Increments of a stream in, whole lines out. A carriage return takes its line back, as progress bars mean it."""

    def __init__(self) -> None:
        self._pending = ""

    @property
    def pending(self) -> str:
        """The line that has not ended yet."""
        return _last_writing(self._pending)

    def feed(self, text: str) -> list[str]:
        """Take an increment and give the lines that it ends. They are not made visible yet."""
        *lines, pending = (self._pending + text).split("\n")
        # What was overwritten need not be kept; the last return is, for text that is still to come.
        self._pending = f"{_last_writing(pending)}\r" if pending.endswith("\r") else _last_writing(pending)
        if len(self._pending) > MAX_PENDING:
            lines.append(self._pending)
            self._pending = ""
        return [_last_writing(line) for line in lines]

    def flush(self) -> list[str]:
        """Give the line that has not ended, if there is one, as if it had."""
        pending, self._pending = self.pending, ""
        return [pending] if pending else []


def _last_writing(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
