"""The answers: what the cells reported, in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kernel_sandbox.agents.offline.reports import Report, one_line
from kernel_sandbox.errors import NoAnswer

NEEDED = "Only numbers that vary, and groups of five rows or more, can be compared."


def describe(loaded: Report, described: Report) -> str:
    """Answer "describe this table"."""
    lines = [f"- {_of_column(texts, numbers)}" for texts, numbers in described.table(3, 7)]
    if (more := loaded.count("width") - len(lines)) > 0:
        lines.append(f"- and {_count(more, 'more column')}")
    return _answer("describe this table", _source(loaded), "\n".join(lines))


def _of_column(texts: Sequence[str], numbers: Sequence[float]) -> str:
    name, kind, common = (one_line(text, 100) for text in texts)
    missing, different, low, median, high, mean, deviation = map(_number, numbers)
    what = "" if kind == "empty" else f", {different} different, most often {common}"
    if kind == "number":
        what = f", {low} to {high}, median {median}, mean {mean}, standard deviation {deviation}"
    return f"{name}: {kind}{what}{f', {missing} missing' if missing != '0' else ''}"


def goes_with(column: str, loaded: Report, found: Report) -> str:
    """Answer "what goes with COLUMN". Raises NoAnswer where the table cannot tell."""
    name, table = one_line(column), found.table(2, 4)
    left_out = ", ".join(one_line(each, 40) for each in found.names)
    if not table:
        raise NoAnswer(f"Nothing in {_file(loaded)} can be compared with {name}. {NEEDED}")
    few = f"There are only {found.count('used')} rows: too few to tell a relation from chance."
    return _answer(
        "what goes with COLUMN",
        f"What goes with {name}, the closest first ({len(table)} of {found.count('compared')} comparable columns). "
        "Each column is taken alone; 0 is not at all, 1 or -1 is wholly.",
        "\n".join(f"{place}. {_of_pair(*row)}" for place, row in enumerate(table, 1)),
        "" if abs(table[0][1][0]) >= 0.1 else f"Hardly anything in this table goes with {name}.",
        few if found.count("used") < 30 else "",
        f"Not compared ({found.count('left_out')}): {left_out}. {NEEDED}" if left_out else "",
        "This is association in one table, not proof of cause: what is not in the table may be behind it.",
        _source(loaded),
    )


def _of_pair(texts: Sequence[str], numbers: Sequence[float]) -> str:
    name, measure = (one_line(text, 100) for text in texts)
    closeness, spearman, groups, rows = numbers
    if measure == "Pearson":
        return f"{name}: Pearson {closeness:+.3f}, Spearman {spearman:+.3f} ({_count(rows, 'row')})"
    return f"{name}: {measure} {closeness:.3f} ({_count(groups, 'group')}, {_count(rows, 'row')})"


def unnamed(wanted: str, found: Sequence[str], names: Sequence[str]) -> str:
    """Write that a question names no column of the table, or several."""
    if found:
        listed = ", ".join(one_line(name, 60) for name in found)
        return f"The question names more than one column: {listed}. Ask about one of them."
    listed = ", ".join(one_line(name, 60) for name in names[:40])
    return f"“{one_line(wanted)}” names no column of the table, which has: {listed}{' …' if len(names) > 40 else ''}"


def _answer(analysis: str, *parts: str) -> str:
    """Put an answer together; its first line says what it is, and what it is not."""
    what = f"A fixed analysis, “{analysis}”: no language model has read the question or the data."
    first = f"({what} Other questions need one: set OPENAI_API_KEY, or OPENAI_BASE_URL.)"
    return "\n\n".join([first, *(part for part in parts if part)])


def _source(loaded: Report) -> str:
    others = loaded.count("others")
    sheet = ", its first sheet" if _file(loaded).lower().endswith((".xlsx", ".xlsm")) else ""
    unseen = f" I have not looked at {_count(others, 'other file')}." if others else ""
    shape = f"{_count(loaded.count('length'), 'row')}, {_count(loaded.count('width'), 'column')}"
    return f"Source: {_file(loaded)}{sheet}, {shape}.{unseen}"


def _file(loaded: Report) -> str:
    return one_line(str(loaded.facts.get("file")))


def _number(value: float) -> str:
    """Write a number with five digits that count; whole ones in full."""
    if not math.isfinite(value):
        return "unknown"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.5g}"


def _count(number: float, what: str) -> str:
    return f"{_number(number)} {what}{'' if number == 1 else 's'}"
