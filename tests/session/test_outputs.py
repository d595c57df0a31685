"""The outputs of cells: what messages become, clearing and updating, and the caps."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from kernel_sandbox.session.outputs import (
    CellOutputs,
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    ExecuteResult,
    Output,
    SessionOutputs,
    StreamOutput,
    bundle_text,
    text_to_show,
)
from kernel_sandbox.spec.values import Limits


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def display(data: Mapping[str, Any], display_id: str | None = None) -> tuple[str, dict[str, Any]]:
    transient = {"display_id": display_id} if display_id else {}
    return "display_data", {"data": data, "metadata": {}, "transient": transient}


def update(text: str, display_id: str) -> tuple[str, dict[str, Any]]:
    return "update_display_data", display({"text/plain": text}, display_id)[1]


def cell_with(output_bytes: int = 1000, session_bytes: int = 10_000) -> CellOutputs:
    return SessionOutputs(Limits(output_bytes=output_bytes, session_output_bytes=session_bytes)).cell()


def fed(*messages: tuple[str, Any]) -> tuple[Output, ...]:
    cell = cell_with()
    for message in messages:
        cell.feed(*message)
    return cell.outputs


def texts(cell: CellOutputs) -> list[str]:
    return [
        o.text if isinstance(o, StreamOutput) else str(getattr(o, "data", {}).get("text/plain")) for o in cell.outputs
    ]


# Streams, displays and results


def test_streams_merge_while_they_are_adjacent() -> None:
    outputs = fed(stream("a\r"), stream("b\n"), stream("c", "stderr"), stream("d"))
    assert outputs == (StreamOutput("stdout", "a\rb\n"), StreamOutput("stderr", "c"), StreamOutput("stdout", "d"))


def test_stream_event_is_the_increment() -> None:
    cell = cell_with()
    assert cell.feed(*stream("a")) == StreamOutput("stdout", "a")
    assert cell.feed(*stream("b\r\n")) == StreamOutput("stdout", "b\r\n")
    assert cell.feed(*stream("")) is None


def test_stream_replaces_lone_surrogates_and_unknown_names() -> None:
    assert fed(stream("a\ud800é", "audio")) == (StreamOutput("stdout", "a\ufffdé"),)


def test_many_small_stream_messages_are_cheap() -> None:
    cell = SessionOutputs(Limits()).cell()
    started = time.perf_counter()
    for number in range(200_000):
        cell.feed("stream", {"name": "stdout", "text": f"{number}\n"})
    (output,) = cell.outputs
    assert time.perf_counter() - started < 2
    assert isinstance(output, StreamOutput)
    assert output.text.count("\n") == 200_000


def test_execute_result_keeps_its_bundle_and_count() -> None:
    cell = cell_with()
    cell.feed("execute_input", {"code": "1", "execution_count": 3})
    assert cell.execution_count == 3
    cell.feed("execute_result", {"data": {"text/plain": "1"}, "metadata": {}, "execution_count": 4})
    assert cell.outputs == (ExecuteResult({"text/plain": "1"}, {}, 4),)
    assert cell.execution_count == 4


@pytest.mark.parametrize("count", [True, -1, 2**31, 1.0, "1", None, [1]])
def test_execution_count_is_a_bounded_number_or_none(count: Any) -> None:
    cell = cell_with()
    cell.feed("execute_result", {"data": {"text/plain": "1"}, "execution_count": count})
    assert cell.outputs == (ExecuteResult({"text/plain": "1"}, {}, None),)
    assert cell.execution_count is None


def test_bundle_keeps_only_what_a_notebook_can_hold() -> None:
    data = {
        "text/plain": ["a\n", "b"],
        "image/png": "aGk=\n",
        "application/json": {"x": float("nan"), "y": [1, "\ud800"], "z": b"no"},
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/html": {"not": "text"},
        "model/gltf+json": {"nbformat": "takes only text here"},
        "no type": "x",
        7: "x",
    }
    kept = {"text/plain": "a\nb", "image/png": "aGk=\n", "application/json": {"x": None, "y": [1, "\ufffd"], "z": None}}
    assert fed(display(data)) == (DisplayData(kept, {}),)  # type: ignore[arg-type]


def test_bundle_without_text_gets_none_and_words_are_made_where_they_are_read() -> None:
    (output,) = fed(display({"image/png": "aGk=", "text/html": "<b>"}))
    assert isinstance(output, DisplayData)
    assert output.data == {"image/png": "aGk=", "text/html": "<b>"}
    assert bundle_text(output.data) == "<image/png, text/html>"
    assert bundle_text({"text/latex": "$x$"}) == "$x$"


def metadata_of(metadata: Any, kind: str = "text/plain") -> Mapping[str, Any]:
    (output,) = fed(("display_data", {"data": {kind: "a"}, "metadata": metadata}))
    assert isinstance(output, DisplayData)
    return output.metadata


def test_bundle_metadata_is_numbers_switches_and_words() -> None:
    sides = {"width": 3, "height": 2**40, "isolated": True, "trusted": True, "url_template": "https://tiles.example"}
    assert metadata_of({"text/plain": sides, "image/png": sides, "a": float("inf")}) == {
        "text/plain": {"width": 3, "isolated": True}
    }
    assert metadata_of({"collapsed": False, "width": True}) == {"collapsed": False, "width": True}
    assert metadata_of(["x"]) == metadata_of(None) == {}
    bokeh = "application/vnd.bokehjs_exec.v0+json"
    assert metadata_of({bokeh: {"id": "p1002"}}, bokeh) == {bokeh: {"id": "p1002"}}
    options = {"needs_background": "light", "embed": {"actions": False, "deep": {"scale": 1.5}}}
    assert metadata_of({"text/plain": options}) == {"text/plain": options}


@pytest.mark.parametrize(
    "metadata",
    [
        {"width": "1 onload=alert(1)"},
        {"height": "100%"},
        {"filenames": {"image/png": "x.png"}},
        {"text/plain": {"deep": {"trusted": True}}},
        {"id": '"><script>'},
        {"link": "javascript:alert(1)"},
        {"link": "//evil.example/x"},
        {"text": "\u202eabc"},
        {"long": "x" * 201},
        {"on load": True},
        {"text/plain": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
        {"list": [1]},
    ],
    ids=str,
)
def test_metadata_that_pages_could_run_load_or_trust_is_left_out(metadata: Any) -> None:
    assert metadata_of(metadata) == {}


def test_metadata_is_bounded_and_paid_for() -> None:
    many = {f"n{number}": "x" * 200 for number in range(1000)}
    cell = cell_with(100_000, 100_000)
    cell.feed("display_data", {"data": {"text/plain": "a"}, "metadata": many})
    (output,) = cell.outputs
    assert isinstance(output, DisplayData)
    assert len(output.metadata) == 64
    assert cell.used_bytes > 64 * 200


def test_json_is_bounded_in_depth_and_numbers() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    cell = cell_with(output_bytes=10_000)
    cell.feed(*display({"application/json": {"deep": deep, "wide": 10**5000}}))
    value = cell.outputs[0].data["application/json"]  # type: ignore[union-attr]
    assert json.dumps(value["deep"]) == "[" * 62 + "null" + "]" * 62
    assert value["wide"] is None


def test_integers_that_json_can_say_are_kept() -> None:
    numbers = [2**64, -(10**4000), 10**309]
    cell = cell_with(10_000)
    cell.feed(*display({"application/json": numbers}))
    (output,) = cell.outputs
    assert isinstance(output, DisplayData)
    assert output.data["application/json"] == numbers


@pytest.mark.parametrize("kind", ["comm_open", "comm_msg", "status", "debug_event", "iopub_welcome", "", 7, None])
def test_unknown_messages_show_nothing(kind: Any) -> None:
    cell = cell_with()
    assert cell.feed(kind, {"data": {"text/plain": "x"}, "text": "x"}) is None
    assert cell.outputs == ()


def test_page_payload_becomes_display_data() -> None:
    cell = cell_with()
    page = {"source": "page", "data": {"text/plain": "Signature: f()"}, "start": 0}
    assert cell.feed_payload(page) == DisplayData({"text/plain": "Signature: f()"}, {})
    assert cell.feed_payload({"source": "set_next_input", "text": "evil()"}) is None
    assert cell.feed_payload(["page"]) is None
    assert len(cell.outputs) == 1


# Clearing and updating


def test_clear_output_takes_back_and_frees_the_budget() -> None:
    cell = cell_with()
    cell.feed(*stream("progress"))
    assert cell.feed("clear_output", {"wait": False}) == ClearOutput(wait=False)
    assert cell.outputs == ()
    assert cell.used_bytes == 0


def test_clear_output_waits_for_the_next_output() -> None:
    cell = cell_with()
    cell.feed(*stream("1"))
    assert cell.feed("clear_output", {"wait": True}) == ClearOutput(wait=True)
    assert texts(cell) == ["1"]
    cell.feed(*stream("2"))
    assert texts(cell) == ["2"]


def test_clear_output_leaves_the_sessions_own_errors() -> None:
    cell = cell_with()
    cell.feed("error", {"ename": "E", "evalue": "", "traceback": []})
    own = cell.add_error("CellTimeout", "The cell ran past its 5 s.")
    cell.feed("clear_output", {"wait": False})
    assert cell.outputs == (own,)


def test_update_changes_every_copy_in_every_cell() -> None:
    changed: list[CellOutputs] = []
    session = SessionOutputs(Limits(), changed.append)
    first, second = session.cell(), session.cell()
    first.feed(*display({"text/plain": "old"}, "d"))
    first.feed("execute_result", display({"text/plain": "old"}, "d")[1])
    event = second.feed(*update("new", "d"))
    assert event == DisplayUpdate("d", {"text/plain": "new"}, {})
    assert texts(first) == ["new", "new"]
    assert isinstance(first.outputs[1], ExecuteResult)
    assert changed == [first]
    assert second.outputs == ()


def test_display_of_a_known_id_is_added_and_updates_the_earlier() -> None:
    cell = cell_with()
    cell.feed(*display({"text/plain": "1"}, "d"))
    assert cell.feed(*display({"text/plain": "2"}, "d")) == DisplayData({"text/plain": "2"}, {}, "d")
    assert texts(cell) == ["2", "2"]


def test_update_of_an_unknown_cleared_or_forgotten_id_is_ignored() -> None:
    session = SessionOutputs(Limits())
    cell = session.cell()
    assert cell.feed(*update("x", "never")) is None
    cell.feed(*display({"text/plain": "1"}, "d"))
    session.forget_displays()
    assert cell.feed(*update("x", "d")) is None
    cell.feed(*display({"text/plain": "2"}, "e"))
    cell.feed("clear_output", {"wait": False})
    assert cell.feed(*update("x", "e")) is None
    assert cell.outputs == ()


def test_updates_are_charged_for_what_stands() -> None:
    cell = cell_with(output_bytes=200)
    cell.feed(*display({"text/plain": "0"}, "d"))
    for number in range(1000):
        cell.feed(*update(str(number), "d"))
    assert texts(cell) == ["999"]
    assert not cell.overflowed
    assert cell.used_bytes == len("text/plain") + 3


def test_update_that_does_not_fit_is_marked_and_a_smaller_one_shown() -> None:
    cell = cell_with(output_bytes=200)
    cell.feed(*display({"text/plain": "0"}, "d"))
    cell.feed(*update("x" * 300, "d"))
    assert texts(cell) == ["[kernel-sandbox: text/plain of 310 bytes not shown (limit 200 bytes a cell)]"]
    assert cell.overflowed
    cell.feed(*update("small", "d"))
    assert texts(cell) == ["small"]


# Caps


def test_stream_is_cut_at_the_cap_and_marked_with_the_final_amount() -> None:
    cell = cell_with(output_bytes=10)
    event = cell.feed(*stream("12345678éé"))
    assert event == StreamOutput(
        "stdout", "12345678é\n[kernel-sandbox: output cut here; the rest is not shown (limit 10 bytes a cell)]\n"
    )
    assert cell.overflowed
    assert cell.feed(*stream("more")) is None
    marker = "\n[kernel-sandbox: output cut here; 6 bytes of text not shown (limit 10 bytes a cell)]\n"
    assert cell.outputs == (StreamOutput("stdout", "12345678é"), StreamOutput("stderr", marker))


def test_session_cap_cuts_the_next_cell() -> None:
    session = SessionOutputs(Limits(output_bytes=10, session_output_bytes=15))
    session.cell().feed(*stream("0123456789"))
    cell = session.cell()
    cell.feed(*stream("0123456789"))
    assert texts(cell) == [
        "01234",
        "\n[kernel-sandbox: output cut here; 5 bytes of text not shown (limit 15 bytes a session)]\n",
    ]
    assert session.used_bytes == 15


def test_display_that_does_not_fit_is_marked_and_a_smaller_one_still_shown() -> None:
    cell = cell_with(output_bytes=100)
    cell.feed(*display({"image/png": "A" * 200, "text/plain": "<Figure>"}))
    cell.feed(*display({"text/plain": "small"}))
    # 200 + 8 of values, 9 + 10 of their types
    marker = "[kernel-sandbox: image/png, text/plain of 227 bytes not shown (limit 100 bytes a cell)]"
    assert texts(cell) == [marker, "small"]


def test_markers_are_few_however_much_is_cut() -> None:
    cell = cell_with(output_bytes=10)
    for _ in range(1000):
        cell.feed(*display({"text/plain": "x" * 20}))
        cell.feed(*stream("y" * 20))
    assert len(cell.outputs) == 22
    # The first 10 bytes of text fit; 20 displays are marked.
    cut = [text for text in texts(cell) if "output cut here" in text]
    assert cut == [
        "\n[kernel-sandbox: output cut here; 19.5 KB of text and 980 outputs not shown (limit 10 bytes a cell)]\n"
    ]


def test_outputs_of_a_cell_are_bounded_in_number() -> None:
    cell = SessionOutputs(Limits()).cell()
    for number in range(10_100):
        cell.feed(*stream("x", ("stdout", "stderr")[number % 2]))
    assert len(cell.outputs) == 10_001
    assert "100 bytes of text not shown (limit 10,000 outputs a cell" in texts(cell)[-1]


def test_text_of_what_is_no_character_is_mended_at_the_speed_of_memory() -> None:
    """One by one it took 80 ns each; what stands for a question mark meanwhile is in the text, too."""
    text = "?\x00\x01é\ud800\U0001f600\udfff?" * 100 + "\ud800x" * 1_000_000
    cell = SessionOutputs(Limits()).cell()
    started = time.process_time()
    cell.feed(*stream(text))
    assert time.process_time() - started < 0.1
    assert texts(cell) == ["?\x00\x01é\ufffd\U0001f600\ufffd?" * 100 + "\ufffdx" * 1_000_000]


def test_chart_beyond_the_markers_is_not_looked_through() -> None:
    cell = cell_with(output_bytes=1000)
    chart = {"application/json": {"x": [1, None] * 200_000}}
    started = time.process_time()
    for _ in range(100):
        cell.feed(*display(chart))
    assert time.process_time() - started < 2
    assert "80 outputs not shown" in texts(cell)[-1]


def test_chart_of_two_hundred_thousand_values_comes_whole() -> None:
    chart = {"data": [{"x": [0.5, None, True, 7] * 50_000, "y": [[1, "a"]]}]}
    cell = SessionOutputs(Limits()).cell()
    cell.feed(*display({"application/vnd.plotly.v1+json": chart}))
    assert cell.outputs[0] == DisplayData({"application/vnd.plotly.v1+json": chart}, {})


def test_large_json_is_not_read_to_its_end() -> None:
    cell = cell_with(output_bytes=1000)
    started = time.perf_counter()
    cell.feed(*display({"application/json": [[]] * 5_000_000}))
    assert time.perf_counter() - started < 0.5
    # 64 a container, and its depth: the bundle (and 16 + 4 for the type), the list, 13 in it are first to pass 1000.
    assert texts(cell) == [
        "[kernel-sandbox: application/json of more than 1007 bytes not shown (limit 1000 bytes a cell)]"
    ]


def test_error_is_shown_though_no_room_is_left() -> None:
    cell = cell_with(output_bytes=10)
    cell.feed(*stream("x" * 50))
    error = cell.feed("error", {"ename": "KeyError", "evalue": "'a'", "traceback": ["T" * 10_000]})
    assert isinstance(error, ErrorOutput)
    assert (error.ename, error.evalue) == ("KeyError", "'a'")
    assert len(error.traceback[0]) < 1200
    assert cell.outputs[-1] == error


def test_traceback_keeps_its_head_and_tail() -> None:
    frames = [f"frame {number} " + "x" * 1000 for number in range(3000)]
    cell = SessionOutputs(Limits()).cell()
    error = cell.feed("error", {"ename": "RecursionError", "evalue": "deep", "traceback": frames})
    assert isinstance(error, ErrorOutput)
    assert error.traceback[0] == frames[0]
    assert error.traceback[-1] == frames[-1]
    assert sum(map(len, error.traceback)) < 257 * 1024
    assert any("parts of the traceback cut here" in part for part in error.traceback)


def test_text_for_people_is_none_where_the_markdown_is_empty() -> None:
    """A cell can hand something to a model that a person need not read, and folds it in HTML."""
    assert text_to_show({"text/plain": "for a model", "text/html": "<details>…</details>", "text/markdown": ""}) == ""
    assert text_to_show({"text/plain": "text", "text/markdown": "*text*"}) == "text"
