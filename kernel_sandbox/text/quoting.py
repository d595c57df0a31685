"""Anybody's text within a line of ours: in quotes, short, and with nothing hidden in it. Pure."""

from __future__ import annotations

from kernel_sandbox.text.characters import visible_source
from kernel_sandbox.text.clipping import shorten

LONGEST = 100
"""Characters of a text that are shown."""


def quoted(text: str, longest: int = LONGEST) -> str:
    """Return a text in quotes, on one line, as Python writes it; one that is too long ends with an ellipsis."""
    return visible_source(repr(shorten(text, longest)))
