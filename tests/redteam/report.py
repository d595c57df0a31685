"""What the runs recorded, as one table: JSON lines in, Markdown out. Pure; `python -m tests.redteam` prints it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SEVERITIES = (
    "Escape", "HostLeak", "Exfil", "Lateral", "HostDoS", "PeerDoS", "InternalRead", "SelfDoS", "Integrity",
)  # fmt: skip
"""gVisor's words; the last three stay inside a sandbox."""
Line = Mapping[str, Any]
ONCE = "either"
"""What is counted for a test in which no engine has a part."""


@dataclass(frozen=True)
class Report:
    """All lines of a run, by kind."""

    attacks: Sequence[Line] = ()
    removals: Sequence[Line] = ()
    faults: Sequence[Line] = ()
    censuses: Sequence[Line] = ()
    """Of each test process: sessions, and how much of them was left."""
    faults_asked: bool = field(default=True, kw_only=True)

    @property
    def problems(self) -> list[str]:
        """What was not contained, in words; empty where all is well."""
        found = [f"not contained: {_name(line)}" for line in self.attacks if not line["contained"]]
        found += [f"no attack notices the absence of {_name(line)}" for line in self.removals if not line["noticed"]]
        found += [f"not survived: {_name(line)}" for line in self.faults if not line["survived"]]
        found += [f"left behind: {self.leaks}"] if self.leaks else []
        asked = {"attacks": self.attacks, "faults": self.faults if self.faults_asked else (1,)}
        return found + [f"no {name} ran" for name, lines in asked.items() if not lines]

    @property
    def leaks(self) -> int:
        return sum(int(line["leaks"]) for line in self.censuses) + sum(int(line["leaked"]) for line in self.faults)

    def worst(self, figure: str) -> Line | None:
        """The attack with the highest of a figure that attacks record."""
        measured = [line for line in self.attacks if isinstance(line.get(figure), int | float)]
        return max(measured, key=lambda line: float(line[figure]), default=None)

    def detections(self) -> list[float]:
        """Seconds until an attack or a fault was noticed, ascending."""
        of_attacks = [line.get("detection") for line in self.attacks]
        found = [*of_attacks, *(line.get("detected_s") for line in self.faults)]
        return sorted(float(seconds) for seconds in found if isinstance(seconds, int | float))


def read(lines: Iterable[str], faults: Iterable[str] | None = None) -> Report:
    """Sort the lines of KERNEL_SANDBOX_REDTEAM_REPORT, and of KERNEL_SANDBOX_FAULTS_REPORT where faults were run."""
    parsed = [json.loads(line) for line in lines if line.strip()]
    kinds = [[line for line in parsed if kind in line] for kind in ("attack", "control", "leaks")]
    injected = [json.loads(line) for line in faults or () if line.strip()]
    return Report(kinds[0], kinds[1], injected, kinds[2], faults_asked=faults is not None)


def as_markdown(report: Report, versions: Mapping[str, str], seconds: float) -> str:
    """Both tables: attacks by severity and engine, and the figures."""
    engines = sorted({line["engine"] or ONCE for line in report.attacks}, key=lambda name: (name == ONCE, name))
    rows = [("severity", *engines)]
    for severity in SEVERITIES:
        if lines := [line for line in report.attacks if line["severity"] == severity]:
            rows.append((severity, *(_share(lines, "contained", engine) for engine in engines)))
    rows.append(("**all**", *(_share(report.attacks, "contained", engine) for engine in engines)))
    return f"{_table(rows)}\n\n{_table([('', 'last run'), *_figures(report, versions, seconds)])}\n"


BEGIN, END = "<!-- python -m tests.redteam --faults --readme -->", "<!-- end of it -->"


def replaced(page: str, tables: str) -> str:
    """Put the tables into a page, where the last ones stand between our two marks. Raises ValueError without them."""
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the tables: {BEGIN} … {END}")
    return f"{before}{begin}\n{tables}\n{end}{after}"


def _figures(report: Report, versions: Mapping[str, str], seconds: float) -> list[tuple[str, str]]:
    distinct = len({line["attack"] for line in report.attacks})
    figures = [("different attacks, contained", f"{distinct}, {_share(report.attacks, 'contained')} runs")]
    if report.removals:
        figures.append(("controls removed, an attack then succeeds", _share(report.removals, "noticed")))
    if report.faults_asked:
        kinds = len({line["fault"] for line in report.faults})
        figures.append(("different faults injected, survived", f"{kinds}, {_share(report.faults, 'survived')} runs"))
    sessions = sum(int(line["sessions"]) for line in report.censuses)
    figures.append(("sessions opened, left behind", f"{sessions}, {report.leaks}"))
    for figure, title, unit in (
        ("growth", "host process grew by at most", "MB"),
        ("p99", "neighbour's cells under attack, 99th percentile, worst", "ms"),
    ):
        if (line := report.worst(figure)) is not None:
            figures.append((title, f"{float(line[figure]):.0f} {unit} ({_name(line)})"))
    if detections := report.detections():
        times = f"{statistics.median(detections):.2f} s, {detections[-1]:.2f} s"
        figures.append(("noticed after: median, longest", times))
    figures.append(("duration", f"{seconds / 60:.1f} min"))
    return [*figures, *versions.items()]


def _share(lines: Iterable[Line], verdict: str, engine: str | None = None) -> str:
    """ "n of n", or what is short of it."""
    counted = [line for line in lines if engine is None or (line["engine"] or ONCE) == engine]
    return f"{sum(bool(line[verdict]) for line in counted)} of {len(counted)}" if counted else ""


def _name(line: Line) -> str:
    name = line.get("attack") or line.get("control") or line.get("fault") or ""
    plain = str(name).removeprefix("test_").replace("_", " ").replace("|", "/")
    return f"{plain}, {line['engine']}" if line.get("engine") else plain


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * max(3, width) for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
