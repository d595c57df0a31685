"""The report's table, from lines made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.redteam.report import BEGIN, END, as_markdown, read, replaced

ATTACKS: list[dict[str, Any]] = [
    {"attack": "test_a[x]", "severity": "Escape", "engine": "docker", "contained": True},
    {"attack": "test_a[x]", "severity": "Escape", "engine": "bubblewrap", "contained": True, "detection": 0.25},
    {"attack": "test_b", "severity": "HostDoS", "engine": "docker", "contained": True, "growth": 12.4, "p99": 8.2},
    {"attack": "test_c", "severity": "HostDoS", "engine": "", "contained": True, "growth": 40.6, "detection": 2},
    {"control": "seccomp", "engine": "docker", "noticed": True},
    {"leaks": 0, "sessions": 7},
]
FAULTS: list[dict[str, Any]] = [
    {"fault": "disk full", "engine": "docker", "survived": True, "detected_s": 0.5, "leaked": 0},
    {"fault": "disk full", "engine": "bubblewrap", "survived": True, "detected_s": None, "leaked": 0},
]


def lines(records: list[dict[str, Any]], **changes: Any) -> list[str]:
    return [
        json.dumps(record | {name: value for name, value in changes.items() if name in record}) for record in records
    ]


def cells(markdown: str) -> dict[str, list[str]]:
    """Rows by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line]
    return {row[0]: row[1:] for row in rows}


def test_table_counts_attacks_by_severity_and_engine() -> None:
    report = read(lines(ATTACKS), lines(FAULTS))
    table = cells(as_markdown(report, {"libzmq": "4.3.5"}, 90))
    assert table["severity"] == ["bubblewrap", "docker", "either"]
    assert table["Escape"] == ["1 of 1", "1 of 1", ""]
    assert table["HostDoS"] == ["", "1 of 1", "1 of 1"]
    assert table["**all**"] == ["1 of 1", "2 of 2", "1 of 1"]
    assert "Lateral" not in table
    assert report.problems == []


def test_table_has_the_worst_figures_and_the_versions() -> None:
    table = cells(as_markdown(read(lines(ATTACKS), lines(FAULTS)), {"libzmq": "4.3.5"}, 90))
    assert table["different attacks, contained"] == ["3, 4 of 4 runs"]
    assert table["controls removed, an attack then succeeds"] == ["1 of 1"]
    assert table["different faults injected, survived"] == ["1, 2 of 2 runs"]
    assert table["sessions opened, left behind"] == ["7, 0"]
    assert table["host process grew by at most"] == ["41 MB (c)"]
    assert table["neighbour's cells under attack, 99th percentile, worst"] == ["8 ms (b, docker)"]
    assert table["noticed after: median, longest"] == ["0.50 s, 2.00 s"]
    assert (table["duration"], table["libzmq"]) == (["1.5 min"], ["4.3.5"])


def test_report_names_every_problem() -> None:
    changes = {"contained": False, "noticed": False, "survived": False, "leaks": 1, "leaked": 2}
    report = read(lines(ATTACKS[2:], **changes), lines(FAULTS[:1], **changes))
    assert report.problems == [
        "not contained: b, docker",
        "not contained: c",
        "no attack notices the absence of seccomp, docker",
        "not survived: disk full, docker",
        "left behind: 3",
    ]


def test_tables_go_where_the_last_ones_stood() -> None:
    page = f"above\n{BEGIN}\n\n| old |\n\n{END}\nbelow\n"
    assert replaced(page, "| new |\n") == f"above\n{BEGIN}\n\n| new |\n\n{END}\nbelow\n"
    with pytest.raises(ValueError, match="no place"):
        replaced("above\nbelow\n", "| new |\n")


def test_report_of_nothing_is_a_problem() -> None:
    assert read([], []).problems == ["no attacks ran", "no faults ran"]
    assert read([]).problems == ["no attacks ran"]
