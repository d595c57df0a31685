"""Tables that a cell displayed, as each door shows them: read once, so that what is none here is none there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas
import pytest

from kernel_sandbox import ExecuteResult, Execution
from kernel_sandbox.doors.http.cell_views import view_cell
from kernel_sandbox.doors.magic.html_tables import table_html
from kernel_sandbox.doors.mcp.cell_answers import tables_data
from kernel_sandbox.session.outputs.tables import TABLE_TYPE
from kernel_sandbox.terminal.drawn_tables import read_columns

SCHEMA = {"fields": [{"name": "index", "type": "integer"}, {"name": "x", "type": "number"}], "primaryKey": ["index"]}
ROWS = [{"index": 0, "x": 0.5}, {"index": 1, "x": "INF"}]
UNSOUND: dict[str, Any] = {
    "two columns of one name": {"schema": {"fields": [{"name": "x"}, {"name": "x"}]}, "data": [{"x": 1}]},
    "a row without a value": {"schema": SCHEMA, "data": [*ROWS, {"index": 2}]},
    "a row that is none": {"schema": SCHEMA, "data": [*ROWS, 3]},
    "a column without a name": {"schema": {"fields": [{"name": "x"}, {}]}, "data": [{"x": 1}]},
    "an index that is no column": {"schema": SCHEMA | {"primaryKey": ["y"]}, "data": ROWS},
    "no schema": {"data": ROWS},
    "no columns": {"schema": {"fields": []}, "data": [{}]},
}


def shown(resource: Any) -> list[bool]:
    """Whether there is a table on a terminal, to MCP's clients, in a notebook, on the service's page, in Python."""
    bundle = {TABLE_TYPE: resource, "text/plain": "x"}
    result = ExecuteResult(bundle, {}, 1)
    output = {"output_type": "execute_result", "data": bundle, "metadata": {}}
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": [output]}
    ended = Execution("", "ok", (result,), 1, datetime(2026, 1, 1, tzinfo=UTC), 0.1)
    return [
        read_columns(resource) is not None,
        bool(tables_data([result])),
        table_html(bundle, {}) is not None,
        "table" in view_cell(cell)["outputs"][0],
        bool(ended.dataframes),
    ]


def test_sound_table_is_one_at_every_door() -> None:
    assert shown({"schema": SCHEMA, "data": ROWS}) == [True] * 5


@pytest.mark.parametrize("resource", UNSOUND.values(), ids=UNSOUND)
def test_unsound_table_is_none_at_any_door(resource: Any) -> None:
    assert shown(resource) == [False] * 5


def test_index_that_repeats_itself_is_an_index_on_a_terminal_too() -> None:
    """pandas writes it first and names no key."""
    frame = pandas.DataFrame({"x": [1, 2]}, index=[7, 7])
    resource = {
        "schema": {"fields": [{"name": "index"}, {"name": "x"}], "pandas_version": "1.4.0"},
        "data": [{"index": 7, "x": 1}, {"index": 7, "x": 2}],
    }
    ended = Execution("", "ok", (ExecuteResult({TABLE_TYPE: resource}, {}, 1),), 1, datetime(2026, 1, 1), 0.1)
    pandas.testing.assert_frame_equal(ended.dataframes[0], frame, check_dtype=False, check_index_type=False)
    columns = read_columns(resource)
    assert columns is not None
    assert [(column.name, column.is_index) for column in columns] == [("", True), ("x", False)]
