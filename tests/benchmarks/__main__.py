"""Measure sessions beside bare local ipykernels, in one run: `python -m tests.benchmarks`.

The reference is what a program without this package would do: jupyter_client's AsyncKernelManager over ipc, its
`wait_for_ready` and its `execute_interactive`, on the python3 kernel of this environment. All take turns, so that a
machine whose speed drifts treats them alike. Figures are medians; a ratio is a sandbox's over the reference's of the
same round, and its median is told with the quartiles of the rounds.

    python -m tests.benchmarks --quick --only restart    two rounds of the rows with this in their name
    python -m tests.benchmarks --readme                  measure, then put table, chart and figures into README.md
    python -m tests.benchmarks --from FILE --readme      the same with the figures that --json wrote

Exit status 1: a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import chart, holding, readme, ready, starts, work
from tests.benchmarks.rows import Row, rowed, table

ROUNDS, QUICK = 7, 2
GB = 1 / 1024**3
MB = 1 / 1024**2


@dataclass(frozen=True)
class Bench:
    """Rows that are measured together."""

    measure: Callable[..., Awaitable[None]]
    rows: tuple[Row, ...]
    times: int = 1
    """Rounds for each one asked for."""
    most: int = 99
    """Rounds, however many are asked for."""


def goals(bubblewrap: float, docker: float) -> dict[str, float]:
    return {"docker": docker, "bubblewrap": bubblewrap}


def start_benches() -> list[Bench]:
    """Return what measures the way to a first result."""
    opened = Row(readme.OPEN, ratios=goals(0.25, 0.6), note=f"a first session is open, idle for {starts.QUIET:g} s")
    imported = Row(readme.IMPORT, ratios=goals(0.2, 0.6), note=f"the first cell is `{starts.IMPORTS}`")
    command = Row(readme.RUN, ratios=goals(0.55, 0.7), note="whole processes, three cells; local is `jupyter execute`")
    restart = Row(readme.RESTART, ratios=goals(0.08, 0.1))
    again = Row("import pandas, restarted", ratios=goals(0.2, 0.2))
    later = Row("import pandas, 0.5 s later", ratios=goals(1.1, 1.1))
    acquired = Row(readme.ACQUIRE, ratios=goals(1.0, 1.05), note="the pool is full and at rest; local is a warm cell")
    return [
        Bench(starts.openings, (opened, imported)),
        Bench(starts.commands, (command,)),
        Bench(starts.restarts, (restart, again)),
        Bench(starts.second_thoughts, (later,)),
        Bench(ready.first_results, (acquired,), times=2),
    ]


def other_benches() -> list[Bench]:
    """Return what measures the sessions that are open."""
    own = Row(readme.IDLE, "MB", MB, most=goals(40, 80), note="what each further session takes, pandas imported (PSS)")
    shared = Row("memory that sessions share, once", "MB", MB, note="by one process's sessions, however many")
    many = Row(readme.HUNDRED, "GB", GB, most=goals(6, 9), note=f"extrapolated from {holding.COUNT}, with the shims")
    cell = Row("warm trivial cell", ratios=goals(0.6, 0.6))
    host = Row("warm cell, host's time", most=goals(1, 1))
    calls = Row("warm cell, our calls", "", 1, most=goals(300, 300))
    lines = Row("200,000 printed lines", ratios=goals(1.05, 1.05))
    display = Row("27 MB display", ratios=goals(1.2, 1.2))
    return [
        Bench(holding.memory, (own, shared, many), most=3),
        Bench(work.cells, (cell, host, calls, lines, display)),
        Bench(work.files, (Row("upload", "MB/s", 1), Row("download", "MB/s", 1))),
        Bench(work.agent_turns, (Row("agent loop, a turn", most=goals(20, 20)),)),
    ]


async def measured(benches: list[Bench], rounds: int) -> None:
    for bench in benches:
        await bench.measure(min(rounds * bench.times, bench.most), *bench.rows)


def chosen(only: list[str]) -> list[Bench]:
    """Return the benches of which a row's name has one of these texts in it; without any, all."""
    benches = start_benches() + other_benches()
    return [one for one in benches if not only or any(word in row.name for word in only for row in one.rows)]


def about() -> dict[str, str]:
    """Return of what and when the figures are."""
    machine = f"{len(os.sched_getaffinity(0))} processors, Linux {platform.release()}"
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine, "python": platform.python_version()}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds instead of {ROUNDS}")
    parser.add_argument("--rounds", type=int, help="so many rounds")
    parser.add_argument("--only", metavar="ROW", action="append", default=[], help="rows with this in their name")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures there")
    parser.add_argument("--from", metavar="FILE", type=Path, dest="source", help="measure nothing: figures of --json")
    parser.add_argument("--chart", metavar="FILE", type=Path, help="draw the ratios, an SVG")
    parser.add_argument("--readme", action="store_true", help="put table, chart and figures into README.md")
    return parser


def main() -> int:
    parser = arguments()
    asked = parser.parse_args()
    benches = chosen(asked.only)
    if not benches:
        parser.error("no row has that in its name: " + ", ".join(row.name for one in chosen([]) for row in one.rows))
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("the local kernel has no matplotlib to import: pip install '.[test]'")
    rounds = asked.rounds or (QUICK if asked.quick else ROUNDS)
    told = about() | {"rounds": str(rounds)}
    rows = [row for one in benches for row in one.rows]
    if asked.source is not None:
        saved = json.loads(asked.source.read_text())
        told, rows = (
            saved["about"],
            [rowed(one, row) for one in saved["rows"] for row in rows if row.name == one["name"]],
        )
    else:
        try:
            asyncio.run(measured(benches, rounds))
        except KeyboardInterrupt:
            print("Ended early; all that was open is closed.", file=sys.stderr)
            return 130
    print("", table(rows, f"median of {told['rounds']} rounds"), "", sep="\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"about": told, "rows": [row.as_json() for row in rows]}, indent=1))
    if asked.chart is not None:
        asked.chart.write_text(chart.drawn(readme.bars(rows)))
    if asked.readme:
        readme.write(rows, told)
    return 1 if any(row.misses() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
