"""Executions in the shapes of the session pools' API: what no real kernel shows on demand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kernel_sandbox.doors.http.azure_results import cut, first_generation, printed_result, stdout_of, typed_result
from kernel_sandbox.service.session_values import ServedExecution
from kernel_sandbox.session.outputs import DisplayData, ErrorOutput, ExecuteResult, Execution, Output, StreamOutput


def execution(*outputs: Output, status: Any = "ok", source: str = "x") -> Execution:
    return Execution(source, status, outputs, 1, datetime.now(UTC), 0.0125)


def result(text: str) -> Execution:
    return execution(ExecuteResult({"text/plain": text}, {}, 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 10_000, "9" * 10_000),
        ("'a' + 'b'", "'a' + 'b'"),
        ("'unfinished", "'unfinished"),
        (r"'\x'", r"'\x'"),
        ("b'x'", "b'x'"),
        ("-0.5", -0.5),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("", ""),
    ],
)
def test_result_that_is_no_plain_value_stays_text(text: str, value: Any) -> None:
    assert typed_result(result(text)) == value


def test_answer_can_always_be_written_as_json() -> None:
    for text in ("NaN", "1e999", "[NaN]", "[1e999]", r"'\ud800'", "[" * 900 + "]" * 900, "[" * 60 + "]" * 60):
        ran = ServedExecution(result(text), "id", False, 0.0)
        json.dumps(first_generation(ran), allow_nan=False, ensure_ascii=False).encode()


def test_display_stands_in_stdout_where_it_was_shown() -> None:
    shown = DisplayData({"text/plain": "a table", "text/html": "<table>"}, {})
    picture = DisplayData({"text/plain": "<Figure>", "image/png": "aWk="}, {})
    streams = (StreamOutput("stdout", "one\n"), shown, picture, StreamOutput("stdout", "two\n"))
    assert stdout_of(execution(*streams)) == "one\na table\ntwo\n"


def test_last_picture_is_the_result() -> None:
    pictures = [DisplayData({"text/plain": "", "image/png": data}, {}) for data in ("YQ==", "Yg==")]
    expected = {"type": "image", "format": "png", "base64_data": "Yg=="}
    assert typed_result(execution(*pictures)) == printed_result(execution(*pictures)) == expected


def test_restart_and_failure_are_told_in_stderr() -> None:
    error = ErrorOutput("ValueError", "no", ("\x1b[31mTraceback\x1b[0m", "ValueError: no"))
    ran = ServedExecution(execution(error, status="error"), "id", False, 0.0, "The kernel exited with status 3.")
    said = first_generation(ran)["properties"]
    assert said["stderr"].splitlines()[0].endswith("without earlier variables. The kernel exited with status 3.]")
    assert said["stderr"].endswith("Traceback\nValueError: no\n")
    assert (said["result"], said["executionTimeInMilliseconds"]) == (None, 12)


@pytest.mark.parametrize(("size", "longest"), [(100, 100), (100, None), (0, 1)])
def test_text_that_fits_is_not_cut(size: int, longest: int | None) -> None:
    assert cut("x" * size, longest) == "x" * size


@pytest.mark.parametrize("longest", [200, 201, 4096])
def test_cut_text_fits_and_names_what_is_missing(longest: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(10_000))
    said = cut(text, longest)
    assert len(said) == longest
    head, _, rest = said.partition("\n[kernel-sandbox: ")
    marker, _, tail = rest.partition("]\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert "10,000" in marker
