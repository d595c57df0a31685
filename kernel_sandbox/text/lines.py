"""Where lines end, and what a carriage return leaves of one: it takes its line back, as progress bars mean it. Pure."""

from __future__ import annotations

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Where str.splitlines ends a line, with which IPython cuts cells and nbformat splits texts."""


def last_writing(line: str) -> str:
    """Return what stands in a line at its end."""
    return line.rstrip("\r").rpartition("\r")[2]


def last_states(text: str) -> str:
    """Show each line of a text as it stands at its end."""
    return "\n".join(map(last_writing, text.split("\n"))) if "\r" in text else text
