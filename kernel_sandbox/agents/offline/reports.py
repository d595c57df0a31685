"""What a cell reports: lines `ANALYST {json}` in its result, which are hostile input, as checked values. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.errors import NoAnswer
from kernel_sandbox.text import clipping
from kernel_sandbox.text.characters import visible

_LINE = re.compile(r"^ANALYST (\{.*\})$", re.MULTILINE)
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Timeout|Died|Lost)\w*\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Report:
    """What one cell reported: facts by name, and rows."""

    facts: dict[str, Any]
    rows: list[list[Any]]

    def count(self, name: str) -> int:
        """Return a fact as a count; 0 where it is none."""
        value = _number(self.facts.get(name))
        return int(value) if math.isfinite(value) else 0

    @property
    def names(self) -> list[str]:
        """The rows that are one text."""
        return [row[0] for row in self.rows if len(row) == 1 and isinstance(row[0], str)]

    def table(self, texts: int, numbers: int) -> list[tuple[list[str], list[float]]]:
        """Return the rows that are so many texts and then so many numbers; what is no number is NaN."""
        fitting = [row for row in self.rows if len(row) == texts + numbers]
        return [([str(each) for each in row[:texts]], [_number(each) for each in row[texts:]]) for row in fitting]


def read_report(step: str, result: str) -> Report:
    """Read what a cell reported in a tool result. Raises NoAnswer where it reported nothing, as it has failed then."""
    found = [report for report in map(_parse, _LINE.findall(result)) if report.get("step") == step]
    if not found:
        errors = [match[0] for match in _ERROR.finditer(result)]
        why = errors[-1] if errors else result.strip().partition("\n")[0]
        raise NoAnswer(f"The analysis failed: {one_line(why, 300)}")
    return Report(found[0], [report["row"] for report in found if isinstance(report.get("row"), list)])


def _parse(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _number(value: Any) -> float:
    """Return a number as a float; NaN for what is none, or too large for one."""
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) > 10**300):
        return math.nan
    return float(value)


def one_line(text: str, limit: int = 120) -> str:
    """Write foreign text so that it stays on its line, and hides nothing."""
    return clipping.one_line(visible(text), limit)
