"""Runs a session's cells, one after the other: whose turn it is, how long a cell has, and how one is ended.

The session makes one and gives it its kernel. A cell that is given up while it waits never runs. One that runs is
ended in steps (interrupt, SIGINT, restart), and what is said to be kept is tried before it is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from kernel_sandbox.errors import SandboxError, SessionClosed
from kernel_sandbox.session.cell import AsyncCellStream, RunningCell
from kernel_sandbox.session.messages import Message
from kernel_sandbox.session.outputs import Status
from kernel_sandbox.session.prompts import Prompts
from kernel_sandbox.session.recorder import Recorder
from kernel_sandbox.session.session_kernel import SessionKernel

LATE_CELLS = 1000
"""How many finished cells still take what arrives late."""
BEGIN_WITHIN = 5.0
"""Seconds in which a kernel with other clients begins a cell once it does nothing for them; then its time runs."""


class CellRunner:
    """The cells of one session."""

    def __init__(self, kernel: SessionKernel, recorder: Recorder, prompts: Prompts) -> None:
        self._kernel = kernel
        kernel.on_unparented, kernel.on_gone, kernel.on_fresh = self._take_unparented, self._end_current, self._forget
        self._grace = kernel.spec.limits.interrupt_grace
        self._recorder = recorder
        self._prompts = prompts
        self.current: RunningCell | None = None
        """The cell whose turn it is."""
        self.tasks: set[asyncio.Task[Any]] = set()
        """One for each cell, those that wait for their turn included."""
        self._turn = asyncio.Lock()
        self._restarts = 0
        self._restarting: set[asyncio.Task[None]] = set()
        self._restarted = asyncio.Event()
        """Set when the last restart is over."""
        self._known: dict[str, RunningCell] = {}

    def begin(self, source: str, timeout: float | None, metadata: Mapping[str, Any]) -> AsyncCellStream:
        """Give a cell its place in the line."""
        text = source.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no place in a message
        cell = self._recorder.new_cell(text, metadata)
        cell.on_input = functools.partial(self._ask_user, cell)
        return AsyncCellStream(cell, self._task(self._run(cell, timeout, self._restarts)), self._give_up)

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _run(self, cell: RunningCell, timeout: float | None, restarts: int) -> None:
        try:
            async with self._turn:
                self.current = cell
                try:
                    await self._take_turn(cell, timeout, restarts)
                finally:
                    self.current = None
                    self._prompts.withdraw()
            if cell.cut_off:
                await self._tell_of_restart(cell)
        finally:
            self._recorder.conclude(cell)

    async def _take_turn(self, cell: RunningCell, timeout: float | None, restarts: int) -> None:
        if cell.over.is_set():
            return
        if restarts != self._restarts:
            cell.cut()
        elif (death := self._kernel.why_no_cell) is not None:
            cell.end("dead", death)
        elif cell.is_empty:
            cell.end_empty()
        else:
            await self._send(cell, timeout)

    async def _send(self, cell: RunningCell, timeout: float | None) -> None:
        await self._kernel.others.rest(cell)
        channels = self._kernel.channels
        if cell.over.is_set() or channels is None:
            return
        cell.start(self._kernel.generation, self._kernel.restarted_because)
        take = self._kernel.in_order(cell.take)
        self._remember(channels.request("shell", "execute_request", self._request(cell.source), take), cell)
        try:
            with self._time_for(cell, timeout) as time:
                async with time:
                    await cell.attention.wait()
        except TimeoutError:
            late = "ran longer than" if cell.begun.is_set() else "was not begun within"
            await self._stop(cell, "timeout", f"The cell {late} {timeout:g} s", "CellTimeout")
        if cell.heard_out.is_set() and not cell.over.is_set():
            await self._do_without_reply(cell)
        if not cell.over.is_set():
            await self._stop(cell, "error", "The cell showed more than its limit", "OutputLimit")
        if cell.interrupted and not cell.is_ended_elsewhere:
            await self._stop(cell, "error", "The cell was interrupted", "KeyboardInterrupt")

    def _request(self, source: str, *, silent: bool = False) -> dict[str, Any]:
        return {
            "code": source,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": self._prompts.handler is not None and not silent,
            "stop_on_error": False,  # cells are sent one at a time: there is nothing to abort
        }

    @contextlib.contextmanager
    def _time_for(self, cell: RunningCell, timeout: float | None) -> Iterator[asyncio.Timeout]:
        """Limit a cell's time from its beginning. Where only the session has the kernel, from its sending if need be.

        While the kernel does something for another client, no time passes.
        """
        others, clock = self._kernel.others, asyncio.get_running_loop().time

        def waiting() -> float | None:
            if timeout is None or others.busy:
                return None
            return clock() + timeout + (BEGIN_WITHIN if others.exist else 0.0)

        limit = asyncio.timeout_at(waiting())

        def begun() -> None:
            reschedule(None if timeout is None else clock() + timeout)

        def reschedule(when: float | None) -> None:
            with contextlib.suppress(RuntimeError):  # it has run out just now
                limit.reschedule(when)

        cell.on_begin = begun
        others.on_change = lambda: None if cell.begun.is_set() else reschedule(waiting())
        try:
            yield limit
        finally:
            cell.on_begin = others.on_change = None

    # Ending a cell

    async def _stop(self, cell: RunningCell, status: Status, why: str, ename: str) -> None:
        """End a cell that was sent; all who want that at a time wait for the same end."""
        if cell.stopping is None:
            cell.stopping = self._task(self._end_in_steps(cell, status, why, ename))
        await asyncio.shield(cell.stopping)

    async def _end_in_steps(self, cell: RunningCell, status: Status, why: str, ename: str) -> None:
        """Interrupt, then SIGINT, then restart, until the cell is over and the kernel answers; say which it took."""
        ended_itself = cell.over.is_set()
        why = await self._until_it_may_be_interrupted(cell, why)
        for step in self._kernel.interrupts:
            if not cell.heard_out.is_set():
                cell.interrupted = True
                await step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._grace):
                        await cell.heard_out.wait()
            if cell.is_ended_elsewhere:
                return
            if cell.heard_out.is_set() and await self._answers():
                if not ended_itself:
                    cell.fail(status, SandboxError(f"{why} and was interrupted; variables are kept."), ename)
                cell.finish()
                return
            if (death := self._kernel.why_no_cell) is not None:
                cell.fail("dead", death, type(death).__name__)
                return
        if not cell.is_ended_elsewhere:
            stuck = "left a kernel that does not answer" if cell.heard_out.is_set() else "did not stop when interrupted"
            done = await self._restart_because(f"{why} and {stuck}")
            lost = SandboxError(f"{why} and {stuck}, {done}.")
            cell.fail(status, lost, ename, kept=self._kernel.kept_by_restart)
            cell.finish()

    async def _restart_because(self, why: str) -> str:
        """Start a fresh kernel, and return in words what came of it; the next cell tells why none started."""
        try:
            await self._kernel.start_anew(why)
        except SandboxError:
            return "so the kernel was ended; no other one has started"
        return "so the kernel was restarted"

    async def _do_without_reply(self, cell: RunningCell) -> None:
        """End a cell for which the kernel does nothing any more. It answers in order: no reply comes after another."""
        if not await self._answers():
            await self._stop(cell, "error", "The kernel sent no reply for the cell", "NoReply")
        elif cell.interrupted:
            cell.end("error", SandboxError("The cell was interrupted; variables are kept."), "KeyboardInterrupt")
        else:
            cell.end("error", SandboxError("The kernel sent no reply for the cell; variables are kept."), "NoReply")

    async def _until_it_may_be_interrupted(self, cell: RunningCell, why: str) -> str:
        """Wait while the kernel runs another client's request, which got in before the cell.

        That it does can be heard late: a cell that has not begun has the benefit of a doubt.
        """
        others = self._kernel.others
        if cell.begun.is_set() or not (others.busy or others.exist):
            return why
        waits = [asyncio.ensure_future(event.wait()) for event in (cell.begun, cell.over)]
        was_busy, heard = others.busy, set[asyncio.Future[Any]]()
        while not heard:
            heard, _ = await asyncio.wait(waits, timeout=BEGIN_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            was_busy = was_busy or others.busy
            if not others.busy:
                break
        for wait in waits:
            wait.cancel()
        return f"{why} while the kernel was busy for another client; it began after that," if was_busy else why

    async def _answers(self) -> bool:
        """Return whether the kernel would run a cell: an interrupt can leave it holding a lock for ever."""
        channels = self._kernel.channels
        if channels is None or self._kernel.why_no_cell is not None:
            return False
        reply = await channels.ask("shell", "execute_request", self._request("", silent=True), self._grace)
        return reply is not None and self._kernel.why_no_cell is None

    async def _give_up(self, cell: RunningCell) -> None:
        """Stop a cell that nobody waits for any more. One that waits for its turn never runs."""
        if cell.sent:
            if not cell.over.is_set():
                await self._stop(cell, "error", "The cell was given up", "KeyboardInterrupt")
        elif cell.cut_off or not cell.over.is_set():
            cell.fail("aborted", SandboxError("The cell was given up before it ran."), "Aborted")
            cell.finish()
            cell.conclude()

    @contextlib.asynccontextmanager
    async def between_cells(self) -> AsyncIterator[None]:
        """Take a turn for something else that the kernel is to do; inside the block no cell runs."""
        await asyncio.sleep(0)  # the tasks of cells that were begun before come first
        async with self._turn:
            yield

    async def restart(self, because: str) -> None:
        """Start a fresh kernel; the cell that runs, and all that wait, end. Raises what a start raises.

        It goes on where the caller is cancelled: half a restart would leave no kernel, and might cost the files.
        """
        self._restarts += 1
        self._restarted.clear()
        if self.current is not None:
            self.current.cut()
        if self._kernel.channels is not None:
            self._kernel.channels.give_up()
        task = asyncio.get_running_loop().create_task(self._restart(because, self._restarts))
        self._restarting.add(task)
        task.add_done_callback(self._restarting.discard)
        await asyncio.shield(task)

    async def _restart(self, because: str, number: int) -> None:
        try:
            async with self._turn:
                await self._kernel.start_anew(because)
        finally:
            if number == self._restarts:
                self._restarted.set()

    async def _tell_of_restart(self, cell: RunningCell) -> None:
        """End a cell that a restart has cut off, once it is known what that has left."""
        try:
            await self._restarted.wait()
        finally:
            closed = isinstance(self._kernel.why_no_cell, SessionClosed)
            why = f"The kernel was restarted {'while the cell ran' if cell.sent else 'before this cell ran'}."
            kept = "nothing" if closed else self._kernel.kept_by_restart
            cell.fail("aborted", SandboxError(why), "Aborted", kept=kept)

    def _end_current(self, cause: SandboxError) -> None:
        """End the cell that runs, because its kernel is gone."""
        if self.current is not None:
            self.current.end("dead", cause)

    async def interrupt(self) -> None:
        """Interrupt what the kernel runs; while that is another client's, only the cell that waits behind it."""
        cell, others = self.current, self._kernel.others
        if cell is None or cell.begun.is_set() or not (others.busy or others.exist):
            if cell is not None and cell.sent:
                cell.interrupted = True
            await self._kernel.send_interrupt()
        elif cell.sent:
            await self._stop(cell, "error", "The cell was interrupted", "KeyboardInterrupt")
        else:
            cell.end("aborted", SandboxError("The cell was interrupted before it ran."), "Aborted")

    # What the kernel says

    def _take_unparented(self, channel: str, message: Message) -> None:
        """Take what belongs to no request of the session's: output without any parent, and the state of others'."""
        kind, parent = message["msg_type"], message["parent"]
        if channel == "iopub" and kind == "status" and parent:
            self._kernel.others.note(parent, message["content"].get("execution_state"))
        elif channel == "iopub" and kind == "stream" and not parent and self.current is not None:
            self.current.take(channel, message)

    def _forget(self) -> None:
        """Forget the cells of a kernel that is gone, and what they displayed."""
        self._recorder.forget_displays()
        self._known.clear()

    def _remember(self, identifier: str, cell: RunningCell) -> None:
        self._known[identifier] = cell
        while len(self._known) > LATE_CELLS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            if self._kernel.channels is not None:
                self._kernel.channels.forget(oldest)

    def _ask_user(self, cell: RunningCell, prompt: str, password: bool) -> None:
        channels = self._kernel.channels
        if self._prompts.handler is None:
            if not self._kernel.language.is_python:  # whose kernels say so themselves; others wait for ever
                why = "The cell asked for input, which nobody can give here,"
                self._task(self._stop(cell, "error", why, "StdinNotImplementedError"))
        elif channels is not None:
            self._prompts.ask(prompt, password, channels.answer_input, functools.partial(self._lack_answer, cell))

    def _lack_answer(self, cell: RunningCell, exc: Exception) -> None:
        """End a cell whose question the user's handler could not put."""
        why = f"The cell asked for input, whose handler failed ({type(exc).__name__}: {exc!s:.500}),"
        self._task(self._stop(cell, "error", why, "InputHandlerFailed"))
