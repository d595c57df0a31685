"""The outputs of a cell and the events of a running one: frozen values, named as nbformat names them.

The collector makes them; their texts hold no lone surrogates and their bundles only what JSON can say. A bundle
is shared by the copies of one display: read it, do not write to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, slots=True)
class StreamOutput:
    """Text written to stdout or stderr: an increment as an event, the merged text as an output."""

    output_type: ClassVar[Literal["stream"]] = "stream"
    name: str
    """"stdout" or "stderr"."""
    text: str
    """As it was written: carriage returns and ANSI colours included."""


@dataclass(frozen=True, slots=True)
class DisplayData:
    """A MIME bundle that the cell displayed."""

    output_type: ClassVar[Literal["display_data"]] = "display_data"
    data: Mapping[str, Any]
    """MIME type to value: JSON for application/json and application/*+json, text (or base64 text) for all others.
    What the kernel sent, and no more: `bundle_text` makes words of one without text/plain."""
    metadata: Mapping[str, Any]
    """Numbers, switches and words about the whole and about each type."""
    display_id: str | None = None
    """What later updates call it. Never stored in a notebook."""


@dataclass(frozen=True, slots=True)
class ExecuteResult:
    """The MIME bundle of the cell's last expression."""

    output_type: ClassVar[Literal["execute_result"]] = "execute_result"
    data: Mapping[str, Any]
    """As in DisplayData."""
    metadata: Mapping[str, Any]
    execution_count: int | None
    display_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorOutput:
    """An exception that ended the cell, or the session's own word on how it ended."""

    output_type: ClassVar[Literal["error"]] = "error"
    ename: str
    evalue: str
    traceback: tuple[str, ...]
    """As the kernel rendered it, a part per frame, ANSI colours included; empty for the session's own errors."""


Output = StreamOutput | DisplayData | ExecuteResult | ErrorOutput
"""What a cell leaves."""


@dataclass(frozen=True, slots=True)
class ClearOutput:
    """The cell took back what it had shown."""

    output_type: ClassVar[Literal["clear_output"]] = "clear_output"
    wait: bool
    """True: only when the next output comes."""


@dataclass(frozen=True, slots=True)
class DisplayUpdate:
    """Every earlier output of this display_id, in whatever cell, now shows this."""

    output_type: ClassVar[Literal["update_display_data"]] = "update_display_data"
    display_id: str
    data: Mapping[str, Any]
    """As in DisplayData."""
    metadata: Mapping[str, Any]


Event = Output | ClearOutput | DisplayUpdate
"""What a running cell tells, one at a time; a StreamOutput is an increment."""
