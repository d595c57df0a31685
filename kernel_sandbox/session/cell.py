"""One cell in flight: gathers what the kernel says about it until it is over.

A cell is over when BOTH its reply (shell) and its idle status (iopub) have come, in whichever order; when its kernel
dies; or when the session gives it up. Where one of the two does not come, the reply alone ends it, and the idle status
alone asks for attention. What still arrives later (an asyncio task that prints) joins its outputs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio

from kernel_sandbox.errors import Kept, SandboxError, what_is_kept
from kernel_sandbox.session.messages import Message
from kernel_sandbox.session.outputs import CellOutputs, Event, Execution, Ran, Status, StreamOutput

BACKLOG = 2
"""How many times a cell's output limit may wait for a consumer of the live events; what comes then it misses."""
GRACE = 2.0
"""Seconds between the reply and idle, whichever is first. Under load idle can be lost, and an interrupt at the edge of
a cell costs ipykernel the reply."""


@dataclass(eq=False)
class RunningCell:
    """A cell's state. Only the session and the readers of its channels, in one event loop, touch it."""

    source: str
    outputs: CellOutputs
    output_limit: int
    """Bytes that the cell may show."""
    interrupt_on_overflow: bool
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    timing: dict[str, datetime] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """For the transcript's cell."""
    on_late: Callable[[RunningCell], None] | None = None
    """Called for outputs that arrive after the end."""
    on_input: Callable[[str, bool], None] | None = None
    """Called with a prompt, and whether the answer is a password."""
    on_begin: Callable[[], None] | None = None
    """Called when the kernel has begun it."""
    transcript_cell: Any = None
    execution: Execution | None = None
    sent: bool = False
    generation: int | None = None
    """Of the kernel that it was sent to."""
    restarted_because: str | None = None
    """Why that kernel was started, where it was not the first."""
    interrupted: bool = False
    """Whether it was told to stop from here."""
    cut_off: bool = False
    """Whether a restart ends it, which says how when it is over."""
    stopping: asyncio.Task[None] | None = None
    """Stops it, once somebody wants that."""

    def __post_init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        """Live events; None after the last one."""
        self.attention = asyncio.Event()
        """Set when the cell is over, or has shown so much that the session must act."""
        self.over = asyncio.Event()
        self.heard_out = asyncio.Event()
        """Set when it is over, and when the kernel does nothing for it any more and yet has sent no reply."""
        self.begun = asyncio.Event()
        """Set when the kernel has begun it, by its own busy status."""
        self.kept: Kept = "all"
        self.reply: dict[str, Any] | None = None
        self.status: Status | None = None
        self.cause: SandboxError | None = None
        self._idle = False
        self._backlog = 0
        """About how many bytes wait in `events`."""
        self._clock = time.perf_counter()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it to run: Jupyter sends no such cell, and it gets no number."""
        return not self.source.strip()

    @property
    def is_ended_elsewhere(self) -> bool:
        """Whether its end is told already, or is a restart's to tell."""
        return self.cut_off or self.status is not None

    @property
    def ran(self) -> Ran:
        """How far it came by now."""
        if self.reply is not None:
            return self._ran_by_reply(self.reply)
        if self.begun.is_set():
            return "began"
        return "unknown" if self.sent else "no"

    def _ran_by_reply(self, reply: Mapping[str, Any]) -> Ran:
        if reply.get("status") == "aborted":
            return "no"
        # Another client of the kernel may have interrupted it.
        cut_off = self.interrupted or reply.get("ename") == "KeyboardInterrupt"
        return "began" if reply.get("status") == "error" and cut_off else "whole"

    def start(self, generation: int, restarted_because: str | None) -> None:
        """Count as sent, now, to a kernel."""
        self.sent, self.generation, self.restarted_because = True, generation, restarted_because
        self._start_clock()

    def _begin(self) -> None:
        """Count from now: the kernel may have had other requests to answer first."""
        if self.begun.is_set() or self.over.is_set():
            return
        self._start_clock()
        self.begun.set()
        if self.on_begin is not None:
            self.on_begin()

    def take(self, channel: str, message: Message) -> None:
        """Take one message of this cell from a channel."""
        kind, content = message["msg_type"], message["content"]
        if channel == "iopub":
            self._take_iopub(kind, content, message)
        elif channel == "shell" and kind == "execute_reply" and self.reply is None:
            self._stamp("shell.execute_reply", message)
            self.reply = content
            for payload in content.get("payload") or () if isinstance(content.get("payload"), list) else ():
                self._show(self.outputs.feed_payload(payload))
        elif channel == "stdin" and kind == "input_request" and self.on_input is not None and not self.over.is_set():
            self.on_input(str(content.get("prompt", "")), content.get("password") is True)
        if self.reply is not None and not self._idle:
            self._within_grace(self.finish)  # from its last message on: outputs may be read slowly
        self._finish_if_complete()

    def _take_iopub(self, kind: str, content: dict[str, Any], message: Message) -> None:
        if kind == "status":
            state = content.get("execution_state")
            if state in ("busy", "idle"):
                self._stamp(f"iopub.status.{state}", message)
                self._begin()
            if state == "idle" and not self._idle:
                self._idle = True
                self._within_grace(self._lack_reply)
            return
        if kind == "execute_input":
            self._stamp("iopub.execute_input", message)
        self._show(self.outputs.feed(kind, content))
        if self.interrupt_on_overflow and self.outputs.overflowed:
            self.attention.set()

    def _show(self, event: Event | None) -> None:
        if event is None:
            return
        if self.over.is_set():
            if self.on_late is not None:
                self.on_late(self)
        elif self._backlog < BACKLOG * self.output_limit:
            # Updates and cleared outputs do not count against the caps for ever, so that is no bound for this queue.
            self._backlog += _size(event)
            self.events.put_nowait(event)

    async def next_event(self) -> Event | None:
        """Return the next live event; None when the cell is over and all have been taken."""
        event = await self.events.get()
        if event is not None:
            self._backlog -= _size(event)
        return event

    def _stamp(self, name: str, message: Message) -> None:
        """Keep the kernel's own time of a message, as nbclient records it; the host's where it sent none."""
        self.timing.setdefault(name, message["date"] or datetime.now(UTC))

    def _finish_if_complete(self) -> None:
        if self.reply is not None and self._idle:
            self.finish()

    def _within_grace(self, otherwise: Callable[[], None]) -> None:
        """Call `otherwise` unless the cell is over by then."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.over.is_set():
            self._timer = asyncio.get_running_loop().call_later(GRACE, otherwise)

    def _lack_reply(self) -> None:
        self.heard_out.set()
        self.attention.set()

    def finish(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.heard_out.set()
            self.attention.set()
            if self._timer is not None:
                self._timer.cancel()

    def _start_clock(self) -> None:
        self.started_at, self._clock = datetime.now(UTC), time.perf_counter()

    def end_empty(self) -> None:
        """End a cell that has nothing to run, as well as the kernel could have."""
        self.reply = {"status": "ok"}
        self.finish()

    def cut(self) -> None:
        """Take no more messages, because the kernel is restarted. `fail` follows, when it is known what is left."""
        if not self.over.is_set():
            self.cut_off = True
            self.finish()

    def end(self, status: Status, cause: SandboxError, ename: str = "", *, kept: Kept | None = None) -> None:
        """End the cell from outside, with an error output that says why. Does nothing to a cell that is over.

        `kept` is what the session still has; without it, what `cause` leaves.
        """
        if not self.over.is_set():
            self.fail(status, cause, ename or type(cause).__name__, kept=kept)
            self.finish()

    def fail(self, status: Status, cause: SandboxError, ename: str, *, kept: Kept | None = None) -> None:
        """Set how the cell ended where the kernel's own reply does not say it; once, and before it is concluded."""
        if self.status is not None or self.execution is not None:
            return
        self.status, self.cause, self.kept = status, cause, kept or cause.kept
        said = cause.happened if self.kept == "all" else f"{cause.happened} {what_is_kept(self.kept)}"
        self.events.put_nowait(self.outputs.add_error(ename, said, (f"{ename}: {said}",)))

    def conclude(self) -> Execution:
        """Make the Execution, once, and close the stream of events."""
        if self.execution is not None:
            return self.execution
        if self._timer is not None:
            self._timer.cancel()
        status = self.status or self._status_of_reply()
        self.execution = Execution(
            source=self.source,
            status=status,
            outputs=self.outputs.outputs,
            execution_count=self.outputs.execution_count,
            started_at=self.started_at,
            duration=time.perf_counter() - self._clock if self.sent else 0.0,
            cause=self.cause,
            ran=self.ran,
            kept=self.kept,
        )
        self.events.put_nowait(None)
        return self.execution

    def _status_of_reply(self) -> Status:
        """Read the reply's status: an error need not have shown an error output (an unknown magic has not)."""
        reply = self.reply or {}
        if reply.get("status") == "ok":
            return "ok"
        if reply.get("status") == "aborted":
            return "aborted"
        if not any(output.output_type == "error" for output in self.outputs.outputs):
            event = self.outputs.feed("error", reply)
            if event is not None:
                self.events.put_nowait(event)
        return "error"


def _size(event: Event) -> int:
    """Roughly what an event holds in memory; the same number whenever it is asked."""
    if isinstance(event, StreamOutput):
        return 200 + len(event.text)
    data = getattr(event, "data", {})
    return 500 + sum(len(value) if isinstance(value, str) else 1000 for value in data.values())


class AsyncCellStream:
    """The live events of one cell: iterate it. `execution` is there when it has ended.

    A loop that is left early leaves the cell running; `aclose` interrupts it and waits for its end. A loop that falls
    far behind misses events (updates of displays, mostly); `execution` misses nothing.
    """

    def __init__(
        self, cell: RunningCell, task: asyncio.Task[None], stop: Callable[[RunningCell], Awaitable[None]]
    ) -> None:
        self._cell = cell
        self.run = task
        """Done when the cell is over and recorded."""
        self._stop = stop
        self._ended = False

    @property
    def is_waiting(self) -> bool:
        """Whether the cell waits for its turn: the kernel has heard nothing of it."""
        return not self._cell.sent and not self._cell.over.is_set()

    @property
    def generation(self) -> int | None:
        """Which kernel of the session the cell was sent to; None while it waits, and where it never was."""
        return self._cell.generation

    @property
    def restarted_because(self) -> str | None:
        """Why that kernel was started, where it is not the session's first."""
        return self._cell.restarted_because

    @property
    def execution(self) -> Execution | None:
        """What came of the cell; None until it has ended."""
        return self._cell.execution

    def result(self) -> Execution:
        """Return what came of the cell. Raises SandboxError where it has not ended."""
        if self._cell.execution is None:
            raise SandboxError("The cell has not ended yet: iterate its stream to the end first.")
        return self._cell.execution

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = None if self._ended else await self._cell.next_event()
        if event is None:
            self._ended = True
            await self._run_over()
            raise StopAsyncIteration
        return event

    async def _run_over(self) -> None:
        """Wait for the end of the run, however it comes: a session that closes cancels it. Raises TranscriptError."""
        await asyncio.wait([self.run])
        if not self.run.cancelled():
            self.run.result()

    async def aclose(self) -> None:
        """Stop the cell if it still runs, and wait for its end; one that waits for its turn never runs, at once."""
        with anyio.CancelScope(shield=True):
            if not self.run.done():
                await self._stop(self._cell)
            if self._cell.sent:
                await self._run_over()
