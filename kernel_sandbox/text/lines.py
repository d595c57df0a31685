"""Lines that were written over: a carriage return takes its line back, as progress bars mean it. Pure."""

from __future__ import annotations


def last_writing(line: str) -> str:
    """Return what stands in a line at its end."""
    return line.rstrip("\r").rpartition("\r")[2]


def last_states(text: str) -> str:
    """Show each line of a text as it stands at its end."""
    return "\n".join(map(last_writing, text.split("\n"))) if "\r" in text else text
