"""What honest code sends comes through: undecodable names, odd texts, and outputs exactly as the kernel sent them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from kernel_sandbox import DisplayData, Session, StreamOutput
from tests.conftest import missing
from tests.long import honest_values

NAME = r"__import__('os').fsdecode(b'caf\xe9.csv')"


@pytest.fixture(scope="module")
def shared() -> Iterator[Session]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with Session(engine="bubblewrap", image="datascience") as session:
        yield session


def test_undecodable_name_is_shown_as_a_stock_client_shows_it(shared: Session) -> None:
    printed = shared.execute(f"print({NAME})")
    assert printed.outputs == (StreamOutput("stdout", "caf\ufffd.csv\n"),)
    shown = shared.execute(f"display({{'text/plain': {NAME}, 'application/json': {{{NAME}: [{NAME}]}}}}, raw=True)")
    kept = {"text/plain": "caf\ufffd.csv", "application/json": {"caf\ufffd.csv": ["caf\ufffd.csv"]}}
    assert shown.outputs == (DisplayData(kept, {}),)


@pytest.mark.parametrize("text", [NAME, r"'caf\ud800.csv'"])
def test_error_that_names_an_odd_text_ends_its_cell_at_once(shared: Session, text: str) -> None:
    shared.execute("kept = 1")
    started = time.monotonic()
    failed = shared.execute(f"raise ValueError({text})", timeout=20)
    assert time.monotonic() - started < 5
    assert failed.status == "error"
    assert failed.error is not None
    assert (failed.error.ename, failed.error.evalue) == ("ValueError", "caf\ufffd.csv")
    assert shared.execute("kept").text == "1"


def test_lone_surrogates_are_shown_as_one_replacement_each(shared: Session) -> None:
    printed = shared.execute(r"print('a\ud800b\udfffc')")
    assert printed.outputs == (StreamOutput("stdout", "a\ufffdb\ufffdc\n"),)
    shown = shared.execute(
        r"display({'text/plain': 'a\ud800', 'application/json': {'\ud800': ['\udfff', 1]}}, raw=True)"
    )
    assert shown.outputs == (DisplayData({"text/plain": "a\ufffd", "application/json": {"\ufffd": ["\ufffd", 1]}}, {}),)


def test_display_too_deep_or_too_long_for_a_reader_leaves_a_word(shared: Session) -> None:
    source = "import sys; sys.set_int_max_str_digits(0); display({'application/json': [10**5000]}, raw=True)"
    assert "an integer of more than 4,300 digits is not shown" in shared.execute(source).text


def test_only_what_the_kernel_sent_stands_in_outputs_and_transcript(shared: Session) -> None:
    exec_type = "application/vnd.bokehjs_exec.v0+json"
    sent = {"application/javascript": "x", exec_type: ""}
    source = f"display({sent!r}, raw=True, metadata={{{exec_type!r}: {{'id': 'p1002'}}}})"
    (output,) = shared.execute(source).outputs
    assert isinstance(output, DisplayData)
    assert (output.data, output.metadata) == (sent, {exec_type: {"id": "p1002"}})
    (kept,) = json.loads(shared.transcript.to_bytes())["cells"][-1]["outputs"]
    assert kept["data"] == {"application/javascript": ["x"], exec_type: ""}
    assert kept["metadata"] == {exec_type: {"id": "p1002"}}
    latex = shared.execute("from IPython.display import Latex; display({'text/latex': '$x$'}, raw=True)")
    assert latex.outputs == (DisplayData({"text/latex": "$x$"}, {}),)
    assert latex.text == "$x$"


def test_honest_values_are_shown_as_in_a_stock_kernel(shared: Session) -> None:
    """The first of what `python -m tests.long honest_values` compares."""
    assert honest_values.compare(shared, honest_values.SEED, 500) == []
