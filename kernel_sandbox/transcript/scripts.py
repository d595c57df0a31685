"""Percent scripts to cells and back: the plain-text notebooks of jupytext, Spyder and VS Code. Pure.

The doors call it for `run script.py`, and `exports` for a notebook as a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kernel_sandbox.transcript.cells import Cell, CellKind

# https://jupytext.readthedocs.io/en/latest/formats-scripts.html#the-percent-format
# A space must follow: "# %%time" is a magic in a comment.
_MARKER = re.compile(r"#[ \t]*%%(?:[ \t]+(.*))?")
_KIND = re.compile(r"\[(markdown|md|raw)\]")
_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")
_DOCSTRING = re.compile(r'[rRuU]?("""(?:(?!""").)*"""|\'\'\'(?:(?!\'\'\').)*\'\'\'|"[^"\n]*"|\'[^\'\n]*\')', re.DOTALL)


def split_percent_script(text: str) -> list[Cell]:
    """Split a script into cells at its lines `# %%`; without any, it is one cell.

    `# %% [markdown]` and `# %% [raw]` begin cells of their kind, whose lines are comments (or one string).
    Comments and a docstring before the first marker belong to the first cell, where that is code. jupytext's
    YAML header and blank cells are left out.
    """
    parts: list[tuple[CellKind, list[str]]] = [("code", [])]
    for line in _HEADER.sub("", text.replace("\r\n", "\n")).split("\n"):
        marker = _MARKER.fullmatch(line.rstrip())
        if marker:
            parts.append((_kind(marker[1] or ""), []))
        else:
            parts[-1][1].append(line)
    if len(parts) > 1 and parts[1][0] == "code" and _is_prose(parts[0][1]):
        (_, preamble), *parts = parts
        parts[0] = ("code", preamble + parts[0][1])
    cells = [Cell(kind, _source(kind, lines)) for kind, lines in parts]
    return [cell for cell in cells if cell.source.strip()]


def _kind(title: str) -> CellKind:
    match = _KIND.search(title)
    if match is None:
        return "code"
    return "raw" if match[1] == "raw" else "markdown"


def _is_prose(lines: list[str]) -> bool:
    """Whether there are only comments and blank lines, and perhaps a docstring."""
    code = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#")).strip()
    return not code or _DOCSTRING.fullmatch(code) is not None


def _source(kind: CellKind, lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    if kind == "code":
        return text.rstrip()
    string = _DOCSTRING.fullmatch(text.strip())
    if string and string[1][:3] in ('"""', "'''"):
        return string[1][3:-3].strip("\n")
    return "\n".join(re.sub(r"^# ?", "", line) for line in text.split("\n")).strip()


# Within a header, which is no part of any cell. Python looks for an encoding in the first two lines (PEP 263): without
# one there, a cell that begins with "coding: utf-7" could make its prose be read as code.
_OUR_HEADER = "# ---\n# coding: utf-8\n# ---\n"


def join_percent_script(cells: Iterable[Cell]) -> str:
    """Write cells as a script that `split_percent_script` splits into the same ones; blank cells are left out.

    Prose stands in comments, which none of its characters ends. Magics stay as they are. A line within a cell that
    would begin another one ("# %%") is written "# .%%", in prose "\\%%". Line ends become "\\n".
    """
    parts = [_written(cell) for cell in cells if cell.source.strip()]
    return "\n".join([_OUR_HEADER, *parts])


def _written(cell: Cell) -> str:
    if cell.kind == "code":
        lines = [_unmarked(line, ".%%") for line in re.split(r"\r\n|\r|\n", cell.source)]
        return "\n".join(["# %%", *lines]).rstrip() + "\n"
    # splitlines knows more line ends than Python's tokenizer; the NUL is what it does not accept at all.
    lines = [f"# {line}".rstrip() for line in cell.source.replace("\0", "").strip().splitlines()]
    return "\n".join([f"# %% [{cell.kind}]", *(_unmarked(line, "\\%%") for line in lines)]) + "\n"


def _unmarked(line: str, instead: str) -> str:
    return line.replace("%%", instead, 1) if _MARKER.fullmatch(line.rstrip()) else line
