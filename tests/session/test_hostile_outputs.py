"""Whatever a kernel sends: nothing raises, the caps hold, and the transcript stays a valid notebook in strict JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_sandbox.session.outputs import CellError, CellOutputs, Execution, SessionOutputs, Status, clean_json
from kernel_sandbox.session.outputs.dataframes import table_to_dataframe
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.spec.values import Limits

TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=3) | st.just(10**2000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=4),
    max_leaves=12,
)
MIME_TYPES = st.sampled_from(
    ["text/plain", "text/html", "image/png", "image/svg+xml", "application/json", "application/x+json", "text/x+json",
     "application/javascript", "application/vnd.jupyter.widget-view+json", "Application/JSON", "no"]
)  # fmt: skip
DISPLAY = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(MIME_TYPES | TEXTS, TEXTS | VALUES, max_size=4) | VALUES,
        "metadata": VALUES,
        "transient": st.fixed_dictionaries({"display_id": st.sampled_from(["a", "b"]) | VALUES}) | VALUES,
        "execution_count": st.integers(-1, 5) | VALUES,
    },
)
CONTENT = (
    DISPLAY
    | st.fixed_dictionaries({"name": st.sampled_from(["stdout", "stderr"]) | VALUES, "text": TEXTS | VALUES})
    | st.fixed_dictionaries({"ename": VALUES, "evalue": TEXTS | VALUES, "traceback": st.lists(TEXTS) | VALUES})
    | st.fixed_dictionaries({"wait": st.booleans() | VALUES})
    | VALUES
)
TYPES = st.sampled_from(
    ["stream", "display_data", "execute_result", "update_display_data", "clear_output", "error", "execute_input", "x"]
)


MESSAGES = st.lists(st.tuples(st.booleans(), TYPES, CONTENT), max_size=30)
TABLES = st.fixed_dictionaries(
    {
        "schema": st.fixed_dictionaries(
            {
                "fields": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["a", "b", "index", 0, 1.5, True]) | VALUES},
                        optional={
                            "type": st.sampled_from(
                                ["integer", "number", "boolean", "string", "datetime", "duration", "any"]
                            ),
                            "extDtype": st.sampled_from(["Int8", "UInt64", "Float32", "boolean", "string", "x"])
                            | VALUES,
                            "tz": st.sampled_from(["UTC", "UTC+99:99", "Europe/Rome", "America", "dateutil//x"])
                            | TEXTS,
                            "constraints": st.fixed_dictionaries({"enum": st.lists(VALUES, max_size=3)}) | VALUES,
                            "ordered": VALUES,
                        },
                    ),
                    max_size=3,
                )
            },
            optional={"primaryKey": st.sampled_from(["a", ["a"], ["b", "a"], [0]]) | VALUES, "pandas_version": VALUES},
        ),
        "data": st.lists(
            st.dictionaries(
                st.sampled_from(["a", "b", "index", "0", "1.5", "True"]),
                st.sampled_from(["2024-01-01T00:00:00.000Z", "2024-01-01", "P1DT0H0M0S", "9" * 20]) | VALUES,
                min_size=4,
            ),
            max_size=3,
        ),
    }
)


def sessions_for(messages: list[tuple[bool, str, Any]]) -> tuple[SessionOutputs, tuple[CellOutputs, CellOutputs]]:
    session = SessionOutputs(Limits(output_bytes=400, session_output_bytes=600))
    cells = (session.cell(), session.cell())
    for second, kind, content in messages:
        cells[second].feed(kind, content)
        cells[second].feed_payload(content)
        assert 0 <= session.used_bytes <= 600
    return session, cells


@settings(deadline=None, max_examples=300, database=None)
@given(MESSAGES)
def test_hostile_messages_make_a_valid_bounded_transcript(messages: list[tuple[bool, str, Any]]) -> None:
    _, cells = sessions_for(messages)
    transcript = Transcript()
    for cell in cells:
        transcript.add_code_cell(str(messages), cell.outputs, execution_count=cell.execution_count)
    notebook = json.loads(transcript.to_bytes(), parse_constant=pytest.fail)
    nbformat.validate(notebook)
    shown = [output for cell in notebook["cells"] for output in cell["outputs"]]
    # A control character is one byte, and \\u and four digits in JSON; braces and marks are at most 600 an output.
    assert len(json.dumps(shown, ensure_ascii=False).encode()) < 6 * 600 + 600 * len(shown) + 2


@settings(deadline=None, max_examples=200, database=None)
@given(MESSAGES)
def test_hostile_messages_leave_no_budget_behind_when_cleared(messages: list[tuple[bool, str, Any]]) -> None:
    session, cells = sessions_for(messages)
    for cell in cells:
        cell.feed("clear_output", {"wait": False})
        assert cell.outputs == ()
    assert (session.used_bytes, session._count, session._displays) == (0, 0, {})


@settings(deadline=None, max_examples=200, database=None)
@given(MESSAGES, st.sampled_from(["ok", "error", "dead"]))
def test_hostile_outputs_can_be_read_off_an_execution(messages: list[tuple[bool, str, Any]], status: Status) -> None:
    _, (cell, _) = sessions_for(messages)
    execution = Execution("1", status, cell.outputs, None, datetime(2026, 1, 2, tzinfo=UTC), 0.0)
    execution.text.encode()
    assert len(repr(execution)) < 400
    assert isinstance(execution.pictures, tuple)
    if status != "ok":
        with pytest.raises(CellError):
            execution.raise_for_error()


@settings(deadline=None, max_examples=500, database=None)
@given(TABLES | VALUES)
def test_hostile_tables_are_frames_or_nothing(resource: Any) -> None:
    table = clean_json(resource)
    frame = table_to_dataframe(table)
    assert frame is None or len(frame) == len(table["data"])


@settings(deadline=None, max_examples=200, database=None)
@given(VALUES, VALUES, VALUES)
def test_hostile_metadata_makes_a_valid_transcript(first: Any, second: Any, third: Any) -> None:
    as_mapping = {"name": first, "tags": second, "kernelspec": third, "mimetype": first, "execution": second}
    transcript = Transcript(metadata=as_mapping)
    transcript.set_kernel(as_mapping, as_mapping)
    transcript.set_provenance(as_mapping)
    transcript.add_code_cell(
        "1", metadata=as_mapping, timing={"iopub.status.busy": first}, outcome={"status": str(second)}
    )
    nbformat.validate(json.loads(transcript.to_bytes(), parse_constant=pytest.fail))
