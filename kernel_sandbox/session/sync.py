"""The sync facade: the same names as AsyncSession's, forwarded to one that lives in the reactor. No logic here.

It works in a plain script, in a thread, and where an event loop is running already (a notebook), because it never
runs one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.host.reactor import call_reactor, portal
from kernel_sandbox.sandbox.files import AsyncSandboxFiles, FileInfo
from kernel_sandbox.session.cell import CellStream
from kernel_sandbox.session.outputs import Event, Execution
from kernel_sandbox.session.session import NOTHING, AsyncSession, Timeout
from kernel_sandbox.session.transcript import Transcript

if TYPE_CHECKING:
    from kernel_sandbox.errors import Kept, SandboxError
    from kernel_sandbox.sandbox.link import Usage
    from kernel_sandbox.spec.values import SandboxSpec


class SandboxFiles(NotCopied):
    """AsyncSandboxFiles, in sync code."""

    def __init__(self, files: AsyncSandboxFiles) -> None:
        self._files = files

    def list(self, directory: str = "") -> tuple[FileInfo, ...]:
        return call_reactor(self._files.list, directory)

    def read(self, name: str) -> bytes:
        return call_reactor(self._files.read, name)

    def write(self, name: str, data: bytes | str) -> FileInfo:
        return call_reactor(self._files.write, name, data)

    def upload(self, path: str | Path | BinaryIO, name: str | None = None) -> FileInfo:
        return call_reactor(self._files.upload, path, name)

    def download(self, name: str, path: str | Path, *, limit: int | None = None) -> Path:
        async def download() -> Path:
            return await self._files.download(name, path, limit=limit)

        return call_reactor(download)

    def copy_to(self, name: str, file: BinaryIO, *, limit: int | None = None) -> int:
        async def copy() -> int:
            return await self._files.copy_to(name, file, limit=limit)

        return call_reactor(copy)

    def delete(self, name: str) -> None:
        call_reactor(self._files.delete, name)


class SyncCellStream:
    """CellStream, in sync code. Ctrl-C in the loop leaves the cell running: interrupt the session and go on."""

    def __init__(self, session: AsyncSession, source: str, timeout: Timeout, metadata: Mapping[str, Any]) -> None:
        async def start() -> CellStream:
            return session.stream(source, timeout=timeout, metadata=metadata)

        self._stream = call_reactor(start)

    @property
    def execution(self) -> Execution | None:
        return self._stream.execution

    @property
    def is_waiting(self) -> bool:
        return self._stream.is_waiting

    @property
    def generation(self) -> int | None:
        return self._stream.generation

    @property
    def restarted_because(self) -> str | None:
        return self._stream.restarted_because

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
        """Stop the cell if it still runs, and wait for its end."""
        call_reactor(self._stream.aclose)


class Session(NotCopied):
    """A stateful IPython kernel in a locked-down sandbox. Takes the arguments of AsyncSession; use it in `with`."""

    def __init__(self, **arguments: Any) -> None:
        async def make() -> AsyncSession:
            return AsyncSession(**arguments)

        self._session = call_reactor(make)
        self.files = SandboxFiles(self._session.files)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        call_reactor(self._session.open)

    def close(self) -> None:
        """AsyncSession.aclose, under the name that sync code expects."""
        call_reactor(self._session.aclose)

    def execute(self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING) -> Execution:
        async def execute() -> Execution:
            return await self._session.execute(source, timeout=timeout, metadata=metadata)

        return call_reactor(execute)

    def stream(
        self, source: str, *, timeout: Timeout = "default", metadata: Mapping[str, Any] = NOTHING
    ) -> SyncCellStream:
        return SyncCellStream(self._session, source, timeout, metadata)

    def interrupt(self) -> None:
        call_reactor(self._session.interrupt)

    def restart(self) -> None:
        call_reactor(self._session.restart)

    def request(self, kind: str, content: dict[str, Any], timeout: float = 10.0) -> dict[str, Any] | None:
        return call_reactor(self._session.request, kind, content, timeout)

    def get(self, name: str, *, limit: int | str = "256m") -> Any:
        async def get() -> Any:
            return await self._session.get(name, limit=limit)

        return call_reactor(get)

    def put(self, name: str, value: Any, *, limit: int | str = "256m", file: str | None = None) -> None:
        async def put() -> None:
            await self._session.put(name, value, limit=limit, file=file)

        call_reactor(put)

    def usage(self) -> Usage:
        return call_reactor(self._session.usage)

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def engine(self) -> str:
        return self._session.engine

    @property
    def engine_reason(self) -> str:
        return self._session.engine_reason

    @property
    def weakened(self) -> tuple[str, ...]:
        return self._session.weakened

    @property
    def spec(self) -> SandboxSpec:
        return self._session.spec

    @property
    def death(self) -> SandboxError | None:
        return self._session.death

    @property
    def generation(self) -> int:
        return self._session.generation

    @property
    def restarted_because(self) -> str | None:
        return self._session.restarted_because

    @property
    def kept_by_restart(self) -> Kept:
        return self._session.kept_by_restart

    @property
    def transcript(self) -> Transcript:
        return portal().call(lambda: self._session.transcript)

    @property
    def kernel_info(self) -> dict[str, Any]:
        return self._session.kernel_info

    @property
    def connection_file(self) -> Path:
        return self._session.connection_file
