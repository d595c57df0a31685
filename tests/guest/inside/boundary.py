"""A pytest plugin for slow machines: only what would cross the boundary, and no judgement by time.

Of tests/redteam it leaves the attacks of the severities below. What measures the time of neighbours, or counts
seconds, says nothing of a guest that is translated: it is left out by name, and the time limits are lifted.
"""

from __future__ import annotations

import os

import pytest

BOUNDARY = ("Escape", "HostLeak", "Exfil", "Lateral", "HostDoS", "PeerDoS")
MEASURE_TIME = (
    "test_no_tree_of_files_holds_up_a_restart_or_the_end",
    "test_random_numbers_are_there_for_neighbours",
    "test_sandbox_ends_with_its_owner",
    "test_cell_to_be_approved_is_seen_or_does_not_run",
    "test_flood_of_prompts_asks_one_at_a_time",
)
os.environ["KERNEL_SANDBOX_SLOWNESS"] = "10"  # cells.py reads it
PATIENCE = 1800.0
"""Seconds that one test may take."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not _is_of_use(item)]
    items[:] = [item for item in items if _is_of_use(item)]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        item.add_marker(pytest.mark.timeout(PATIENCE))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once what failed, and how long each took: all of it takes a night."""
    if report.failed:
        print(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext}", flush=True)
    if report.when == "call":
        print(f" {report.duration:.0f} s", end="", flush=True)


def _is_of_use(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("attack")
    if marker is None or marker.args[0] not in BOUNDARY:
        return False
    measures = "ring" in getattr(item, "fixturenames", ()) or item.name.startswith(MEASURE_TIME)
    return not measures and item.get_closest_marker("alone") is None
