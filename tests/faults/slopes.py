"""Whether what was measured over time grows: a line fitted after a warm-up, and its verdict. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Sample = Mapping[str, float]
"""Measures by name, and how far the run was then: `seconds`, or what else a run is counted in."""

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
    slope: float
    """By what it rises in one second, or whatever the run is counted in."""
    slope_error: float
    """The slope's standard error."""
    grown: float
    """What the line rises by between the warm-up and the end."""
    error: float
    """The standard error of `grown`."""
    before: float
    after: float
    """At rest, with no session open: before the run (warmed up), and after it."""
    rest: float = float("inf")
    growth: float = float("inf")
    """What may stay at rest, and what the line may rise by."""
    verdict: str = "ok"


def line(name: str, samples: Sequence[Sample], before: float, after: float, along: str = "seconds") -> Line:
    """Fit a line to a measure by least squares."""
    span = samples[-1][along]
    settled = [sample for sample in samples if sample[along] >= WARM_UP * span]
    times, values = [sample[along] for sample in settled], [sample[name] for sample in settled]
    slope, length, error = 0.0, 0.0, float("inf")
    if len(settled) > 3:
        slope, start = statistics.linear_regression(times, values)
        misses = sum((value - start - slope * time) ** 2 for time, value in zip(times, values, strict=True))
        spread = sum((time - statistics.fmean(times)) ** 2 for time in times)
        error, length = (misses / (len(settled) - 2) / spread) ** 0.5, times[-1] - times[0]
    grown, uncertain = slope * length, error * (length or 1)
    return Line(name, samples[0][name], samples[-1][name], slope, error, grown, uncertain, before, after)


def judged(found: Line, rest: float, growth: float) -> Line:
    """Call it a leak where more than `rest` stays when nothing runs, or it surely rises by more than `growth`."""
    stays = found.after - found.before > rest
    rises = found.grown > growth and found.grown > DEVIATIONS * found.error
    return replace(found, rest=rest, growth=growth, verdict="LEAK" if stays or rises else "ok")


def table(lines: Sequence[Line], per: str = "an hour", units: float = 3600) -> str:
    """Return the lines as text; slopes are by so many `units` of what the run is counted in."""
    heads = f"{'first':>9}{'last':>9}{'slope ± error, ' + per:>28}{'rises by (may)':>20}{'at rest: before':>17}"
    rows = [f"{'':<18}{heads}{'after (may)':>16}  verdict"]
    for one in lines:
        slope = f"{one.slope * units:+.1f} ± {one.slope_error * units:.1f}"
        rise, stays = f"{one.grown:+.1f} ({one.growth:g})", f"{one.after:.1f} (+{one.rest:g})"
        numbers = f"{one.first:>9.1f}{one.last:>9.1f}{slope:>28}{rise:>20}{one.before:>17.1f}{stays:>16}"
        rows.append(f"{one.name:<18}{numbers}  {one.verdict}")
    return "\n".join(rows)
