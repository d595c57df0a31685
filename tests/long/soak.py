"""Ten minutes of honest and hostile cells in sessions that come and go, beside one that stays: nothing grows.

`tests.faults.soak`, with its slopes, their standard errors and bounds.
"""

from __future__ import annotations

from tests.faults.holdings import private_place
from tests.faults.soak import Soak, judge, report
from tests.long._asked import Asked

MINUTES = 10.0
TOLD_EVERY = 15
"""Samples."""


def run(asked: Asked) -> list[str]:
    """Soak both engines at the same time."""
    with private_place() as place:
        soak = Soak(asked.engines, "python", (asked.minutes or MINUTES) * 60, place, tell)
        lines = judge(soak, *soak.run())
    print(report(soak, lines), flush=True)
    wrong = [f"{one.name} grows: {one.slope * 3600:+.1f} an hour" for one in lines if one.verdict != "ok"]
    return wrong + soak.wrong


def tell(soak: Soak) -> None:
    if len(soak.samples) % TOLD_EVERY == 0:
        last = soak.samples[-1]
        done = sum(count for name, count in soak.done.items() if name.endswith(": sessions"))
        memory = f"{last['memory MB']:.1f} MB here, {last['session MB']:.1f} MB in what stays"
        print(f"  {last['seconds']:.0f} of {soak.seconds:.0f} s, {done} sessions, {memory}", flush=True)
