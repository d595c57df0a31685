"""Execution: the result of one cell, and what people read off it.

The session makes one for every cell; a failing cell is data, and `raise_for_error` makes it an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from kernel_sandbox.errors import Kept, SandboxError, TruncatedTable
from kernel_sandbox.session.outputs.content import bundle_text
from kernel_sandbox.session.outputs.dataframes import table_to_dataframe
from kernel_sandbox.session.outputs.display import shown_bundle
from kernel_sandbox.session.outputs.fate import Ran, fate
from kernel_sandbox.session.outputs.output_values import DisplayData, ErrorOutput, ExecuteResult, Output, StreamOutput
from kernel_sandbox.session.outputs.pictures import PICTURE_SUFFIXES, Picture, picture_bytes, picture_of
from kernel_sandbox.session.outputs.tables import TABLE_TYPE, total_rows
from kernel_sandbox.text.ansi import remove_ansi
from kernel_sandbox.text.characters import visible
from kernel_sandbox.text.clipping import shorten
from kernel_sandbox.text.quoting import quoted

if TYPE_CHECKING:
    import pandas

Status = Literal["ok", "error", "aborted", "timeout", "dead"]
"""How a cell ended; `Execution.status` says what each means."""

_ADVICE = {"timeout": " Give it a longer timeout, or less to do.", "dead": " Call restart() to go on."}
FRAME_LINES, FRAME_CHARACTERS = 12, 1500
"""How much of a traceback's end an exception carries."""


class CellError(SandboxError):
    """A cell failed; `execution` holds what it showed before."""

    def __init__(self, message: str, *, execution: Execution) -> None:
        super().__init__(message)
        self.execution = execution


class CellTimeout(CellError):
    """A cell ran past its time and was stopped."""


@dataclass(frozen=True, slots=True, repr=False)
class Execution:
    """One cell, from the moment that it was sent to the moment that it was over."""

    source: str
    status: Status
    """"ok"; "error": it raised, or was interrupted; "aborted": it was given up before its turn, or a restart ended it;
    "timeout": it ran past its time; "dead": the kernel or the sandbox ended under it. `ran` says how far it came."""
    outputs: tuple[Output, ...]
    """As they stood at the end: streams merged, cleared ones gone, displays updated."""
    execution_count: int | None
    started_at: datetime
    """UTC, aware."""
    duration: float
    """Seconds."""
    cause: SandboxError | None = field(default=None, compare=False)
    """Why it died or timed out, where the session knows."""
    ran: Ran = "whole"
    """How far it came: "no", "began", "whole" or "unknown"."""
    kept: Kept = "all"
    """What the session still had when it was over: "all", "files" or "nothing"."""

    def __repr__(self) -> str:
        plural = "" if len(self.outputs) == 1 else "s"
        first = self._first_line()
        return f"<Execution {self.status}, {len(self.outputs)} output{plural}{': ' + quoted(first) if first else ''}>"

    def _first_line(self) -> str:
        """The first line that says something (a traceback begins with a rule), of up to 60 characters."""
        lines = (remove_ansi(line) for _, piece in _pieces(self.outputs) for line in piece[:2000].splitlines())
        first = next((line for line in lines if line.strip("-= \t")), "")
        return shorten(first, 60)

    @property
    def text(self) -> str:
        """All that the cell showed, as plain text, in order.

        Streams stand as they were written; displays, results and tracebacks (without ANSI colours) have lines
        of their own.
        """
        return _joined(self.outputs)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, str]:
        """Show what the cell showed, as far as that is harmless and small, where a notebook shows the execution.

        https://ipython.readthedocs.io/en/stable/config/integrating.html#custom-methods
        """
        blocks: list[str | Picture] = []
        between: list[Output] = []
        for output in self.outputs:
            picture = picture_of(output.data) if isinstance(output, DisplayData | ExecuteResult) else None
            if picture is None:
                between.append(output)
            else:
                blocks += [_joined(between), picture]
                between = []
        blocks.append(_joined(between))
        return shown_bundle(self.text or repr(self), [block for block in blocks if block])

    @property
    def result(self) -> Mapping[str, Any] | None:
        """The MIME bundle of the last expression, or None where it had no value."""
        results = [output.data for output in self.outputs if isinstance(output, ExecuteResult)]
        return results[-1] if results else None

    @property
    def pictures(self) -> tuple[tuple[str, bytes], ...]:
        """The pictures: media type and bytes, one per output, png before jpeg, gif, webp and svg.

        SVG comes as UTF-8. The bytes are the sandbox's own: they may be no picture at all. What is not base64
        is left out.
        """
        found = (_picture(output.data) for output in self._displays())
        return tuple(picture for picture in found if picture is not None)

    @property
    def dataframes(self) -> tuple[pandas.DataFrame, ...]:
        """The tables that the cell showed, rebuilt from table-schema JSON (never from pickles), exactly as they were.

        One that cannot be said exactly in JSON is left out: `session.get` brings it. Raises TruncatedTable where rows
        are missing: at most Limits.table_rows of each come with the outputs.
        """
        found = (_dataframe(output) for output in self._displays() if TABLE_TYPE in output.data)
        return tuple(frame for frame in found if frame is not None)

    def _displays(self) -> Iterator[DisplayData | ExecuteResult]:
        return (output for output in self.outputs if isinstance(output, DisplayData | ExecuteResult))

    @property
    def error(self) -> ErrorOutput | None:
        """The last error output; where the cell died or timed out without one, one made from `cause`."""
        errors = [output for output in self.outputs if isinstance(output, ErrorOutput)]
        if errors or self.cause is None:
            return errors[-1] if errors else None
        return ErrorOutput(type(self.cause).__name__, self.cause.happened, ())

    def raise_for_error(self) -> Self:
        """Give back the execution if its status is "ok", and raise otherwise.

        Raises CellTimeout for "timeout", CellError for "error" and "aborted", and for "dead" its `cause`:
        KernelDied, OutOfMemory or SandboxLost (CellError where none is known).
        """
        if self.status == "ok":
            return self
        if self.status == "dead" and self.cause is not None:
            raise self.cause
        kind = CellTimeout if self.status == "timeout" else CellError
        raise kind(self._failure(), execution=self) from self.cause

    @property
    def fate(self) -> str:
        """One sentence: how far the cell came, and what is still there."""
        return fate(self.ran, self.kept, failed=self.status == "error")

    def _failure(self) -> str:
        advice = " Send it again." if self.ran == "no" and self.kept == "all" else _ADVICE.get(self.status, "")
        error = self.error
        if error is None:
            return self.fate + advice
        said = visible(f"{error.ename}: {shorten(error.evalue, 2000)}")  # Python prints it on a terminal as it is
        return "\n".join(part for part in (said, _last_frames(error), self.fate + advice) if part)


def _joined(outputs: Iterable[Output]) -> str:
    parts: list[str] = []
    flowing = True
    for is_stream, piece in _pieces(outputs):
        if not piece:
            continue
        if parts and not (is_stream and flowing) and not parts[-1].endswith("\n"):
            parts.append("\n")
        parts.append(piece)
        flowing = is_stream
    return "".join(parts)


def _pieces(outputs: Iterable[Output]) -> Iterator[tuple[bool, str]]:
    """Give whether it is a stream, and the text, of each output."""
    for output in outputs:
        if isinstance(output, StreamOutput):
            yield True, output.text
        elif isinstance(output, ErrorOutput):
            yield False, _error_text(output)
        else:
            yield False, bundle_text(output.data)


def _last_frames(error: ErrorOutput) -> str:
    """Return the end of a remote traceback, without the error's own line, which the message begins with."""
    end = "\n".join(error.traceback[-8:])[-4 * FRAME_CHARACTERS :]
    lines = remove_ansi(end).rstrip().split("\n")
    place = next((at for at, line in enumerate(lines) if line.startswith(f"{error.ename}:")), len(lines))
    kept = [visible(line) for line in lines[:place] if line.strip("-")][-FRAME_LINES:]
    return "\n".join(kept)[-FRAME_CHARACTERS:]


def _error_text(error: ErrorOutput) -> str:
    if not error.traceback:
        return f"{error.ename}: {error.evalue}"
    return remove_ansi("\n".join(error.traceback))


def _dataframe(output: DisplayData | ExecuteResult) -> pandas.DataFrame | None:
    frame = table_to_dataframe(output.data[TABLE_TYPE])
    if frame is not None and (rows := total_rows(output.metadata, len(frame))) > len(frame):
        raise TruncatedTable(
            f"The table has {rows:,} rows, and the first {len(frame):,} came with the cell's outputs. Assign it to a "
            'variable and call session.get("its name"), which brings all of it.',
            rows=rows,
            shown=len(frame),
        )
    return frame


def _picture(data: Mapping[str, Any]) -> tuple[str, bytes] | None:
    values = ((kind, data.get(kind)) for kind in PICTURE_SUFFIXES)
    decoded = ((kind, picture_bytes(kind, value)) for kind, value in values if value and isinstance(value, str))
    return next(((kind, found) for kind, found in decoded if found is not None), None)
