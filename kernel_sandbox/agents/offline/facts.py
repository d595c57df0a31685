"""What a cell reports: lines `ANALYST {json}` in its result, which are hostile input, as checked values. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kernel_sandbox.text.characters import visible

Kind = Literal["number", "boolean", "date", "category", "text", "identifier", "empty"]
KINDS: tuple[Kind, ...] = ("number", "boolean", "date", "category", "text", "identifier", "empty")
VARIABLES = "variables"
"""The step that looks whether the variables of earlier cells are still there."""

_LINE = re.compile(r"^ANALYST (\{.*\})$", re.MULTILINE)
_ERROR = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Timeout|Died|Lost)\w*)\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell."""

    ok: bool
    """Whether it reported, which is the last thing that a cell does."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[list[Any], ...] = ()
    error: str = ""

    def number(self, name: str) -> float:
        """Return a number; NaN where there is none."""
        return _number(self.facts.get(name))

    def count(self, name: str) -> int:
        """Return a number as a count; 0 where there is none."""
        value = self.number(name)
        return int(value) if math.isfinite(value) else 0

    def text(self, name: str) -> str:
        """Return a text on one line."""
        return _text(self.facts.get(name, ""))

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        values = self.facts.get(name)
        return [_text(value) for value in values] if isinstance(values, list) else []

    def table(self, numbers: int) -> list[tuple[str, list[float]]]:
        """Return the rows that are a name and so many numbers; a missing number is NaN."""
        return [(_text(row[0]), [_number(value) for value in row[1:]]) for row in self.rows if len(row) == numbers + 1]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    kind: Kind
    missing: int
    unique: int


@dataclass(frozen=True, slots=True)
class Table:
    """The table that is loaded as `df`."""

    file: str
    names: tuple[str, ...]
    """The file names that it was looked for by."""
    rows: int
    columns: tuple[Column, ...]
    all_columns: int
    """How many there are; `columns` may be fewer."""
    others: tuple[str, ...] = ()
    roughly: bool = False
    """Whether lines that did not fit were left out."""

    def of_kind(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.columns if column.kind in kinds]


def read_outcome(step: str, result: str) -> Outcome:
    """Read what a step reported in a tool result."""
    reports = [report for report in _reports(result) if report.get("step") == step]
    if not reports:
        return Outcome(False, error=_error(result))
    facts: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for report in reports:
        facts |= {name: value for name, value in report.items() if name not in ("step", "rows")}
        lines = report.get("rows")
        rows += [row for row in lines if isinstance(row, list) and row] if isinstance(lines, list) else []
    return Outcome(True, facts, tuple(rows))


def read_table(loaded: Outcome, profiled: Outcome) -> Table:
    """Put a table's description together from what two cells reported."""
    columns = (
        Column(str(row[0]), row[1], int(_number(row[2], 0)), int(_number(row[3], 0)))
        for row in profiled.rows
        if len(row) == 4 and row[1] in KINDS
    )
    return Table(
        loaded.text("file"),
        tuple(loaded.texts("names")),
        loaded.count("table_rows"),
        tuple(columns),
        profiled.count("table_columns"),
        tuple(loaded.texts("others")),
        bool(loaded.count("roughly")),
    )


def tells_of_loss(outcome: Outcome) -> bool:
    """Return whether the step VARIABLES found that the table is not loaded any more."""
    return outcome.ok and not outcome.count("there")


def find_table(results: Iterable[str]) -> Table | None:
    """Return the table that the last results leave loaded; None where there is none, or where variables were lost."""
    table: Table | None = None
    loaded = Outcome(False)
    for result in results:
        now = read_outcome("load", result)
        profiled = read_outcome("profile", result)
        if now.ok:
            loaded, table = now, None
        elif profiled.ok and loaded.ok:
            table = read_table(loaded, profiled)
        elif tells_of_loss(read_outcome(VARIABLES, result)):
            loaded, table = Outcome(False), None
    return table


def _reports(result: str) -> Iterator[dict[str, Any]]:
    for match in _LINE.finditer(result):
        try:
            report = json.loads(match[1])
        except (ValueError, RecursionError):
            continue
        if isinstance(report, dict):
            yield report


def _number(value: Any, default: float = math.nan) -> float:
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > 10**300):
        return default
    return float(value) if math.isfinite(value) or math.isnan(default) else default


def _text(value: Any) -> str:
    return " ".join(visible(str(value)).split())[:200]


def _error(result: str) -> str:
    errors = [match[0] for match in _ERROR.finditer(result)]
    lines = [line for line in result.splitlines() if line.strip()]
    return _text(errors[-1] if errors else lines[0] if lines else "no result")
