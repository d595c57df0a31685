"""Percent scripts to cells and back: the plain-text notebooks of jupytext, Spyder and VS Code. Pure.

The doors call it for `run script.py`, and `exports` for a notebook as a script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from kernel_sandbox.session.transcript.cells import Cell, CellKind

# https://jupytext.readthedocs.io/en/latest/formats-scripts.html#the-percent-format
# A space must follow: "# %%time" is a magic in a comment.
_MARKER = re.compile(r"#[ \t]*%%(?:[ \t]+(.*))?")
_KIND = re.compile(r"\[(markdown|md|raw)\]")
_TAGS = re.compile(r"\btags=(\[[^\]]*\])")
_AS_IT_IS = "[as it is]"
"""In a marker: no string is looked for in this cell, which has one that does not end, or is no Python."""
# A line that would begin a cell has a dot before its percent signs (in prose a backslash), or one more than it had.
_HIDDEN = {
    "code": re.compile(r"(#[ \t]*\.*)(%%(?:[ \t].*|\s*))", re.DOTALL),
    "prose": re.compile(r"([ \t]*\\*)(%%(?:[ \t].*|\s*))", re.DOTALL),
}
_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")
_DOCSTRING = re.compile(r'[rRuU]?("""(?:(?!""").)*"""|\'\'\'(?:(?!\'\'\').)*\'\'\'|"[^"\n]*"|\'[^\'\n]*\')', re.DOTALL)


def split_percent_script(text: str, *, comment: str = "#", python: bool = True) -> list[Cell]:
    """Split a script into cells at its lines `# %%` outside of strings; without any, it is one cell.

    `# %% [markdown]` and `# %% [raw]` begin cells of their kind, whose lines are comments (or one string);
    `tags=["…"]` in such a line are the cell's. Comments and a docstring before the first marker belong to the first
    cell, where that is code. jupytext's YAML header and blank cells are left out. `comment` begins the comments of
    another language, whose strings nobody looks for unless it is `python`.
    """
    parts = [_Part("", looks=python)]
    for line in _HEADER.sub("", text.replace("\r\n", "\n")).split("\n"):
        if comment != "#" and line.startswith(comment):
            as_python = f"#{line.removeprefix(comment)}"
            line = as_python if _MARKER.fullmatch(as_python.rstrip()) or parts[-1].kind != "code" else line
        marker = None if parts[-1].string else _MARKER.fullmatch(line.rstrip())
        if marker:
            parts.append(_Part(marker[1] or "", looks=python))
        else:
            parts[-1].add(line)
    if len(parts) > 1 and parts[1].kind == "code" and _is_prose(parts[0].lines):
        first, *parts = parts
        parts[0].lines = first.lines + parts[0].lines
    cells = [part.cell() for part in parts]
    return [cell for cell in cells if cell.source.strip()]


class _Part:
    """A cell of a script, as its lines come."""

    def __init__(self, title: str, *, looks: bool) -> None:
        self.kind: CellKind = _kind(title)
        self.lines: list[str] = []
        self.tags = _tags(title)
        self.string = ""
        """The quotes of the string within which the next line begins, or nothing."""
        self.looks = looks and _AS_IT_IS not in title

    def add(self, line: str) -> None:
        if self.kind == "code" and not self.string:
            line = _shown(line, _HIDDEN["code"])
        self.lines.append(line)
        if self.looks:
            self.string = open_string(line, self.string)

    def cell(self) -> Cell:
        return Cell(self.kind, _source(self.kind, self.lines), {"tags": self.tags} if self.tags else {})


def _kind(title: str) -> CellKind:
    match = _KIND.search(title)
    if match is None:
        return "code"
    return "raw" if match[1] == "raw" else "markdown"


def _is_prose(lines: list[str]) -> bool:
    """Whether there are only comments and blank lines, and perhaps a docstring."""
    code = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")).strip()
    return not code or _DOCSTRING.fullmatch(code) is not None


def _tags(title: str) -> list[str]:
    try:
        tags = json.loads(match[1]) if (match := _TAGS.search(title)) else []
    except ValueError:
        return []
    return [tag for tag in tags if isinstance(tag, str) and tag]


def _source(kind: CellKind, lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    if kind == "code":
        return text.rstrip()
    string = _DOCSTRING.fullmatch(text.strip())
    if string and string[1][:3] in ('"""', "'''"):
        return string[1][3:-3].strip("\n")
    prose = (re.sub(r"^# ?", "", line) for line in text.split("\n"))
    return "\n".join(_shown(line, _HIDDEN["prose"]) for line in prose).strip()


def _shown(line: str, hidden: re.Pattern[str]) -> str:
    """Take back what `_hidden` did to a line."""
    match = hidden.fullmatch(line)
    return f"{match[1][:-1]}{match[2]}" if match and match[1].endswith((".", "\\")) else line


def _hidden(line: str, hidden: re.Pattern[str], sign: str) -> str:
    match = hidden.fullmatch(line)
    return f"{match[1]}{sign}{match[2]}" if match else line


# What a line of Python is made of, as far as strings go: the rest of one that is open, and all up to the next.
_ENDS = {quotes: re.compile(rf"(?:\\.|(?!{quotes})[^\\])*{quotes}") for quotes in ('"""', "'''", '"', "'")}
_BEGINS = re.compile(r"""[^#'"]*(?:#.*|(\"{3}|'{3}|["']))""")
_NO_PYTHON = re.compile(r"\s*(?:!(?!=)|%%?[A-Za-z])")


def open_string(line: str, quotes: str) -> str:
    """Return the quotes of the string that is open after a line, or nothing; `quotes` are those of one before it.

    Lines of shell commands and magics have none.
    """
    place = 0
    if not quotes and _NO_PYTHON.match(line):
        return ""
    while True:
        if quotes:
            end = _ENDS[quotes].match(line, place)
            if end is None:
                continued = len(quotes) == 3 or (len(line) - len(line.rstrip("\\"))) % 2
                return quotes if continued else ""
            place, quotes = end.end(), ""
        begin = _BEGINS.match(line, place)
        if begin is None or begin[1] is None:
            return ""
        place, quotes = begin.end(), begin[1]


# Within a header, which is no part of any cell. Python looks for an encoding in the first two lines (PEP 263): without
# one there, a cell that begins with "coding: utf-7" could make its prose be read as code.
_OUR_HEADER = "# ---\n# coding: utf-8\n# ---\n"


def join_percent_script(cells: Iterable[Cell]) -> str:
    """Write cells as a script that `split_percent_script` splits into the same ones; blank cells are left out.

    Prose stands in comments, which none of its characters ends. Magics stay as they are, and so does a line "# %%" in
    a string; where it is a comment, it is written "# .%%", and in prose "\\%%". Line ends become "\\n".
    """
    parts = [_written(cell) for cell in cells if not _is_blank(cell)]
    return "\n".join([_OUR_HEADER, *parts])


def _is_blank(cell: Cell) -> bool:
    return not (cell.source if cell.kind == "code" else cell.source.replace("\0", "")).strip()


def _written(cell: Cell) -> str:
    title = "" if cell.kind == "code" else f" [{cell.kind}]"
    tags = cell.metadata.get("tags")
    title += f" tags={json.dumps(tags)}" if tags and _tags(f"tags={json.dumps(tags)}") == tags else ""
    if cell.kind == "code":
        title, lines = _code(title, re.sub(r"\r\n?", "\n", cell.source).strip("\n").rstrip().split("\n"))
    else:
        # splitlines knows more line ends than Python's tokenizer; the NUL is what it does not accept at all.
        lines = cell.source.replace("\0", "").strip().splitlines()
        lines = [f"# {line}" if line else "#" for line in (_hidden(line, _HIDDEN["prose"], "\\") for line in lines)]
    return "\n".join([f"# %%{title}", *lines]) + "\n"


def _code(title: str, lines: list[str]) -> tuple[str, list[str]]:
    """Hide the lines of code that would begin a cell, those in strings apart; and say so where strings are not told."""
    written, string = [], ""
    for line in lines:
        written.append(line if string else _hidden(line, _HIDDEN["code"], "."))
        string = open_string(line, string)
    if not string:
        return title, written
    return f"{title} {_AS_IT_IS}", [_hidden(line, _HIDDEN["code"], ".") for line in lines]
