"""What happens during a task, for whoever shows it live: small frozen values, one per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kernel_sandbox.agents.chat_messages import ToolCall
from kernel_sandbox.agents.completions import Completion, TokenUsage
from kernel_sandbox.agents.listings import FileChanges
from kernel_sandbox.artifacts import Saved
from kernel_sandbox.session.outputs import Event, Execution


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the model's text, as it streams in."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model has answered one request: its text is complete, and its tool calls are known."""

    completion: Completion
    usage: TokenUsage
    """Of all requests of the task so far."""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model asked for a tool, and it starts."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class CellOutput:
    """An output of the cell that runs. It is the sandbox's: hostile text."""

    output: Event
    saved: Saved | None = None
    """Where its picture is on the host, for an agent with `artifacts`."""


@dataclass(frozen=True, slots=True)
class CellFinished:
    """A cell is over."""

    execution: Execution
    files: FileChanges
    """What it did under /mnt/data."""
    saved: Mapping[str, Saved] = field(default_factory=dict)
    """What became of its new and changed files, by name, for an agent with `artifacts`."""
    generation: int | None = None
    """Which kernel it was sent to; this and the next let a KnownKernel take the event."""
    restarted_because: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool call is answered, with the text that the model will read."""

    call: ToolCall
    content: str


AgentEvent = TextDelta | ModelAnswered | ToolCallStarted | CellOutput | CellFinished | ToolResult
OnEvent = Callable[[AgentEvent], None]
"""Called in an event loop's thread (the reactor's, for sync names): it must be quick, and must not wait for one."""
