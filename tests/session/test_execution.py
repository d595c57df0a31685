"""Execution: what is read off the result of a cell, and DataFrames rebuilt from table schemas."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas
import pytest

from kernel_sandbox.errors import KernelDied, SandboxError
from kernel_sandbox.session.outputs import (
    CellError,
    CellTimeout,
    DisplayData,
    ErrorOutput,
    ExecuteResult,
    Execution,
    Output,
    SessionOutputs,
    Status,
    StreamOutput,
)
from kernel_sandbox.session.outputs.tables import TABLE_TYPE
from kernel_sandbox.spec.values import Limits

PNG = b"\x89PNG\r\n\x1a\n"


def execution(*outputs: Output, status: Status = "ok", cause: SandboxError | None = None) -> Execution:
    return Execution("1", status, outputs, 1, datetime(2026, 1, 2, tzinfo=UTC), 0.5, cause)


def test_execution_text_is_everything_in_order() -> None:
    result = execution(
        StreamOutput("stdout", "a\nb"),
        StreamOutput("stderr", "c"),
        DisplayData({"text/plain": "<Figure>"}, {}),
        ExecuteResult({"text/plain": "42"}, {}, 1),
        ErrorOutput("E", "v", ("\x1b[0;31mTrace\x1b[0m", "E: v")),
    )
    assert result.text == "a\nbc\n<Figure>\n42\nTrace\nE: v"
    assert result.result == {"text/plain": "42"}
    assert repr(result) == "<Execution ok, 5 outputs: 'a'>"
    assert (
        repr(execution(ErrorOutput("E", "v", ("----", "E: v")), status="error"))
        == "<Execution error, 1 output: 'E: v'>"
    )


def test_execution_images_prefer_png_and_skip_what_is_no_base64() -> None:
    png, jpeg = base64.b64encode(PNG).decode(), base64.b64encode(b"\xff\xd8").decode()
    result = execution(
        DisplayData({"image/jpeg": jpeg, "image/png": png[:4] + "\n" + png[4:]}, {}),
        DisplayData({"image/png": "???", "image/jpeg": jpeg}, {}),
        DisplayData({"image/gif": "é"}, {}),
        DisplayData({"image/svg+xml": "<svg>é</svg>"}, {}),
    )
    assert result.pictures == (
        ("image/png", PNG),
        ("image/jpeg", b"\xff\xd8"),
        ("image/svg+xml", "<svg>é</svg>".encode()),
    )


def test_execution_error_is_the_last_or_made_of_the_cause() -> None:
    first, last = ErrorOutput("A", "1", ()), ErrorOutput("B", "2", ())
    assert execution(first, last, status="error").error == last
    died = execution(status="dead", cause=KernelDied("It exited."))
    assert died.error == ErrorOutput("KernelDied", "It exited.", ())
    assert execution().error is None


def test_raise_for_error_follows_the_status() -> None:
    fine, error = execution(), ErrorOutput("ZeroDivisionError", "division by zero", ())
    assert fine.raise_for_error() is fine
    with pytest.raises(
        CellError,
        match=r"^ZeroDivisionError: division by zero\nThe cell ran until its error; variables and files are kept",
    ) as caught:
        execution(error, status="error").raise_for_error()
    assert caught.value.execution.outputs == (error,)
    with pytest.raises(CellError, match="did not run"):
        replace(execution(status="aborted"), ran="no").raise_for_error()
    with pytest.raises(CellTimeout, match="longer timeout"):
        execution(status="timeout").raise_for_error()


def test_raise_for_error_of_a_dead_kernel_raises_its_cause() -> None:
    cause = KernelDied("It exited.", exit_code=-9)
    with pytest.raises(KernelDied) as caught:
        execution(status="dead", cause=cause).raise_for_error()
    assert caught.value is cause
    with pytest.raises(CellError, match="variables are lost"):
        replace(execution(status="dead"), ran="began", kept="files").raise_for_error()


# DataFrames


def restored(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Send a frame the way the kernel does: pandas' own table resource, through a display message."""
    cell = SessionOutputs(Limits()).cell()
    resource = json.loads(frame.to_json(orient="table"))
    cell.feed("display_data", {"data": {TABLE_TYPE: resource, "text/plain": "x"}, "metadata": {}})
    (found,) = execution(*cell.outputs).dataframes
    return found


DATES = pandas.date_range("2024-03-30 22:00", periods=3, freq="2h")
FRAMES = {
    "plain": pandas.DataFrame(
        {"i": [1, -2, 3], "f": [0.5, None, 2.0], "b": [True, False, True], "s": ["a", None, "ü"]}
    ),
    "times": pandas.DataFrame({"n": DATES, "z": DATES.tz_localize("UTC").tz_convert("Europe/Berlin")}, index=DATES),
    "offset": pandas.DataFrame({"z": DATES.tz_localize("UTC").tz_convert("+01:00")}),
    "duration": pandas.DataFrame({"t": pandas.to_timedelta([1, 90_000, None], unit="s")}),
    "nullable": pandas.DataFrame({"i": pandas.array([1, None], "Int64"), "b": pandas.array([True, None], "boolean")}),
    "integers as names": pandas.DataFrame({0: [1, 2], 1: [3, 4]}),
    "large": pandas.DataFrame({"u": [2**64 - 1, 0]}),
    "categories": pandas.DataFrame({"c": pandas.Categorical(["a", "b", None], ["b", "a"], ordered=True)}),
    "levels": pandas.DataFrame(
        {"v": [1, 2]}, index=pandas.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None])
    ),
    "repeated index": pandas.DataFrame({"v": [1, 2]}, index=[5, 5]),
    "repeated levels": pandas.DataFrame({"v": [1, 2]}, index=pandas.MultiIndex.from_tuples([("x", 1), ("x", 1)])),
    "no rows": pandas.DataFrame({"i": pandas.Series([], dtype="int64"), "d": pandas.to_datetime([])}),
    "mixed": pandas.DataFrame({"o": [1, "x", [2], {"y": 3}]}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_dataframe_comes_back_as_it_was(name: str) -> None:
    frame = FRAMES[name]
    pandas.testing.assert_frame_equal(restored(frame), frame, check_freq=False, check_column_type=False)


def table(fields: Any, data: Any, **schema: Any) -> Execution:
    resource = {"schema": {"fields": fields, **schema}, "data": data}
    return execution(DisplayData({TABLE_TYPE: resource}, {}))


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        (None, []),
        ([], []),
        ([{"type": "integer"}], [{}]),
        ([{"name": "a", "type": "integer"}] * 2, [{"a": 1}]),
        ([{"name": "a", "type": "integer"}], [{}] * 10),
        ([{"name": "a", "type": "integer"}], [["a", 1]]),
        ([{"name": ["a"], "type": "integer"}], [{"a": 1}]),
    ],
)
def test_dataframe_that_is_none_is_left_out(fields: Any, data: Any) -> None:
    assert table(fields, data).dataframes == ()
    assert table(fields, data, primaryKey=[{}]).dataframes == ()


@pytest.mark.parametrize(
    "field",
    [
        {"type": "integer", "extDtype": "Int8"},
        {"type": "integer", "extDtype": "object; import os"},
        {"type": "number"},
        {"type": "datetime", "tz": "dateutil//etc/passwd"},
        {"type": "datetime", "tz": "Europe"},
        {"type": "datetime", "freq": "\0"},
        {"type": "any", "constraints": {"enum": [[1], {}]}, "ordered": True},
        {"type": ["integer"]},
        {"type": "duration"},
    ],
)
def test_dataframe_of_a_lying_schema_keeps_the_values(field: dict[str, Any]) -> None:
    values = [10**30, "x", None, [1]]
    (frame,) = table([{"name": "a", **field}], [{"a": value} for value in values]).dataframes
    assert list(frame["a"]) == values
