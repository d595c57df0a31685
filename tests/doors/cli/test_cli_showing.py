"""What the command line makes of tables, long lines and half-typed cells. No sandbox needed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from kernel_sandbox.doors.cli.prompt import is_complete
from kernel_sandbox.session.outputs.tables import TABLE_TYPE
from kernel_sandbox.terminal.console import fold
from kernel_sandbox.terminal.drawn_tables import fitting_table, read_columns

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def table(*rows: dict[str, Any], key: list[str] | None = None) -> dict[str, Any]:
    fields = [{"name": name, "type": "any"} for name in rows[0]]
    return {"schema": {"fields": fields, "primaryKey": key or []}, "data": list(rows)}


def test_table_columns_are_written_as_pandas_writes_them() -> None:
    rows: list[dict[str, Any]] = [
        {"index": 0, "x": 0.5, "when": "2026-01-02T00:00:00.000"},
        {"index": 1, "x": 12, "when": None},
    ]
    columns = read_columns(table(*rows, key=["index"]))
    assert columns is not None
    assert [(column.name, column.values, column.is_number, column.is_index) for column in columns] == [
        ("", ("0", "1"), True, True),
        ("x", ("0.5", "12.0"), True, False),
        ("when", ("2026-01-02", "NaN"), False, False),
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1 / 3, 2.0], ("0.333333", "2.000000")),
        ([1e-7, 1.0], ("1e-07", "1")),
        ([None, 2.5], ("NaN", "2.5")),
        ([True, False], ("True", "False")),
        ([2**1023, 0.5], (str(2**1023), "0.5")),
        (["a\x1b[2J", "b\nc"], ("a␛[2J", "b\\nc")),
    ],
)
def test_table_values_are_short_and_harmless(values: list[Any], shown: tuple[str, ...]) -> None:
    columns = read_columns(table(*({"x": value} for value in values)))
    if len(max(shown, key=len)) > 60:
        assert columns is None
    else:
        assert columns is not None
        assert columns[0].values == shown


@given(json_values)
def test_table_of_anything_is_none_or_sound(value: Any) -> None:
    columns = read_columns({"schema": {"fields": value, "primaryKey": value}, "data": value})
    assert columns is None or all(isinstance(text, str) for column in columns for text in column.values)
    assert read_columns(value) is None


def test_table_is_drawn_only_where_it_fits() -> None:
    resource = table({"a long name of a column": "value", "another one": "value"})
    assert fitting_table({TABLE_TYPE: resource}, {}, Console(width=60, file=io.StringIO())) is not None
    assert fitting_table({TABLE_TYPE: resource}, {}, Console(width=30, file=io.StringIO())) is None
    assert read_columns(table(*({"x": n} for n in range(100)))) is None


def test_table_is_drawn_only_where_all_of_its_rows_came() -> None:
    data, console = {TABLE_TYPE: table({"x": 1})}, Console(width=60, file=io.StringIO())
    assert fitting_table(data, {TABLE_TYPE: {"rows": 1}}, console) is not None
    assert fitting_table(data, {TABLE_TYPE: {"rows": 2, "truncated": True}}, console) is None


def test_infinities_are_drawn_as_numbers() -> None:
    resource = {
        "schema": {"fields": [{"name": "x", "type": "number"}]},
        "data": [{"x": "INF"}, {"x": "-INF"}, {"x": 0.5}],
    }
    columns = read_columns(resource)
    assert columns is not None
    assert columns[0].is_number
    assert columns[0].values == ("inf", "-inf", "0.5")


@given(st.text(alphabet="ab c日", max_size=80), st.integers(2, 20))
def test_fold_loses_nothing_and_fits(text: str, width: int) -> None:
    pieces = list(fold(Text(text), width))
    assert "".join(piece.plain for piece in pieces) == text
    assert all(piece.cell_len <= width for piece in pieces)


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("x = 1", True),
        ("x = (1,", False),
        ("def f():", False),
        ("def f():\n    return 1", False),
        ("def f():\n    return 1\n", True),
        ("'''text", False),
        ("!ls -l", True),
        ("%%time", False),
        ("%%time\nx = 1\n", True),
        ("x ===", True),
        ("await f()", True),
        ("async with a as b:\n    x = 1", False),
        ("async with a as b:\n    x = 1\n", True),
        ("a = 1\nb = 2", True),
        ("\0", True),
    ],
)
def test_prompt_knows_when_a_cell_is_complete(source: str, complete: bool) -> None:
    assert is_complete(source) is complete
