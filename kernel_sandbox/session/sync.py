"""The sync facade: AsyncSession, AsyncCellStream and AsyncSandboxFiles without `await`. No logic here.

Each forwards to one that lives in the reactor. It works in a plain script, in a thread, and where an event loop is
running already (a notebook), because it never runs one of its own. Signatures and docstrings are written out, so that
editors and type checkers see them; tests/test_public_face.py holds them equal to the originals'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.host.reactor import call_reactor, portal
from kernel_sandbox.sandbox.files import AsyncSandboxFiles, FileInfo
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.kernel_state import SessionState
from kernel_sandbox.session.outputs import Event, Execution
from kernel_sandbox.session.prompts import InputHandler
from kernel_sandbox.session.session import NOTHING, AsyncSession, Timeout, describe_session
from kernel_sandbox.session.shell_commands import CommandResult
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.spec.languages import Language
from kernel_sandbox.spec.values import Limits, Mount, SandboxSpec

if TYPE_CHECKING:
    from kernel_sandbox.errors import Kept, SandboxError
    from kernel_sandbox.sandbox.link import Usage
    from kernel_sandbox.sandbox.standing import BegunSandbox


class SandboxFiles(NotCopied):
    """List, read, write and delete under /mnt/data. Names are paths below it, with `/`; `..` is refused.

    Every method raises FileError or a kind of it, and SandboxLost when the sandbox is gone.
    """

    def __init__(self, files: AsyncSandboxFiles) -> None:
        self._files = files

    def list(self, directory: str = "") -> tuple[FileInfo, ...]:
        """List the whole tree below a directory, sorted by name; symbolic links and devices are left out.

        Raises FileError for more than 10,000 entries.
        """
        return call_reactor(self._files.list, directory)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, 256 MB at the most (`download` takes larger ones)."""
        return call_reactor(self._files.read, name)

    def write(self, name: str, data: bytes | str) -> FileInfo:
        """Write a file, replacing one of that name in one step; directories on the way are made. Text is UTF-8."""
        return call_reactor(self._files.write, name, data)

    def upload(self, path: str | Path | BinaryIO, name: str | None = None) -> FileInfo:
        """Copy a host file into the sandbox, under its own name unless another is given.

        An open file (binary, seekable) goes whole, from its beginning, and needs a `name`. Raises FileError where
        `path` is not a regular file that can be read.
        """
        return call_reactor(self._files.upload, path, name)

    def download(self, name: str, path: str | Path, *, limit: int | None = None) -> Path:
        """Copy a file out to `path` on the host (into it under the file's own name, if it is a directory).

        The host sees the old file or the whole new one, never a part. Raises FileError where it cannot write, and
        for a file of more than `limit` bytes.
        """
        return call_reactor(partial(self._files.download, name, path, limit=limit))

    def copy_to(self, name: str, file: BinaryIO, *, limit: int | None = None) -> int:
        """Write a file's bytes to an open file on the host, and give their number. Raises as `download` does."""
        return call_reactor(partial(self._files.copy_to, name, file, limit=limit))

    def delete(self, name: str) -> None:
        """Delete a file, a symbolic link or an empty directory."""
        call_reactor(self._files.delete, name)


class CellStream:
    """The live events of one cell: iterate it. `execution` is there when it has ended.

    A loop that is left early leaves the cell running; `close` interrupts it and waits for its end. A loop that falls
    far behind misses events (updates of displays, mostly); `execution` misses nothing.
    """

    def __init__(self, session: AsyncSession, source: str, timeout: Timeout, metadata: Mapping[str, Any]) -> None:
        async def start() -> AsyncCellStream:
            return session.stream(source, timeout=timeout, metadata=metadata)

        self._stream = call_reactor(start)

    @property
    def is_waiting(self) -> bool:
        """Whether the cell waits for its turn: the kernel has heard nothing of it."""
        return self._stream.is_waiting

    @property
    def generation(self) -> int | None:
        """Which kernel of the session the cell was sent to; None while it waits, and where it never was."""
        return self._stream.generation

    @property
    def restarted_because(self) -> str | None:
        """Why that kernel was started, where it is not the session's first."""
        return self._stream.restarted_because

    @property
    def execution(self) -> Execution | None:
        """What came of the cell; None until it has ended."""
        return self._stream.execution

    def result(self) -> Execution:
        """Return what came of the cell. Raises SandboxError where it has not ended."""
        return self._stream.result()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        async def following() -> Event | None:
            return await anext(self._stream, None)

        event = call_reactor(following)
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Stop the cell if it still runs, and wait for its end; one that waits for its turn never runs, at once."""
        call_reactor(self._stream.aclose)


class Session(NotCopied):
    """A stateful Jupyter kernel in a locked-down sandbox, IPython unless told. Use it in a `with` block.

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
        async def make() -> AsyncSession:
            return AsyncSession(
                engine=engine,
                image=image,
                kernel=kernel,
                limits=limits,
                mounts=mounts,
                env=env,
                runtime=runtime,
                transport=transport,
                spec=spec,
                save=save,
                transcript=transcript,
                input_handler=input_handler,
            )

        self._session = call_reactor(make)
        self.files = SandboxFiles(self._session.files)
        """The files under /mnt/data."""

    def __repr__(self) -> str:
        session = vars(self).get("_session")
        kind = type(self).__name__
        return f"<{kind}>" if session is None else describe_session(session, kind)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start the sandbox and its kernel, and return when it is ready for the first cell."""
        call_reactor(self._session.open)

    def close(self) -> None:
        """End the kernel and the sandbox. The transcript stays; the files under /mnt/data are gone."""
        call_reactor(self._session.aclose)

    @property
    def id(self) -> str:
        """The sandbox's name in its engine, made at random. No secret."""
        return self._session.id

    @property
    def spec(self) -> SandboxSpec:
        """What the sandbox may do and use."""
        return self._session.spec

    @property
    def engine(self) -> str:
        """The engine's name; before the session is open, the one that was asked for, or nothing."""
        return self._session.engine

    @property
    def engine_reason(self) -> str:
        """Why it is this engine; empty until the session is open."""
        return self._session.engine_reason

    @property
    def state(self) -> SessionState:
        """What the session does now."""
        return self._session.state

    @property
    def weakened(self) -> tuple[str, ...]:
        """What of the profile this machine does not hold, in words; also what it has ceased to hold meanwhile."""
        return self._session.weakened

    @property
    def kernel_info(self) -> dict[str, Any]:
        """What the kernel says of itself: its reply to kernel_info_request."""
        return self._session.kernel_info

    @property
    def language(self) -> Language:
        """What cells are written in; before the session is open, what its image is for."""
        return self._session.language

    @property
    def death(self) -> SandboxError | None:
        """Why no cell can run until `restart`, where that is so: the kernel died, or the session is not open."""
        return self._session.death

    @property
    def generation(self) -> int:
        """How many kernels have run in this session; every restart adds one. Variables are of one generation."""
        return self._session.generation

    @property
    def restarted_because(self) -> str | None:
        """Why the current kernel was started, where it is not the first."""
        return self._session.restarted_because

    @property
    def kept_by_restart(self) -> Kept:
        """What the last restart left: "files", or "nothing" where the sandbox had gone too."""
        return self._session.kept_by_restart

    @property
    def transcript(self) -> Transcript:
        """The cells so far as a notebook, with all that has reached them by now."""
        return portal().call(lambda: self._session.transcript)

    @property
    def connection_file(self) -> Path:
        """The kernel's connection file on this host, for `jupyter console --existing` and other clients."""
        return self._session.connection_file

    def execute(self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING) -> Execution:
        """Run one cell and return what came of it. A failing cell is data: see `Execution.status`.

        `timeout` is in seconds; None waits for ever; by default it is `Limits.cell_timeout`. `metadata` goes to the
        transcript's cell (tags, for one). A call that is cancelled, as by Ctrl-C, interrupts its cell first, so that
        the next one finds the kernel at rest. Raises TranscriptError where the transcript cannot be saved; the cell
        has run then.
        """
        return call_reactor(partial(self._session.execute, source, timeout=timeout, metadata=metadata))

    def stream(self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING) -> CellStream:
        """Run one cell and iterate over its outputs as they come. Cells run in the order of these calls."""
        return CellStream(self._session, source, timeout, metadata)

    def run_command(
        self, command: str | Sequence[str], *, timeout: Timeout = "default", posix: bool = False
    ) -> CommandResult:
        """Run a shell command in the sandbox: a text for bash (sh, with `posix`), or its words without a shell.

        It runs in the kernel's directory and environment, takes its turn among the cells, and stands in the
        transcript as one. A failing command is data: see `CommandResult.exit_status`. Past `timeout`, as `execute` has
        it, the command and all that it started are killed, and the exit status is 124.
        """
        return call_reactor(partial(self._session.run_command, command, timeout=timeout, posix=posix))

    def interrupt(self) -> None:
        """Interrupt what the kernel runs, as Jupyter's stop button does: the cell ends with KeyboardInterrupt."""
        call_reactor(self._session.interrupt)

    def restart(self) -> None:
        """Start a fresh kernel: variables and processes are gone, files under /mnt/data stay.

        A cell that runs, and those that wait, end as "aborted". Where the sandbox itself is gone a new one is
        started, without the files. A restart whose call is cancelled goes on. Raises what `open` raises.
        """
        call_reactor(self._session.restart)

    def restart_if_dead(self) -> None:
        """Start a fresh kernel where this one has died, as `restart` does; nothing where it lives.

        Whoever finds it dead at the same time waits for the same restart. `kept_by_restart` tells what is still there.
        """
        call_reactor(self._session.restart_if_dead)

    def request(self, kind: str, content: dict[str, Any], timeout: float = 10.0) -> dict[str, Any] | None:
        """Ask the kernel something beside the cells (a completion, say): its reply's content; None where none came."""
        return call_reactor(self._session.request, kind, content, timeout)

    def get(self, name: str, *, limit: int | str = "256m") -> Any:
        """Return a copy of a variable of the kernel, whole and exact: a DataFrame, an array, numbers, lists, dates.

        Nothing is unpickled. A cell that runs is waited for. Raises VariableNotFound, VariableTooLarge beyond `limit`
        bytes, and VariableError for a value that cannot be carried.
        """
        return call_reactor(partial(self._session.get, name, limit=limit))

    def put(self, name: str, value: Any, *, limit: int | str = "256m", file: str | None = None) -> None:
        """Set a variable of the kernel to a copy of a value, as `get` carries it.

        Raises VariableError, and SandboxFull where /mnt/data has no room for it on its way.

        `file` keeps a DataFrame under /mnt/data, too: a name that ends in .parquet, or CSV.
        """
        call_reactor(partial(self._session.put, name, value, limit=limit, file=file))

    def usage(self) -> Usage:
        """Ask the sandbox what it uses now: memory and data in bytes, and how many processes."""
        return call_reactor(self._session.usage)


def session_in(
    begun: BegunSandbox,
    *,
    save: Path | None = None,
    transcript: Transcript | None = None,
    input_handler: InputHandler | None = None,
) -> Session:
    """Make a session of a sandbox that is being opened already; its `open` waits for that, and raises what it did."""
    given: dict[str, Any] = {"save": save, "transcript": transcript, "input_handler": input_handler}
    session = Session(engine=begun.standing.engine, spec=begun.standing.spec, **given)
    session._session._take_over(begun.standing)
    return session
