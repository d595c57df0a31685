"""What happens during a task, for whoever shows it live: small frozen values, one per step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernel_sandbox.agents.listings import FileChanges
from kernel_sandbox.agents.messages import ToolCall
from kernel_sandbox.outputs import Event, Execution


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the model's text, as it streams in."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model asked for a tool, and it starts."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class CellOutput:
    """An output of the cell that runs. It is the sandbox's: hostile text."""

    output: Event


@dataclass(frozen=True, slots=True)
class CellFinished:
    """A cell is over."""

    execution: Execution
    files: FileChanges
    """What it did under /mnt/data."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool call is answered, with the text that the model will read."""

    call: ToolCall
    content: str


AgentEvent = TextDelta | ToolCallStarted | CellOutput | CellFinished | ToolResult
OnEvent = Callable[[AgentEvent], None]
"""Called in an event loop's thread (the reactor's, for sync names): it must be quick, and must not wait for one."""
