"""One measured thing: its figures for each side, their ratios, their spread, and whether the goals are met. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.sides import LOCAL, SIDES

MB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """The figures of a thing; `add` takes one of each side in turn, so that the nth of all are of one round."""

    name: str
    unit: str = "ms"
    scale: float = 1000
    """Multiplies what is added, to make it the unit."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """The goal: the largest ratio to the bare local kernel, by engine."""
    most: Mapping[str, float] = field(default_factory=dict)
    """The goal: the largest figure, by engine, in the unit."""
    note: str = ""
    found: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})

    def add(self, side: str, value: float) -> None:
        self.found[side].append(value * self.scale)

    def median(self, side: str) -> float | None:
        return statistics.median(self.found[side]) if self.found[side] else None

    def beside_local(self, side: str) -> list[float]:
        """Return the ratios to the reference, a round each."""
        return [value / local for value, local in zip(self.found[side], self.found[LOCAL], strict=False) if local]

    def ratio(self, side: str) -> float | None:
        """Return the median of the rounds' ratios."""
        found = self.beside_local(side)
        return statistics.median(found) if found else None

    def quartiles(self, side: str) -> tuple[float, float] | None:
        """Return between what the middle half lies: of the ratios where there is a reference, else of the figures."""
        found = self.beside_local(side) or self.found[side]
        if len(found) < 2:
            return None
        first, _, third = statistics.quantiles(found, n=4, method="inclusive")
        return first, third

    def misses(self) -> list[str]:
        """Name the engines that miss a goal."""
        return [
            side
            for side in NAMES
            for reached, goal in ((self.ratio(side), self.ratios.get(side)), (self.median(side), self.most.get(side)))
            if reached is not None and goal is not None and reached > goal
        ]

    def goals(self) -> str:
        told = [f"{side} ≤ {goal:g}" for side, goal in self.ratios.items()]
        return ", ".join(told + [f"{side} ≤ {goal:g} {self.unit}".rstrip() for side, goal in self.most.items()])

    def verdict(self) -> str:
        if not self.goals():
            return ""
        missed = self.misses()
        return f"MISSED by {', '.join(missed)} (goal {self.goals()})" if missed else f"met (goal {self.goals()})"

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "medians": {side: self.median(side) for side in SIDES},
            "ratios": {side: self.ratio(side) for side in NAMES},
            "quartiles": {side: self.quartiles(side) for side in SIDES},
            "goals": self.goals(),
            "missed": self.misses(),
            "figures": self.found,
        }


def rowed(told: Mapping[str, object], like: Row) -> Row:
    """Return a row with the figures that `as_json` wrote of it, and the goals of `like`."""
    assert told["name"] == like.name
    figures = told["figures"]
    assert isinstance(figures, dict)
    return Row(**{**vars(like), "found": figures})


def table(rows: Sequence[Row], title: str) -> str:
    """Return all rows as text: medians, ratios, and between what the middle half of the ratios lies."""
    columns = "".join(f"{side:>11}" for side in SIDES)
    heads = "".join(f"{f'{side}, ratio':>26}" for side in NAMES)
    lines = [f"{title:<34}{columns} {'':<5}{heads}", *map(_line, rows), ""]
    return "\n".join(lines + [f"{row.name}: {row.note}" for row in rows if row.note])


def _line(row: Row) -> str:
    figures = "".join(f"{_number(row.median(side)):>11}" for side in SIDES)
    ratios = "".join(f"{_ratio(row, side):>26}" for side in NAMES)
    return f"{row.name:<34}{figures} {row.unit:<5}{ratios}   {row.verdict()}".rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _ratio(row: Row, side: str) -> str:
    ratio, between = row.ratio(side), row.quartiles(side)
    spread = f"({between[0]:,.2f} to {between[1]:,.2f})" if between else ""
    return f"{'' if ratio is None else f'{ratio:.2f}'} {spread}"
