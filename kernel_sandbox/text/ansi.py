"""Text of a sandbox without a terminal's commands: legible colours and line ends stay. Pure.

A notebook page ignores the commands; plain IPython and `jupyter console` would hand them to the terminal, which can be
told to write the clipboard, to change its title or to answer as if the user had typed. So they go, as cursor moves of
progress bars do; what hides something without being a command is made visible (`text.characters` has the table).
"""

from __future__ import annotations

import re

from kernel_sandbox.text.characters import pictured, visible
from kernel_sandbox.text.colours import SGR, Colours
from kernel_sandbox.text.lines import last_states

_COMMAND = re.compile(
    rf"(?P<colour>{SGR.pattern})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]{0,4096}\x1b\\|\x1b[ -/]*[0-~]?"
)
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]{0,200})?|\x08{1,4096})\Z")
_TAKEN_BACK = re.compile(r"\x08+\r")
"""How Keras' progress bars go to the beginning of a line."""


def clean_terminal_text(text: str, colours: Colours | None = None) -> str:
    """Return the text with newlines, tabs and legible colours; what else hides something is made visible.

    `colours` are those that the text before it has left behind.
    """
    colours = colours or Colours()
    made, place = [], 0
    for command in _COMMAND.finditer(text := text.replace("\r\n", "\n")):
        made.append(visible(text[place : command.start()], pictured))
        made.append((command["colour"] and colours.take(command[2])) or "")
        place = command.end()
    return "".join([*made, visible(text[place:], pictured)])


def strip_colours(text: str) -> str:
    """Return the text without any control but newlines and tabs; of what a line overwrote, the last state."""
    return SGR.sub("", clean_terminal_text(last_states(_TAKEN_BACK.sub("\r", text))))


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
