"""Which of the two analyses a question asks for, and which column it names. Pure: two forms, and no other English."""

from __future__ import annotations

import re
from collections.abc import Sequence

ANALYSES = '"describe this table" and "what goes with COLUMN"'
NEEDS_MODEL = f"This question needs a language model. Without one there are two fixed analyses: {ANALYSES}."

DESCRIBE = ("describe this table", "describe")
_GOES_WITH = re.compile(r"what goes with\b(.+)", re.IGNORECASE)


def read_question(question: str) -> str | None:
    """Return the text that names the column, empty for "describe this table"; None for any other question."""
    line = " ".join(question.split())
    if line.strip(" .?!").lower() in DESCRIBE:
        return ""
    asked = _GOES_WITH.fullmatch(line)
    return asked[1].strip() if asked and asked[1].strip(" .?!") else None


def find_columns(text: str, names: Sequence[str]) -> list[str]:
    """Return the columns that a text names, each once, in upper case or lower.

    Where names differ in nothing else, the one that is written so is meant. A name that stands within a longer one
    ("rent" in "rent per room") does not count there.
    """
    spans: dict[tuple[int, int], list[str]] = {}
    for name in names:
        for match in _pattern(name).finditer(text):
            spans.setdefault(match.span(), []).append(name)
    found: set[str] = set()
    for (start, end), named in spans.items():
        if not any(first <= start and end <= last and (first, last) != (start, end) for first, last in spans):
            found.update([name for name in named if name == text[start:end]] or named)
    return [name for name in names if name in found]


def _pattern(name: str) -> re.Pattern[str]:
    """Match a name where it stands as a word; scripts without spaces between words have no such bounds."""
    words = r"\s+".join(re.escape(word) for word in name.split()) or r"(?!)"
    return re.compile(rf"(?<!\w){words}(?!\w)" if name.isascii() else words, re.IGNORECASE)
