"""A session: one kernel in one sandbox, cells one after the other, everything that they showed kept.

Follow a cell from here: `stream` makes a Cell and a task for it; the task sends it through `channels`; the Cell
gathers outputs until it is over; the Recorder makes the Execution and the transcript's cell. `execute` is `stream`
drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio
from jupyter_client.manager import AsyncKernelManager

from kernel_sandbox.cell import Cell, CellStream
from kernel_sandbox.channels import Channels, refusals_named, shared_context
from kernel_sandbox.engines.base import new_session_id
from kernel_sandbox.errors import PolicyError, ProtocolViolation, SandboxError, SandboxLost, SessionClosed
from kernel_sandbox.files import AsyncSandboxFiles
from kernel_sandbox.outputs import Execution, Status
from kernel_sandbox.policy import Limits, Mount, SandboxSpec
from kernel_sandbox.prompts import Ask, Prompts
from kernel_sandbox.provisioner import LOG, SandboxProvisioner, kernelspec_in_memory
from kernel_sandbox.reactor import on_reactor
from kernel_sandbox.recorder import Recorder
from kernel_sandbox.transcript import Transcript
from kernel_sandbox.validate import Message

if TYPE_CHECKING:
    from kernel_sandbox.guest_link import GuestLink, Usage
    from kernel_sandbox.live import LiveSandbox

Timeout = float | None | Literal["default"]
NOTHING: Mapping[str, Any] = MappingProxyType({})
CLOSING = 1.0
"""Seconds in which cells end when their session is closed; they need no more than their turn."""
LATE_CELLS = 1000
"""How many finished cells still take what arrives late."""


class _Restarting(SandboxError):
    """Why no cell can run while a fresh kernel is started."""


class AsyncSession:
    """A stateful IPython kernel in a locked-down sandbox. Use it as an async context manager.

    `engine` is "docker", "bubblewrap", or None: what KERNEL_SANDBOX_ENGINE names, else Docker where it answers and has
    the image, else bubblewrap. Once open, `engine` and `engine_reason` tell which it is and why, and `weakened` what it
    cannot hold of its promises on this host. Everything else is a SandboxSpec, given as `spec` or field by field.
    `transcript` names an .ipynb file that is saved after every cell (or is a Transcript to go on with).
    `input_handler` answers input(): it gets the prompt (the sandbox's words, not yours) and whether a password is
    asked for; without one, input() is refused.

    Raises EngineUnavailable, ImageNotFound, EngineError or KernelNotReady where it cannot open; nothing is left then.
    """

    def __init__(
        self,
        *,
        engine: str | None = None,
        image: str | None = None,
        limits: Limits | None = None,
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        runtime: str | None = None,
        transport: Literal["ipc", "forward"] | None = None,
        spec: SandboxSpec | None = None,
        transcript: Transcript | str | Path | None = None,
        input_handler: Ask | None = None,
    ) -> None:
        given = {"image": image, "limits": limits, "mounts": tuple(mounts), "env": env}
        given |= {"runtime": runtime, "transport": transport}
        fields = {name: value for name, value in given.items() if value}
        if spec is not None and fields:
            raise PolicyError(f"Give either spec or {', '.join(fields)}, not both.")
        self.spec = spec or SandboxSpec(**fields)  # type: ignore[arg-type]
        self.engine, self.engine_reason = engine or "", ""
        self.weakened: tuple[str, ...] = ()
        self.id = new_session_id()
        if not isinstance(transcript, Transcript):
            transcript = Transcript(path=Path(transcript).expanduser() if transcript else None)
        self._recorder = Recorder(self.spec.limits, transcript)
        self.files = AsyncSandboxFiles(self._link)
        self.on_death: Callable[[SandboxError], None] | None = None
        """Called in the session's event loop when a kernel has died, with the reason."""
        self.kernel_info: dict[str, Any] = {}
        self._prompts = Prompts(input_handler)
        self._cells: dict[str, Cell] = {}
        self._current: Cell | None = None
        self._turn = asyncio.Lock()
        self._epoch = 0
        self._background: set[asyncio.Task[Any]] = set()
        self._runs: set[asyncio.Task[Any]] = set()  # of cells, those that wait for their turn included
        self._manager: AsyncKernelManager | None = None
        self._opening: asyncio.Future[None] | None = None
        self._ending = asyncio.Lock()
        self._channels: Channels | None = None
        self._death: SandboxError | None = SessionClosed("The session is not open: use it in a `with` block.")
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Start the sandbox and its kernel, and return when it is ready for the first cell."""
        if self._manager is not None or self._closed:
            raise SessionClosed("A session opens once: make a new one.")
        self._manager = AsyncKernelManager(context=shared_context(), log=LOG)
        # The property would look for files; this spec lives in memory.
        self._manager._kernel_spec = kernelspec_in_memory(self.engine or None, self.id, self.spec)
        self._opening = asyncio.ensure_future(self._start(self._manager))
        try:
            await self._opening
        except BaseException as exc:
            closed, self._closed = self._closed, True
            await self._release()
            if closed and isinstance(exc, asyncio.CancelledError):
                raise SessionClosed("The session was closed while it opened.") from None
            raise

    async def _start(self, manager: AsyncKernelManager) -> None:
        with refusals_named():
            await manager.start_kernel()
            await self._connect()

    async def aclose(self) -> None:
        """End the kernel and the sandbox. The transcript stays; the files under /mnt/data are gone."""
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            await self._release()

    async def _release(self) -> None:
        """End all that there is by now, also what a start that failed or was given up has left."""
        self._death = SessionClosed("The session is closed. Open a new one; its transcript can be replayed.")
        with anyio.CancelScope(shield=True):
            async with self._ending:
                self._end_current(SessionClosed("The session was closed while the cell ran."))
                if self._runs:
                    await asyncio.wait(self._runs, timeout=CLOSING)
                for task in (*self._runs, *self._background):
                    task.cancel()
                if self._channels is not None:
                    await self._channels.close()
                manager, self._manager = self._manager, None
                if manager is not None and manager.provisioner is not None:
                    try:  # before jupyter_client's own way, which begins with an interrupt and so needs a socket for it
                        await manager.provisioner.cleanup()
                    finally:
                        await manager.shutdown_kernel(now=True)

    async def _connect(self) -> None:
        """Connect to a kernel that has just started, and watch for its death."""
        assert self._manager is not None
        channels = self._channels = Channels(self._manager, self._take_unparented, self._channel_failed)
        channels.open()
        self.kernel_info = await channels.handshake(self.spec.limits.start_timeout)
        self._death = None
        live = self._live()
        self.engine, self.engine_reason, self.weakened = live.engine.name, live.engine_reason, live.sandbox.weakened
        self._in_background(self._watch_death(live), self._background)
        self._recorder.describe(self.kernel_info, live.provenance())

    def _live(self) -> LiveSandbox:
        if self._manager is not None and isinstance(self._manager.provisioner, SandboxProvisioner):
            live = self._manager.provisioner.live
            if live is not None:
                return live
        raise self._death or SandboxLost("The sandbox is gone. Call restart() for a new one.")

    def _link(self) -> GuestLink:
        live = self._live()
        if live.lost is not None:
            raise live.lost
        return live.link

    @property
    def death(self) -> SandboxError | None:
        """Why no cell can run until `restart`, where that is so: the kernel died, or the session is not open."""
        return None if isinstance(self._death, _Restarting) else self._death

    @property
    def transcript(self) -> Transcript:
        """The cells so far as a notebook, with all that has reached them by now."""
        return self._recorder.transcript

    @property
    def connection_file(self) -> Path:
        """The kernel's connection file on this host, for `jupyter console --existing` and other clients."""
        if self._manager is None or not self._manager.connection_file:
            raise self._death or SessionClosed("The session is not open.")
        return Path(self._manager.connection_file)

    async def execute(
        self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING
    ) -> Execution:
        """Run one cell and return what came of it. A failing cell is data: see `Execution.status`.

        `timeout` is in seconds; None waits for ever; by default it is `Limits.cell_timeout`. `metadata` goes to the
        transcript's cell (tags, for one). A cancelled call interrupts its cell first, so that the next one finds
        the kernel at rest. Raises TranscriptError where the transcript cannot be saved; the cell has run then.
        """
        stream = self.stream(source, timeout=timeout, metadata=metadata)
        try:
            async for _ in stream:
                pass
        except asyncio.CancelledError:
            await stream.aclose()
            raise
        assert stream.execution is not None
        return stream.execution

    def stream(self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING) -> CellStream:
        """Run one cell and iterate over its outputs as they come. Cells run in the order of these calls."""
        seconds = self.spec.limits.cell_timeout if timeout == "default" else timeout
        if seconds is not None and not seconds > 0:
            raise ValueError(f"timeout={timeout!r}: give seconds above 0, or None.")
        text = source.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no place in a message
        cell = self._recorder.new_cell(text, metadata)
        cell.on_input = self._ask_user
        run = self._in_background(self._run(cell, seconds, self._epoch), self._runs)
        return CellStream(cell, run, self._give_up)

    async def _run(self, cell: Cell, timeout: float | None, epoch: int) -> None:
        try:
            async with self._turn:
                cell.start_clock()
                self._current = cell
                if self._death is not None:
                    cell.end("dead", self._death)
                elif epoch != self._epoch:
                    cell.end("aborted", SandboxError("The kernel was restarted before this cell ran."), "Aborted")
                else:
                    await self._send(cell, timeout)
        finally:
            self._current = None
            self._prompts.withdraw()
            self._recorder.conclude(cell)

    async def _send(self, cell: Cell, timeout: float | None) -> None:
        assert self._channels is not None
        content = {
            "code": cell.source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": self._prompts.handler is not None,
            "stop_on_error": False,  # cells are sent one at a time: there is nothing to abort
        }
        identifier = self._channels.request("shell", "execute_request", content, cell.take)
        self._remember(identifier, cell)
        try:
            async with asyncio.timeout(timeout):
                await cell.attention.wait()
        except TimeoutError:
            await self._stop(cell, "timeout", f"The cell ran longer than {timeout:g} s", "CellTimeout")
        if not cell.over.is_set():
            await self._stop(cell, "error", "The cell showed more than its limit", "OutputLimit")

    async def _stop(self, cell: Cell, status: Status, why: str, ename: str) -> None:
        """End a running cell: interrupt, then SIGINT, then a restart; the cell's error says which it took."""
        grace = self.spec.limits.interrupt_grace
        for step in (self.interrupt, self._send_sigint):
            await step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(cell.over.wait(), grace)
            if cell.over.is_set():
                if cell.execution is None and cell.status is None:
                    cell.fail(status, SandboxError(f"{why} and was interrupted; variables are kept."), ename)
                return
        lost = "the kernel was restarted: variables are lost, files under /mnt/data stay"
        cell.end(status, SandboxError(f"{why} and did not stop when interrupted, so {lost}."), ename)
        with contextlib.suppress(SandboxError):  # the next cell tells of it
            await self._relaunch()

    async def _give_up(self, cell: Cell) -> None:
        """Stop a cell that nobody waits for any more, whether it runs or still waits for its turn."""
        if cell is self._current:
            await self._stop(cell, "error", "The cell was given up", "KeyboardInterrupt")
        else:
            cell.end("aborted", SandboxError("The cell was given up before it ran."), "Aborted")

    async def interrupt(self) -> None:
        """Interrupt the running cell, as Jupyter's stop button does: it ends with KeyboardInterrupt."""
        if self._channels is not None and self._death is None:
            answered = await self._channels.ask("control", "interrupt_request", {}, timeout=1.0)
            if answered is None:
                await self._send_sigint()

    async def _send_sigint(self) -> None:
        with contextlib.suppress(SandboxError):
            await on_reactor(self._live().signal_kernel, signal.SIGINT)

    async def restart(self) -> None:
        """Start a fresh kernel: variables and processes are gone, files under /mnt/data stay.

        A cell that runs, and those that wait, end as "aborted". Where the sandbox itself is gone a new one is
        started, without the files. Raises what `open` raises.
        """
        self._epoch += 1
        if self._current is not None:
            self._current.end("aborted", SandboxError("The kernel was restarted while the cell ran."), "Aborted")
        async with self._turn:
            await self._relaunch()

    async def _relaunch(self) -> None:
        async with self._ending:  # who closes the session waits: nothing may be started after its end
            if self._manager is None or self._closed:
                raise self._death or SessionClosed("The session is closed.")
            self._death = _Restarting("The kernel is being restarted.")
            self._recorder.forget_displays()
            self._cells.clear()
            if self._channels is not None:
                await self._channels.close()
            try:
                with refusals_named():
                    await self._manager.restart_kernel(now=True)
                    await self._connect()
            except SandboxError as exc:
                self._death = exc
                raise

    async def request(self, kind: str, content: dict[str, Any], timeout: float = 10.0) -> dict[str, Any] | None:
        """Ask the kernel something beside the cells (a completion, say): its reply's content; None where none came."""
        if self._death is not None or self._channels is None:
            raise self._death or SessionClosed("The session is not open.")
        return await self._channels.ask("shell", kind, content, timeout)

    async def usage(self) -> Usage:
        """Ask the sandbox what it uses now: memory and data in bytes, and how many processes."""
        return await on_reactor(lambda: self._link().usage())

    # What the kernel and the sandbox tell

    async def _watch_death(self, live: LiveSandbox) -> None:
        """Wait for the current kernel's end; end its cell at once, after what it had shown last."""
        death = live.death
        cause = await asyncio.wrap_future(death)
        if live.death is death and self._death is None:
            self._death = cause
            if self._channels is not None:
                await self._channels.settle()
            self._end_current(cause)
            if self.on_death is not None:
                self.on_death(cause)

    def _end_current(self, cause: SandboxError) -> None:
        if self._current is not None:
            self._current.end("dead", cause)

    def _take_unparented(self, channel: str, message: Message) -> None:
        """Give what has no known parent (a subprocess of an old kernel's child, say) to the running cell."""
        if channel == "iopub" and self._current is not None and message["msg_type"] == "stream":
            self._current.take(channel, message)

    def _channel_failed(self, exc: BaseException) -> None:
        """A reader must never end by itself: without it every later cell would wait for nothing."""
        if isinstance(exc, ProtocolViolation):
            # The sandbox's death, of which this is the cause, ends the cell.
            self._in_background(on_reactor(self._live().end_for_violation, str(exc)), self._background)
        else:
            self._death = SandboxError(f"Reading from the kernel failed ({type(exc).__name__}: {exc}). Call restart().")
            self._end_current(self._death)

    def _ask_user(self, prompt: str, password: bool) -> None:
        if self._channels is not None:
            self._prompts.ask(prompt, password, self._channels.answer_input)

    # Keeping

    def _remember(self, identifier: str, cell: Cell) -> None:
        self._cells[identifier] = cell
        while len(self._cells) > LATE_CELLS:
            oldest = next(iter(self._cells))
            del self._cells[oldest]
            if self._channels is not None:
                self._channels.forget(oldest)

    def _in_background(self, work: Any, tasks: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task
