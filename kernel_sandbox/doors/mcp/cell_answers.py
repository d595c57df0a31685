"""An execution as the answer of a tool call. Pure.

Not what is stored: the notebook keeps every output as it was. Here text is cut in its middle, of pictures the first
few are shown, tables have their first rows. Each cut says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kernel_sandbox.doors.mcp.contract import CallExecution
from kernel_sandbox.doors.mcp.tool_results import CallResult, Part, PicturePart, TextPart, quoted
from kernel_sandbox.session.outputs import (
    RASTERS,
    DisplayData,
    ErrorOutput,
    ExecuteResult,
    Execution,
    Output,
    Picture,
    StreamOutput,
    fresh_kernel,
)
from kernel_sandbox.session.outputs import picture_of as find_picture
from kernel_sandbox.session.outputs.tables import TABLE_TYPE, read_table, total_rows
from kernel_sandbox.show.model_text import clip, read_output, read_traceback
from kernel_sandbox.text.characters import visible
from kernel_sandbox.text.clipping import shorten

MAX_PICTURES = 6
MAX_PICTURE = 2 * 1024 * 1024
"""Bytes of one picture; clients refuse some that have more."""
MAX_PICTURES_TOGETHER = 5 * 1024 * 1024
MAX_PIXELS = 40_000_000
"""Of one picture: what a client needs in memory to show it is four bytes for each."""
MAX_TABLES, MAX_ROWS, MAX_COLUMNS = 4, 50, 50
MAX_TABLE_TEXT = 20_000
"""Characters of all values of all tables."""
MAX_VALUE = 200
"""Characters of one value of a table, and of a column's name."""
MAX_EVALUE = 2_000


def cell_answer(ran: CallExecution, identifier: str) -> CallResult:
    """Write down a cell that has run; `session` is the name of its session."""
    execution = ran.execution
    words, pictures = choose_pictures(execution.outputs)
    text = read_text(execution.outputs, words) or _failure_text(execution)
    number = "" if execution.execution_count is None else f" [{execution.execution_count}]"
    head = f"Cell{number}: {execution.status}, {execution.duration:.2f} s."
    if not text:
        head += " It showed nothing."
    notes = _notes(ran)
    data: dict[str, Any] = {
        "status": execution.status,
        "output": text,
        "duration": round(execution.duration, 3),
        "execution_count": execution.execution_count,
        **_fate_data(ran),
        "pictures": _pictures_data(execution.outputs, pictures),
        "tables": tables_data(execution.outputs),
    }
    data |= {"error": _error_data(execution)} if execution.status != "ok" else {}
    data |= {"identifier": identifier} if identifier else {}
    data |= {"notes": notes} if notes else {}
    parts = _parts([head, *notes], text, [picture for picture in pictures.values() if picture is not None])
    return CallResult(parts, data, failed=execution.status != "ok")


def _parts(head: Sequence[str], text: str, pictures: Iterable[Picture]) -> tuple[Part, ...]:
    lines = [" ".join(head), quoted(text)] if text else [" ".join(head)]
    shown = (PicturePart(picture.kind, picture.data) for picture in pictures)
    return (TextPart("\n".join(lines)), *shown)


def read_text(outputs: Sequence[Output], words: Mapping[int, str]) -> str:
    """Write down outputs in order, cut in the middle; `words` say what became of each picture, by its place."""
    read = (read_output(output, words.get(place, "")) for place, output in enumerate(outputs))
    return clip("\n".join(part for text in read if (part := text.rstrip("\n"))))


def _failure_text(execution: Execution) -> str:
    """What is to be said of a cell that failed without showing it."""
    if execution.status == "ok" or execution.error is None:
        return ""
    return read_traceback(execution.error)


def _error_data(execution: Execution) -> dict[str, Any]:
    error = execution.error or ErrorOutput(execution.status, "", ())
    return {
        "ename": visible(error.ename)[:MAX_VALUE],
        "evalue": visible(error.evalue)[:MAX_EVALUE],
        "traceback": clip(read_traceback(error)),
    }


def _notes(ran: CallExecution) -> list[str]:
    """Return what is to be said beside the outputs: what the cell began with, how it ended, what comes next."""
    execution = ran.execution
    began = "" if ran.restarted_because is None else fresh_kernel(ran.restarted_because)
    cut_off = execution.ran != "whole" or execution.kept != "all"
    more = "Give it a longer timeout, or less to do." if execution.status == "timeout" else ""
    return [note for note in (began, execution.fate if cut_off else "", more, ran.note) if note]


def _fate_data(ran: CallExecution) -> dict[str, Any]:
    told = {"ran": ran.execution.ran, "kept": ran.execution.kept, "new_session": ran.new_session}
    return told | ({} if ran.restarted_because is None else {"restarted_because": ran.restarted_because})


# Pictures


def choose_pictures(outputs: Sequence[Output]) -> tuple[dict[int, str], dict[int, Picture | None]]:
    """Choose which pictures are shown: what is said of each, and each that is shown (else None), by their places."""
    words: dict[int, str] = {}
    chosen: dict[int, Picture | None] = {}
    count = size = 0
    for place, output in enumerate(outputs):
        picture = find_picture(output.data) if isinstance(output, DisplayData | ExecuteResult) else None
        if picture is None:
            continue
        reason = _why_not(picture, count, size)
        chosen[place] = None if reason else picture
        if reason:
            words[place] = f". Not shown here: {reason}; the notebook has it."
        else:
            count, size = count + 1, size + len(picture.data)
            words[place] = f". It follows as picture {count}."
    return words, chosen


def _why_not(picture: Picture, count: int, size: int) -> str:
    if picture.kind not in RASTERS:
        return "of its kind only a description is shown"
    if len(picture.data) > MAX_PICTURE or not 0 < picture.width * picture.height <= MAX_PIXELS:
        return "it is too large"
    if count >= MAX_PICTURES or size + len(picture.data) > MAX_PICTURES_TOGETHER:
        return "there are too many"
    return ""


def _pictures_data(outputs: Sequence[Output], chosen: Mapping[int, Picture | None]) -> list[dict[str, Any]]:
    found = []
    for place, shown in list(chosen.items())[:100]:
        picture = shown or find_picture(getattr(outputs[place], "data", {}))
        if picture is not None:
            size = {"width": picture.width, "height": picture.height, "bytes": len(picture.data)}
            found.append({"media_type": picture.kind, **size, "shown": shown is not None})
    return found


# Tables


def tables_data(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Give the tables that a cell displayed: columns, first rows, how many rows there are."""
    tables: list[dict[str, Any]] = []
    room = MAX_TABLE_TEXT
    for output in outputs:
        if isinstance(output, DisplayData | ExecuteResult) and len(tables) < MAX_TABLES and room > 0:
            table, room = _table_data(output, room)
            tables += table
    return tables


def _table_data(output: DisplayData | ExecuteResult, room: int) -> tuple[list[dict[str, Any]], int]:
    """Read one table; nothing where it is none. `room` is for how many characters there is room; also what is left."""
    table = read_table(output.data.get(TABLE_TYPE))
    if table is None:
        return [], room
    names = table.names
    shown = names[:MAX_COLUMNS]
    rows: list[list[Any]] = []
    for row in table.rows[:MAX_ROWS]:
        values = [_value(row[name]) for name in shown]
        room -= sum(len(str(value)) + 2 for value in values)
        if room <= 0:
            break
        rows.append(values)
    total = total_rows(output.metadata, len(table.rows))
    told = {
        "columns": [visible(name)[:MAX_VALUE] for name in shown],
        "rows": rows,
        "total_rows": total,
        "total_columns": len(names),
        "truncated": len(rows) < total or len(shown) < len(names),
    }
    return [told], room


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    return shorten(visible(str(value)[: MAX_VALUE + 1]), MAX_VALUE)


# Shell commands


def shell_answer(ran: CallExecution, exit_status: int, identifier: str) -> CallResult:
    """Write down a shell command that has run."""
    execution = ran.execution
    text = read_text([output for output in execution.outputs if not _is_silent(output)], {})
    ended = execution.status == "ok"
    how = f"exit status {exit_status}" if ended else execution.status
    notes = _notes(ran)
    head = f"Command: {how}, {execution.duration:.2f} s."
    if not text:
        head += " It showed nothing."
    data: dict[str, Any] = {
        "status": "ok" if ended else execution.status,
        "exit_status": exit_status,
        "stdout": stream_text(execution, "stdout"),
        "stderr": stream_text(execution, "stderr"),
        "duration": round(execution.duration, 3),
        **_fate_data(ran),
    }
    data |= {} if ended else {"error": _error_data(execution)}
    data |= {"identifier": identifier} if identifier else {}
    data |= {"notes": notes} if notes else {}
    return CallResult(_parts([head, *notes], text, ()), data, failed=not ended)


def _is_silent(output: Output) -> bool:
    """The exit status is told in the first line already."""
    return isinstance(output, DisplayData)


def stream_text(execution: Execution, name: str) -> str:
    """Give what was written to a stream, cut in the middle."""
    texts = (output.text for output in execution.outputs if isinstance(output, StreamOutput) and output.name == name)
    return clip(read_output(StreamOutput("stdout", "".join(texts))))
