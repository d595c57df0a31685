"""Whether what was measured over time grows: a line fitted after a warm-up, and its verdict. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, float]
"""Measures by name, and when they were taken: `seconds`."""

WARM_UP = 1 / 3
"""Of the run: caches and pools fill."""
DEVIATIONS = 3.0
"""Standard errors by which a slope must lie above nothing, to be one."""


@dataclass(frozen=True)
class Line:
    """One measure over a run."""

    name: str
    first: float
    last: float
    per_hour: float
    grown: float
    """What the line rises by between the warm-up and the end."""
    error: float
    """The standard error of `grown`."""
    before: float
    after: float
    """At rest, with no session open: before the run (warmed up), and after it."""
    verdict: str = "ok"


def line(name: str, samples: Sequence[Sample], before: float, after: float) -> Line:
    """Fit a line to a measure by least squares."""
    span = samples[-1]["seconds"]
    settled = [sample for sample in samples if sample["seconds"] >= WARM_UP * span]
    times, values = [sample["seconds"] for sample in settled], [sample[name] for sample in settled]
    slope, grown, error = 0.0, 0.0, float("inf")
    if len(settled) > 3:
        slope, start = statistics.linear_regression(times, values)
        misses = sum((value - start - slope * time) ** 2 for time, value in zip(times, values, strict=True))
        spread = sum((time - statistics.fmean(times)) ** 2 for time in times)
        grown = slope * (times[-1] - times[0])
        error = (misses / (len(settled) - 2) / spread) ** 0.5 * (times[-1] - times[0])
    return Line(name, samples[0][name], samples[-1][name], slope * 3600, grown, error, before, after)


def judged(found: Line, rest: float, growth: float) -> Line:
    """Call it a leak where more than `rest` stays when nothing runs, or it surely rises by more than `growth`."""
    stays = found.after - found.before > rest
    rises = found.grown > growth and found.grown > DEVIATIONS * found.error
    return Line(**{**vars(found), "verdict": "LEAK" if stays or rises else "ok"})


def table(lines: Sequence[Line]) -> str:
    rows = [f"{'':<18}{'first':>10}{'last':>10}{'slope/h':>12}{'at rest: before':>18}{'after':>9}  verdict"]
    for one in lines:
        numbers = f"{one.first:>10.1f}{one.last:>10.1f}{one.per_hour:>+12.1f}{one.before:>18.1f}{one.after:>9.1f}"
        rows.append(f"{one.name:<18}{numbers}  {one.verdict}")
    return "\n".join(rows)
