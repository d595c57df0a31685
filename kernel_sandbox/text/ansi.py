"""Text with a terminal's commands in it: their one grammar, and what is left of such a text. Pure.

Whoever hands a sandbox's text to a terminal hands over the terminal: commands write the clipboard, change the title, or
answer as if the user had typed (ECMA-48, and xterm's ctlseqs). So none of them passes. Three readings:

- `clean_terminal_text`, for a notebook: commands go, as cursor moves of progress bars do, and legible colours stay.
- `visible_terminal_text`, for a terminal: commands are seen as text, and legible colours stay.
- `plain_text`, for whoever reads no colours: a page, a model, one line of a listing.

In all three, what hides something without being a command is made visible (`text.characters` has the table).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kernel_sandbox.text.characters import Spelling, pictured, visible
from kernel_sandbox.text.colours import Colours
from kernel_sandbox.text.lines import last_states

SGR = re.compile(r"\x1b\[([0-9;:]{0,200})m")
"""Select Graphic Rendition (ECMA-48, section 8.3.117): the one command with an effect that stays."""
# Control sequences (section 5.4), operating system commands, other control strings (5.6), and other escapes (ECMA-35).
# No string has an escape in it, so that a text takes one pass, however many strings in it do not end.
_COMMAND = re.compile(
    rf"(?P<colour>{SGR.pattern})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*+\x1b\\|\x1b[ -/]*[0-~]?"
)
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]{0,200})?|\x08{1,4096})\Z")
_TAKEN_BACK = re.compile(r"\x08+\r")
"""How Keras' progress bars go to the beginning of a line."""


def remove_ansi(text: str) -> str:
    """Take a terminal's commands out of a text, colours too; other control characters stay."""
    return _COMMAND.sub("", text) if "\x1b" in text else text


def plain_text(text: str, spelling: Spelling = pictured) -> str:
    """Return a text without any control but newlines and tabs; of what a line overwrote, the last state."""
    return visible(remove_ansi(last_states(_TAKEN_BACK.sub("\r", text))), spelling)


def clean_terminal_text(text: str, colours: Colours | None = None) -> str:
    """Return the text with newlines, tabs and legible colours; what else hides something is made visible.

    `colours` are those that the text before it has left behind.
    """
    return _rewritten(text, colours or Colours(), lambda command: "")


def visible_terminal_text(text: str, colours: Colours | None = None) -> str:
    """Return the text as `clean_terminal_text` does, with its commands as text, so that a reader sees them."""
    return _rewritten(text, colours or Colours(), lambda command: visible(command, pictured))


def _rewritten(text: str, colours: Colours, told: Callable[[str], str]) -> str:
    made, place = [], 0
    for command in _COMMAND.finditer(text := text.replace("\r\n", "\n")):
        made.append(visible(text[place : command.start()], pictured))
        made.append((command["colour"] and colours.take(command[2])) or told(command[0]))
        place = command.end()
    return "".join([*made, visible(text[place:], pictured)])


class StreamCleaner:
    """Cleans a stream that comes in pieces: a colour that is cut in two stays one. Carriage returns stay, too."""

    def __init__(self) -> None:
        self._colours = Colours()
        self._rest = ""

    def feed(self, text: str) -> str:
        """Return what can be shown by now."""
        text = self._rest + text
        match = _UNFINISHED.search(text)
        self._rest = match[0] if match else ""
        lines = _TAKEN_BACK.sub("\r", text[: len(text) - len(self._rest)]).split("\r")
        return "\r".join(clean_terminal_text(line, self._colours) for line in lines)
