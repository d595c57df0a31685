"""A session: one kernel in one sandbox, cells one after the other, everything that they showed kept.

Follow a cell from here: `stream` gives it to the CellRunner, which makes a Cell and a task for it; at its turn the task
sends it through `channels`; the Cell gathers outputs until it is over; the Recorder makes the Execution and the
transcript's cell. `execute` is `stream` drained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from kernel_sandbox.errors import Kept, PolicyError, SandboxError
from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.files import AsyncSandboxFiles
from kernel_sandbox.session.carried_variables import fetch_variable, send_variable
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.cell_runner import CellRunner
from kernel_sandbox.session.kernel_state import SessionState
from kernel_sandbox.session.outputs import Execution
from kernel_sandbox.session.prompts import InputHandler, Prompts
from kernel_sandbox.session.recorder import Recorder
from kernel_sandbox.session.session_kernel import SessionKernel
from kernel_sandbox.session.shell_commands import GRACE, CommandResult, require_command, shell_cell, shell_result
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.spec.forms import require, require_policy, require_seconds
from kernel_sandbox.spec.languages import Language
from kernel_sandbox.spec.values import Limits, Mount, SandboxSpec, parse_size
from kernel_sandbox.text.quoting import quoted

if TYPE_CHECKING:
    from kernel_sandbox.sandbox.engines.base import Sandbox
    from kernel_sandbox.sandbox.link import Usage
    from kernel_sandbox.sandbox.standing import StandingSandbox

Timeout = float | None | Literal["default"]
"""Seconds; None waits for ever, and "default" is `Limits.cell_timeout`."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class AsyncSession(NotCopied):
    """A stateful Jupyter kernel in a locked-down sandbox, IPython unless told. Use it in an `async with` block.

    `engine` is "docker", "bubblewrap", or None: what KERNEL_SANDBOX_ENGINE names, else Docker where it answers and has
    the image, else bubblewrap. Once open, `engine` and `engine_reason` tell which it is and why, and `weakened` what it
    cannot hold of its promises on this host. Everything else is a SandboxSpec, given as `spec` or field by field.
    `save` names the .ipynb file in which the cells are kept, after every cell; `transcript` is one to go on with.
    `input_handler` answers input(): it gets the prompt (the sandbox's words, not yours) and whether a password is
    asked for; without one, input() is refused.

    Raises EngineUnavailable, ImageNotFound, EngineError or KernelNotReady where it cannot open; nothing is left then.
    """

    def __init__(
        self,
        *,
        engine: str | None = None,
        image: str | None = None,
        kernel: str | None = None,
        limits: Limits | None = None,
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        runtime: str | None = None,
        transport: Literal["ipc", "forward"] | None = None,
        spec: SandboxSpec | None = None,
        save: str | Path | None = None,
        transcript: Transcript | None = None,
        input_handler: InputHandler | None = None,
    ) -> None:
        _require_forms(engine, spec, save, transcript, input_handler)
        given = {"image": image, "kernel": kernel, "limits": limits, "mounts": mounts, "env": env}
        given |= {"runtime": runtime, "transport": transport}
        fields = {name: value for name, value in given.items() if value not in (None, "", (), [], {})}
        if spec is not None and fields:
            raise PolicyError(f"Give either spec or {', '.join(fields)}, not both.")
        self.spec = spec or SandboxSpec(**fields)  # type: ignore[arg-type]
        """What the sandbox may do and use."""
        self.engine = engine or ""
        """The engine's name; before the session is open, the one that was asked for, or nothing."""
        self.engine_reason = ""
        """Why it is this engine; empty until the session is open."""
        self.id = new_session_id()
        """The sandbox's name in its engine, made at random. No secret."""
        self._sandbox: Sandbox | None = None
        transcript = Transcript() if transcript is None else transcript
        if save:
            transcript.path = Path(save).expanduser()
        self._recorder = Recorder(self.spec.limits, transcript)
        self.on_death: Callable[[SandboxError], None] | None = None
        """Called in the session's event loop when a kernel has died, with the reason."""
        self._kernel = SessionKernel(engine, self.id, self.spec)
        self._kernel.on_connected, self._kernel.on_death = self._connected, self._died
        self._runner = CellRunner(self._kernel, self._recorder, Prompts(input_handler))
        self._reviving = asyncio.Lock()
        """Held while a dead kernel is started again: the others who found it dead wait for that, and start none."""
        self.files = AsyncSandboxFiles(self._kernel.link, self.spec)
        """The files under /mnt/data."""

    def __repr__(self) -> str:
        return describe_session(self, type(self).__name__)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Start the sandbox and its kernel, and return when it is ready for the first cell."""
        await self._kernel.open(self._runner.tasks)

    async def aclose(self) -> None:
        """End the kernel and the sandbox. The transcript stays; the files under /mnt/data are gone."""
        await self._kernel.aclose(self._runner.tasks)

    def _take_over(self, sandbox: StandingSandbox) -> None:
        """Start in this sandbox, which is being opened already. Only before `open`."""
        self.id = sandbox.session_id
        self._kernel.take_over(sandbox)

    def _connected(self) -> None:
        live = self._kernel.live()
        self.engine, self.engine_reason, self._sandbox = live.engine.name, live.engine_reason, live.sandbox
        self._recorder.describe(self._kernel.info, self.language, live.provenance())

    def _died(self, cause: SandboxError) -> None:
        if self.on_death is not None:
            self.on_death(cause)

    @property
    def state(self) -> SessionState:
        """What the session does now."""
        stage = self._kernel.stage
        if stage == "open":
            return "idle" if self._runner.current is None else "busy"
        return stage

    @property
    def weakened(self) -> tuple[str, ...]:
        """What of the profile this machine does not hold, in words; also what it has ceased to hold meanwhile."""
        return self._sandbox.weakened if self._sandbox else ()

    @property
    def kernel_info(self) -> dict[str, Any]:
        """What the kernel says of itself: its reply to kernel_info_request."""
        return self._kernel.info

    @property
    def language(self) -> Language:
        """What cells are written in; before the session is open, what its image is for."""
        return self._kernel.language

    @property
    def death(self) -> SandboxError | None:
        """Why no cell can run until `restart`, where that is so: the kernel died, or the session is not open."""
        return self._kernel.death

    @property
    def generation(self) -> int:
        """How many kernels have run in this session; every restart adds one. Variables are of one generation."""
        return self._kernel.generation

    @property
    def restarted_because(self) -> str | None:
        """Why the current kernel was started, where it is not the first."""
        return self._kernel.restarted_because

    @property
    def kept_by_restart(self) -> Kept:
        """What the last restart left: "files", or "nothing" where the sandbox had gone too."""
        return self._kernel.kept_by_restart

    @property
    def transcript(self) -> Transcript:
        """The cells so far as a notebook, with all that has reached them by now."""
        return self._recorder.transcript

    @property
    def connection_file(self) -> Path:
        """The kernel's connection file on this host, for `jupyter console --existing` and other clients."""
        return self._kernel.connection_file

    async def execute(
        self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING
    ) -> Execution:
        """Run one cell and return what came of it. A failing cell is data: see `Execution.status`.

        `timeout` is in seconds; None waits for ever; by default it is `Limits.cell_timeout`. `metadata` goes to the
        transcript's cell (tags, for one). A call that is cancelled, as by Ctrl-C, interrupts its cell first, so that
        the next one finds the kernel at rest. Raises TranscriptError where the transcript cannot be saved; the cell
        has run then.
        """
        stream = self.stream(source, timeout=timeout, metadata=metadata)
        try:
            async for _ in stream:
                pass
        except asyncio.CancelledError:
            await stream.aclose()
            raise
        return stream.result()

    def stream(
        self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING
    ) -> AsyncCellStream:
        """Run one cell and iterate over its outputs as they come. Cells run in the order of these calls."""
        self._kernel.check_open()
        seconds = self._seconds(timeout)
        require("source", source, str, "the cell's code as text")
        require("metadata", metadata, Mapping, "the cell's metadata by name, such as {'tags': []}")
        return self._runner.begin(source, seconds, metadata)

    async def run_command(
        self, command: str | Sequence[str], *, timeout: Timeout = "default", posix: bool = False
    ) -> CommandResult:
        """Run a shell command in the sandbox: a text for bash (sh, with `posix`), or its words without a shell.

        It runs in the kernel's directory and environment, takes its turn among the cells, and stands in the
        transcript as one. A failing command is data: see `CommandResult.exit_status`. Past `timeout`, as `execute` has
        it, the command and all that it started are killed, and the exit status is 124.
        """
        self._kernel.check_open()
        self._kernel.require_python("Shell commands are run by way of Python")
        seconds = self._seconds(timeout)
        require_command(command)
        source = shell_cell(command, timeout=seconds, posix=posix)
        return shell_result(await self.execute(source, timeout=None if seconds is None else seconds + GRACE))

    def _seconds(self, timeout: Timeout) -> float | None:
        """What a cell gets that asks for `timeout`. Raises TypeError and ValueError."""
        seconds = self.spec.limits.cell_timeout if timeout == "default" else timeout
        if seconds is not None:
            require_seconds("timeout", seconds)
        return seconds

    async def interrupt(self) -> None:
        """Interrupt what the kernel runs, as Jupyter's stop button does: the cell ends with KeyboardInterrupt."""
        self._kernel.check_open()
        await self._runner.interrupt()

    async def restart(self) -> None:
        """Start a fresh kernel: variables and processes are gone, files under /mnt/data stay.

        A cell that runs, and those that wait, end as "aborted". Where the sandbox itself is gone a new one is
        started, without the files. A restart whose call is cancelled goes on. Raises what `open` raises.
        """
        self._kernel.check_open()
        death = self.death
        await self._runner.restart(death.happened if death is not None else "The kernel was restarted.")

    async def restart_if_dead(self) -> None:
        """Start a fresh kernel where this one has died, as `restart` does; nothing where it lives.

        Whoever finds it dead at the same time waits for the same restart. `kept_by_restart` tells what is still there.
        """
        self._kernel.check_open()
        async with self._reviving:
            if self.death is not None:
                await self.restart()

    async def request(self, kind: str, content: dict[str, Any], timeout: float = 10.0) -> dict[str, Any] | None:
        """Ask the kernel something beside the cells (a completion, say): its reply's content; None where none came."""
        require("kind", kind, str, "a message type as text, such as 'complete_request'")
        require("content", content, dict, "the message's content, such as {}")
        require_seconds("timeout", timeout)
        return await self._kernel.connected().ask("shell", kind, content, timeout)

    async def get(self, name: str, *, limit: int | str = "256m") -> Any:
        """Return a copy of a variable of the kernel, whole and exact: a DataFrame, an array, numbers, lists, dates.

        Nothing is unpickled. A cell that runs is waited for. Raises VariableNotFound, VariableTooLarge beyond `limit`
        bytes, and VariableError for a value that cannot be carried.
        """
        self._kernel.check_open()
        self._kernel.require_python("Variables are carried from and to Python")
        async with self._runner.between_cells():
            return await fetch_variable(self, name, parse_size(limit))

    async def put(self, name: str, value: Any, *, limit: int | str = "256m", file: str | None = None) -> None:
        """Set a variable of the kernel to a copy of a value, as `get` carries it.

        Raises VariableError, and SandboxFull where /mnt/data has no room for it on its way.

        `file` keeps a DataFrame under /mnt/data, too: a name that ends in .parquet, or CSV.
        """
        self._kernel.check_open()
        self._kernel.require_python("Variables are carried from and to Python")
        async with self._runner.between_cells():
            await send_variable(self, name, value, parse_size(limit), file)

    async def usage(self) -> Usage:
        """Ask the sandbox what it uses now: memory and data in bytes, and how many processes."""
        return await on_reactor(lambda: self._kernel.link().usage())


def describe_session(session: AsyncSession, kind: str) -> str:
    """Return a session in a line, as its `repr` and its sync twin's; also one whose constructor has failed."""
    made = vars(session)
    if "files" not in made:  # the last that is set
        return f"<{kind}>"
    engine = f"engine {quoted(session.engine)}, " if session.engine else ""
    return f"<{kind} {session.id}: {session.state}, {engine}image {quoted(session.spec.image)}>"


def _require_forms(engine: Any, spec: Any, save: Any, transcript: Any, input_handler: Any) -> None:
    require("engine", engine, (str, type(None)), "'docker', 'bubblewrap' or None")
    require_policy("spec", spec, (SandboxSpec, type(None)), "a SandboxSpec")
    require("save", save, (str, Path, type(None)), "a notebook's path")
    require("transcript", transcript, (Transcript, type(None)), "a Transcript (save= takes a notebook's path)")
    if save and Path(save).suffix != ".ipynb":
        raise PolicyError(f"save={str(save)!r}: give a notebook's path, which ends in .ipynb.")
    if input_handler is not None and not callable(input_handler):
        raise TypeError(f"input_handler={input_handler!r:.100}: give a function of a prompt and a bool, or None.")
