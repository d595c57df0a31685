"""Numbers and sentences of the answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kernel_sandbox.agents.offline.facts import Table
from kernel_sandbox.text import clipping
from kernel_sandbox.text.characters import visible

FIRST_LINE = (
    "(Offline analyst: rule-based, no language model. For o3-mini, set OPENAI_API_KEY and pass --model o3-mini.)"
)
ABILITIES = """What I can answer, about one table (CSV, TSV, Parquet, Excel, JSON):
- which factors contribute most to X (correlations, a regression, a random forest)
- how does X influence Y
- which groups are highest in X; which G have the most X; average X per G
- plot X by Y; histogram of X
- describe the data"""
NOT_A_CAUSE = "This is association in one table, not proof of cause: what is not in the table may be behind it."


def answer(*parts: str) -> str:
    """Put an answer together; its first line says who speaks."""
    return "\n\n".join([FIRST_LINE, *(part for part in parts if part)])


def with_caveat(said: str, ignored: list[str]) -> str:
    """Write at the head of an answer which phrases of the question it leaves out."""
    if not ignored:
        return said
    first, _, rest = said.partition("\n\n")
    phrases = ", ".join(f"“{one_line(phrase)}”" for phrase in ignored)
    return f"{first}\n\nNot taken into account: {phrases}. I know no filters; the numbers are for all rows.\n\n{rest}"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def numbered(lines: Iterable[str]) -> str:
    return "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))


def num(value: float) -> str:
    """Write a number with five digits that count; whole ones in full."""
    if math.isnan(value) or math.isinf(value):
        return "unknown"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.5g}"


def rows(count: float) -> str:
    return "1 row" if count == 1 else f"{num(count)} rows"


def signed(value: float) -> str:
    """Write a correlation or coefficient."""
    return f"{value:+.3f}" if math.isfinite(value) else "unknown"


def share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "unknown"


def strength(value: float) -> str:
    """Return in a word how close a correlation is (Cohen 1988, chapter 3, has these bounds)."""
    size = abs(value)
    if not math.isfinite(value):
        return "unknown"
    return "strong" if size >= 0.5 else "moderate" if size >= 0.3 else "weak" if size >= 0.1 else "next to none"


def one_line(text: str, limit: int = 120) -> str:
    """Write foreign text so that it stays on its line."""
    return clipping.one_line(visible(text), limit)


def column_list(table: Table) -> str:
    names = ", ".join(one_line(column.name, 60) for column in table.columns[:40])
    return names + (f" … ({table.all_columns} in all)" if table.all_columns > 40 else "")


def about_table(table: Table) -> str:
    """Return what was looked at, and what was not."""
    others, known = ", ".join(table.others), len(table.columns)
    return " ".join(
        [
            f"Source: {table.file}, {table.rows:,} rows, {table.all_columns} columns.",
            f"It is wide: I know its first {known} columns only." if known < table.all_columns else "",
            "Lines that did not fit the table were left out." if table.roughly else "",
            f"I looked at this file only; name another in the question to have it analysed ({others})."
            if others
            else "",
        ]
    ).strip()


def how_many(rows: int) -> str:
    """Warn of tables too small to learn from."""
    if rows >= 30:
        return ""
    return f"There are only {rows} rows: too few to tell a relation from chance. Take every number here as a hint."
