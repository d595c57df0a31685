"""SessionService: every operation on a session, by its Address. What all doors of the server call; no HTTP here.

A door gets an Address from `ownership` (which checks that the identity may have it), calls one method, and translates
the values. Failures are SandboxErrors; `failures.py` says what they are in HTTP. No message holds an identifier.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from kernel_sandbox.errors import Kept, SandboxError, SandboxFileNotFound, TranscriptError
from kernel_sandbox.pool import PooledSession, SessionNotFound, SessionPool
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.service.clients import REQUESTS, Clients
from kernel_sandbox.service.idempotency import IdempotentRuns
from kernel_sandbox.service.image_facts import ImageFacts, read_image_facts
from kernel_sandbox.service.logs import log_event
from kernel_sandbox.service.ownership import Address, Reach
from kernel_sandbox.service.results import Results
from kernel_sandbox.service.runs import Runs, Watched
from kernel_sandbox.service.saved import SavedTranscript, SavedTranscripts
from kernel_sandbox.service.session_values import ServedExecution, SessionView, Streaming
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.service.storage import Store
from kernel_sandbox.session.shell_commands import GRACE, shell_cell

if TYPE_CHECKING:
    from kernel_sandbox.sandbox.link import Usage

DEFAULT_TIMEOUT = 120.0
"""Seconds of a cell or a command that names none."""
RETRY_AFTER = 5
"""Seconds after which it is worth asking again, where only another request's end can help."""
MARGIN = 5.0
"""Seconds that a cell is waited for less than its request may take: what is cut off would be told nothing."""


class SessionMissing(SandboxError):
    """There is no such session; another identity's counts as none."""


class QuotaExceeded(SandboxError):
    """An identity has as many of something as it may have."""

    def __init__(self, message: str, *, retry_after: int = RETRY_AFTER) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionService:
    """Every operation on sessions. One per server; its methods run in the event loop of the pool."""

    def __init__(self, pool: SessionPool, store: Store, settings: ServerSettings, saved: SavedTranscripts) -> None:
        self.pool = pool
        self.store = store
        self.settings = settings
        self.saved = saved
        self.results = Results(store)
        self.runs = Runs()
        self.idempotent = IdempotentRuns()
        self._clients = Clients()
        self._image_facts: ImageFacts | None = None

    async def aclose(self) -> None:
        """End what runs in the background. The pool is closed by who opened it."""
        await self.runs.aclose()
        await self.results.aclose()
        await self.saved.flush()

    # Sessions

    async def create(self, address: Address) -> tuple[SessionView, bool]:
        """Return a session, made if there is none, and whether it is new.

        Raises QuotaExceeded, PoolFull, and what starting a sandbox raises.
        """
        before = self.pool.find(address.key)
        async with self._opened(address, create=True) as pooled:
            if pooled is not before:
                self._clients.forget(address, REQUESTS)  # the answer says that it is new
            self._clients.meet(pooled, REQUESTS)
            return _view(address, pooled), pooled is not before

    def describe(self, address: Address) -> SessionView:
        """Return what is known of a session; it does not count as a use of it. Raises SessionMissing."""
        return _view(address, self._found(address))

    def sessions(self, reach: Reach) -> list[SessionView]:
        """List the sessions within reach, the oldest first."""
        within = [view for view in self._live() if reach.holds(view.address)]
        return sorted(within, key=lambda view: view.created_at)

    def _live(self) -> list[SessionView]:
        live = [pooled for pooled in self.pool.sessions if pooled.state != "closing"]
        return [_view(Address.from_key(pooled.identifier), pooled) for pooled in live]

    async def shutdown(self, address: Address, *, client: str | None = REQUESTS) -> None:
        """End a session: its variables and files are gone, its notebook stays. Raises SessionMissing.

        `client` asks for it, and so need not be told of it; None is none of the session's clients.
        """
        if client is not None:
            self._clients.forget(address, client)
        self.idempotent.forget_session(address)
        if not await self.pool.shutdown(address.key):
            raise SessionMissing("There is no such session.")

    async def interrupt(self, address: Address) -> None:
        """Interrupt the cell that runs; nothing where none does. Raises SessionMissing."""
        pooled = self._found(address)
        if pooled.state not in ("starting", "restarting"):
            await pooled.session.interrupt()

    async def restart(self, address: Address, *, client: str = REQUESTS) -> SessionView:
        """Start a fresh kernel in the session: variables are gone, files stay. Raises SessionMissing.

        `client` asks for it, and so need not be told of it.
        """
        before = self._found(address)
        generation = 0 if before.is_new else before.session.generation
        async with self._opened(address, create=False) as pooled:
            if pooled is not before or pooled.session.generation == generation:  # else a dead one was just started
                await pooled.session.restart()
            self._clients.meet(pooled, client).note_restart(pooled.session.generation)
            return _view(address, pooled)

    def kept_by_restart(self, address: Address) -> Kept:
        """Return what the last restart of a session left. Raises SessionMissing."""
        return self._found(address).session.kept_by_restart

    def meet(self, address: Address, client: str) -> None:
        """Note that a client knows the session as it is now: it is to be told of restarts from here on."""
        pooled = self.pool.find(address.key)
        if pooled is not None and not pooled.is_new:
            self._clients.meet(pooled, client)

    async def usage(self, address: Address) -> Usage:
        """Ask a session's sandbox what it uses now. Raises SessionMissing and SandboxLost."""
        return await self._found(address).session.usage()

    # Cells

    async def execute(
        self,
        address: Address,
        source: str,
        *,
        timeout: float | None = None,
        create: bool = True,
        watched: Watched | None = None,
    ) -> ServedExecution:
        """Run a cell and wait for its end. A failing cell is data. A cancelled call interrupts its cell.

        `timeout` is in seconds, at most the server's maximum. With `create` a missing session is made, else
        SessionMissing is raised. `watched` sees the cell while it is waited for.
        """
        return await self._run_cell(address, source, self.seconds(timeout), create, watched)

    async def _run_cell(
        self, address: Address, source: str, seconds: float, create: bool, watched: Watched | None
    ) -> ServedExecution:
        asked = time.perf_counter()
        async with self._streaming(address, source, seconds, create, REQUESTS) as streaming:
            if watched is not None:
                watched.cell = streaming.cell
            with suppressing_unsaved():
                async for _ in streaming.cell:
                    pass
            execution = streaming.cell.result()
            waited = max(time.perf_counter() - asked - execution.duration, 0.0)
            news = streaming.news() if watched is None or watched.is_heard else None
            return ServedExecution(execution, streaming.session_id, streaming.new_session, waited, news)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        address: Address,
        source: str,
        *,
        timeout: float | None = None,
        create: bool = True,
        client: str = REQUESTS,
    ) -> AsyncIterator[Streaming]:
        """Run a cell and iterate over its outputs as they come; leaving the block early interrupts it."""
        async with self._streaming(address, source, self.seconds(timeout), create, client) as streaming:
            yield streaming

    @contextlib.asynccontextmanager
    async def _streaming(
        self, address: Address, source: str, seconds: float, create: bool, client: str
    ) -> AsyncIterator[Streaming]:
        before = self.pool.find(address.key)
        self.meet(address, client)  # before a dead kernel is started again
        async with self._opened(address, create=create) as pooled:
            meeting = self._clients.meet(pooled, client)
            stream = pooled.stream(source, timeout=seconds)
            try:
                yield Streaming(stream, meeting, pooled.session.id, pooled is not before)
            finally:
                with suppressing_unsaved():
                    await stream.aclose()
                self.saved.note(address, pooled.session.transcript)

    async def run_command(
        self,
        address: Address,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        posix: bool = False,
        create: bool = True,
        watched: Watched | None = None,
    ) -> ServedExecution:
        """Run a shell command in the sandbox: a text for bash (sh, with `posix`), or its words without a shell.

        It and all that it started are killed after `timeout`. It takes its turn among the cells, and stands in the
        notebook as one; `shell_commands.shell_result` reads what came of it.
        """
        seconds = self.seconds(timeout)
        source = shell_cell(command, timeout=seconds, posix=posix)
        return await self._run_cell(address, source, seconds + GRACE, create, watched)

    @property
    def patience(self) -> float:
        """Seconds for which a request waits for its cell."""
        longest = self.settings.request_timeout
        return max(longest - MARGIN, longest / 2)

    def seconds(self, timeout: float | None) -> float:
        """What a cell gets that asks for `timeout`."""
        longest = float(self.settings.max_timeout)
        return min(DEFAULT_TIMEOUT if timeout is None else timeout, longest)

    # Files

    async def list_files(self, address: Address, directory: str = "") -> tuple[FileInfo, ...]:
        """List the tree below a directory of /mnt/data. A session that there is not yet has no files."""
        if self.pool.find(address.key) is None and not directory:
            return ()
        async with self._opened(address, create=False) as pooled:
            return await pooled.session.files.list(directory)

    async def describe_file(self, address: Address, name: str) -> FileInfo:
        """Return what is known of one file or directory. Raises SandboxFileNotFound."""
        directory = name.rpartition("/")[0]
        async with self._opened(address, create=False) as pooled:
            for info in await pooled.session.files.list(directory):
                if info.name == name:
                    return info
        raise SandboxFileNotFound("There is no such file under /mnt/data. List the files to see what is there.")

    async def write_file(self, address: Address, name: str, file: BinaryIO, *, create: bool = True) -> FileInfo:
        """Copy an open file into the session, replacing one of that name in one step."""
        async with self._opened(address, create=create) as pooled:
            return await pooled.session.files.upload(file, name)

    async def read_file(self, address: Address, name: str, file: BinaryIO) -> int:
        """Copy a file of the session to an open file, and give its size."""
        async with self._opened(address, create=False) as pooled:
            return await pooled.session.files.copy_to(name, file, limit=self.settings.max_upload_bytes)

    async def delete_file(self, address: Address, name: str) -> None:
        """Delete a file or an empty directory. Raises SandboxFileNotFound."""
        async with self._opened(address, create=False) as pooled:
            await pooled.session.files.delete(name)

    # What stays

    async def transcript(self, address: Address) -> bytes:
        """Give the session's notebook, as it stands now; of one that has ended, the last that was saved.

        Raises SessionMissing where there is neither.
        """
        pooled = self.pool.find(address.key)
        if pooled is not None:
            return pooled.session.transcript.to_bytes()
        found = await self.saved.newest(address)
        if found is None:
            raise SessionMissing("There is no such session, and no notebook of one.")
        return found

    async def kept(self, reach: Reach) -> list[SavedTranscript]:
        """List the notebooks within reach of sessions that have ended, the newest first."""
        live = [pooled for pooled in self.pool.sessions if not pooled.is_new and pooled.state != "closing"]
        growing = {path.stem for pooled in live if (path := pooled.session.transcript.path) is not None}
        return [each for each in await self.saved.of(reach) if each.id not in growing]

    def cells(self, address: Address, first: int, most: int) -> tuple[int, list[dict[str, Any]]]:
        """How many cells a session's notebook has, and `most` of them from a position on. Raises SessionMissing."""
        pooled = self._found(address)
        if pooled.is_new:  # it waits for its sandbox
            return 0, []
        transcript = pooled.session.transcript
        return len(transcript.cells), transcript.cells_as_json(first, most)

    async def image_facts(self) -> ImageFacts:
        """Return the image's Python and packages, as a session of it says; it is asked once."""
        if self._image_facts is None:
            address = Address("", "image facts")  # no identity has an empty name
            async with self._opened(address, create=True) as pooled:
                self._image_facts = await read_image_facts(pooled)
            await self.pool.shutdown(address.key)
        return self._image_facts

    # Reaching a session

    def _found(self, address: Address) -> PooledSession:
        pooled = self.pool.find(address.key)
        if pooled is None:
            raise SessionMissing("There is no such session.")
        return pooled

    @contextlib.asynccontextmanager
    async def _opened(self, address: Address, *, create: bool) -> AsyncIterator[PooledSession]:
        """Hold a session while something is done with it, so that it does not expire meanwhile."""
        if create:
            self._check_quota(address)
        async with contextlib.AsyncExitStack() as held:
            try:
                pooled = await held.enter_async_context(self.pool.acquire(address.key, create=create))
            except SessionNotFound as exc:
                raise SessionMissing("There is no such session.") from exc
            yield pooled

    def _check_quota(self, address: Address) -> None:
        """Hold an owner to its number of sessions. The pool lists one from the moment that it is asked for."""
        quota = self.settings.quota_sessions
        if not quota or self.pool.find(address.key) is not None:
            return
        if sum(view.address.owner == address.owner for view in self._live()) >= quota:
            raise QuotaExceeded(f"You have {quota} sessions, as many as you may have: shut one of them down.")


@contextlib.contextmanager
def suppressing_unsaved() -> Iterator[None]:
    """Log that a notebook could not be saved: the cell has run all the same."""
    try:
        yield
    except TranscriptError as exc:
        log_event("a notebook is not saved", reason=str(exc)[:1000])


def _view(address: Address, pooled: PooledSession) -> SessionView:
    last = None if pooled.is_new else pooled.session.transcript.last_status
    times = (pooled.created_at, pooled.last_used_at, pooled.expires_at)
    return SessionView(address, *times, pooled.cells, str(pooled.state), last)
