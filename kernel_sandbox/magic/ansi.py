"""Text of a sandbox without a terminal's commands: colours and line ends stay. Pure.

A notebook page ignores the others; plain IPython and `jupyter console` would hand them to the terminal, which can be
told to write the clipboard, to change its title or to answer as if the user had typed.
"""

from __future__ import annotations

import re

_ALLOWED = r"\x1b\[[0-9;:]{0,40}m"
"""Select Graphic Rendition (ECMA-48, section 8.3.117)."""
_COMMAND = re.compile(
    rf"(?P<keep>{_ALLOWED})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]{0,4096}\x1b\\|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]"
)
_COLOUR = re.compile(_ALLOWED)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,40})?\Z")


def clean_terminal_text(text: str) -> str:
    """Return the text with newlines, tabs, carriage returns, backspaces and colours, but no other control."""
    return _COMMAND.sub(lambda match: match["keep"] or "", text)


def strip_colours(text: str) -> str:
    """Return the text without any control but newlines and tabs; of what a line overwrote, the last state."""
    plain = _COLOUR.sub("", clean_terminal_text(text)).replace("\r\n", "\n").replace("\b", "")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))


class StreamCleaner:
    """Cleans a stream that comes in pieces: a colour that is cut in two stays one."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        """Return what can be shown by now."""
        text = self._rest + text
        match = _UNFINISHED.search(text)
        self._rest = match[0] if match else ""
        return clean_terminal_text(text[: len(text) - len(self._rest)])
