"""The sessions of a SessionService as MCP tools, over streamable HTTP. server/app.py mounts it, behind its doorkeeper.

Each client's session of the protocol has a session of its own, whose identifier is made from it, and which ends with
it; by name, a client uses the same sessions as over the other routes, as far as its identity may.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from kernel_sandbox.errors import FileError, SandboxError, SandboxFileNotFound
from kernel_sandbox.files import FileInfo
from kernel_sandbox.mcp.contract import CallRefused, OnEvent, Ran, SessionLine
from kernel_sandbox.mcp.definitions import PACKAGES
from kernel_sandbox.mcp.mcp_server import HttpTransport, make_server
from kernel_sandbox.mcp.pool_tools import PoolTools
from kernel_sandbox.mcp.protocol_sessions import ProtocolSessions
from kernel_sandbox.mcp.toolbox import Toolbox
from kernel_sandbox.policy import DATA_DIRECTORY, format_size
from kernel_sandbox.server.doorkeeper import identity_of
from kernel_sandbox.server.failures import Refusal, failure_of
from kernel_sandbox.server.identity import Identity
from kernel_sandbox.server.observer import note_tool
from kernel_sandbox.server.ownership import Address, address_of, reach_of
from kernel_sandbox.server.prefixes import PREFIX
from kernel_sandbox.server.service import SessionMissing, SessionService
from kernel_sandbox.server.shell import GRACE

SESSION_HEADER = "mcp-session-id"
IDLE = 3600.0
"""Seconds after which a client's session of the protocol ends if it asks for nothing. Its sandbox ends much earlier."""
MARGIN = 5.0
"""Seconds that a call ends before its request would be: what is cut off would be told nothing."""


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """Who calls a tool."""

    request: Request
    identity: Identity
    protocol_session: str | None
    """None for a client of a version of the protocol that has no sessions."""

    @classmethod
    def of(cls, request: Request) -> Caller:
        return cls(request, identity_of(request), request.headers.get(SESSION_HEADER))

    @property
    def own_identifier(self) -> str:
        """The identifier of the session that the caller has without naming one."""
        if self.identity.identifiers and not self.identity.prefixes:
            return self.identity.identifiers[0]
        # Not the protocol's own: who has that may use the protocol's session.
        digest = hashlib.sha256((self.protocol_session or "").encode()).hexdigest()[:24]
        return self.prefixed(f"mcp-{digest if self.protocol_session else 'default'}")

    def prefixed(self, identifier: str) -> str:
        """Begin an identifier as those of the identity must."""
        return f"{self.identity.prefixes[0]}{identifier}" if self.identity.prefixes else identifier

    @property
    def has_own_session(self) -> bool:
        """Whether the session that it has without naming one is nobody else's."""
        return self.protocol_session is not None and (not self.identity.identifiers or bool(self.identity.prefixes))


class HostedSessions:
    """The backend of HTTP."""

    names_sessions = True

    def __init__(self, service: SessionService) -> None:
        self._service = service
        longest = float(service.settings.max_execution_seconds)
        self.longest_timeout = max(longest - GRACE, longest / 2)

    def workspace(self, caller: Caller, session: str | None) -> HostedWorkspace:
        """Find the caller's session. Raises InvalidIdentifier and Forbidden."""
        address = address_of(caller.identity, caller.own_identifier if session is None else session)
        return HostedWorkspace(self._service, address)

    def sessions(self, caller: Caller) -> Sequence[SessionLine]:
        return [
            SessionLine(view.address.identifier, view.state, view.cells, view.created_at, view.last_used_at)
            for view in self._service.sessions(reach_of(caller.identity))
        ]

    def explain(self, exc: Exception) -> str:
        return failure_of(exc).message


class HostedWorkspace:
    """One session of the service."""

    def __init__(self, service: SessionService, address: Address) -> None:
        self._service = service
        self._address = address
        self.key = address.key
        self.name = address.identifier

    async def run(self, source: str, timeout: float, on_event: OnEvent) -> Ran:
        is_new = self._service.pool.find(self._address.key) is None
        longest = self._service.settings.request_timeout
        try:
            async with asyncio.timeout(max(longest - MARGIN, longest / 2)):
                async with self._service.stream(self._address, source, timeout=timeout) as stream:
                    restarted = self._service.take_restart(self._address)
                    async for event in stream:
                        on_event(event)
        except TimeoutError as exc:
            late = "It took longer than a request may, its wait for others included, and was given up. Send it again."
            raise CallRefused(late) from exc
        assert stream.execution is not None
        return Ran(stream.execution, is_new, _note(is_new, restarted, stream.execution.status == "dead"))

    async def list_files(self, directory: str) -> tuple[FileInfo, ...]:
        with contextlib.suppress(SessionMissing):
            return await self._service.list_files(self._address, directory)
        return ()

    async def read_file(self, name: str, limit: int) -> bytes:
        content = _Bounded(limit)
        try:
            await self._service.read_file(self._address, name, content)
        except SessionMissing as exc:
            raise SandboxFileNotFound("There are no files: the session has not begun yet, or has ended.") from exc
        return content.getvalue()

    async def write_file(self, name: str, data: bytes) -> FileInfo:
        return await self._service.write_file(self._address, name, io.BytesIO(data))

    async def reset(self, *, fresh: bool) -> str:
        try:
            if fresh:
                await self._service.stop(self._address)
                return "A new sandbox begins with the next call: all variables and all files are gone."
            await self._service.restart(self._address)
        except SessionMissing:
            return "There was nothing to reset: the session has not begun yet, or has ended."
        return f"A fresh kernel runs: all variables are gone, files under {DATA_DIRECTORY} are still there."

    async def notebook(self) -> bytes:
        try:
            return await self._service.notebook(self._address)
        except SessionMissing as exc:
            raise CallRefused("There is no notebook yet: run a cell first.") from exc


def _note(is_new: bool, restarted: str | None, died: bool) -> str:
    notes = []
    if is_new:
        notes.append("The session began with this call: nothing from before is in it.")
    elif restarted is not None:
        notes.append(f"The session began anew before this call, and its variables are lost: {restarted}.")
    if died:
        notes.append("Its variables are lost; the next call finds a fresh kernel.")
    return " ".join(notes)


def _note_call(caller: Caller, tool: str, failed: bool) -> None:
    note_tool(caller.request, tool, failed=failed)


class _Bounded(io.BytesIO):
    """Takes so many bytes, and no more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._limit:
            raise FileError(
                f"The file has more than {format_size(self._limit)}: read a part of it with execute_python."
            )
        return super().write(data)


class McpApplication:
    """The ASGI application for one path, whose requests have an identity already."""

    def __init__(self, service: SessionService) -> None:
        self._service = service
        self._open = ProtocolSessions(IDLE)
        backend, most = HostedSessions(service), service.settings.max_body_bytes
        toolbox = Toolbox(backend, packages=PACKAGES.get(service.settings.image, ""))
        self._transport = HttpTransport(
            make_server(toolbox, Caller.of, _note_call), idle_timeout=IDLE, max_body_bytes=most
        )
        pool_tools = make_server(PoolTools(backend), Caller.of, _note_call)
        self._pools = HttpTransport(pool_tools, idle_timeout=IDLE, max_body_bytes=most, stateless=True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block is entered; once."""
        async with self._transport.running(), self._pools.running():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if scope.get(PREFIX) and request.method == "POST":  # a pool's own endpoint
            await self._pools.handle(scope, receive, send, owner=identity_of(request).name)
            return
        owner, session = identity_of(request).name, request.headers.get(SESSION_HEADER)
        if refusal := self._refusal(request, owner):
            response = failure_of(refusal).response()
            response.headers["Allow"] = "POST, DELETE"
            await response(scope, receive, send)
            return

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                told = session or Headers(raw=message["headers"]).get(SESSION_HEADER)
                if told is not None:
                    self._open.note(told, owner)
                ended.extend([told] if told is not None and request.method == "DELETE" else [])
            await send(message)

        ended: list[str] = []
        await self._transport.handle(scope, receive, send_watched, owner=owner)
        for one in ended:
            self._open.forget(one)
            await self._end_sandbox(Caller.of(request))

    def _refusal(self, request: Request, owner: str) -> Refusal | None:
        if request.method not in ("POST", "DELETE"):
            # The stream of a GET is for what a server says by itself. This one says nothing, and so keeps none open.
            return Refusal(405, "MethodNotAllowed", "Use POST, or DELETE to end the session.")
        if self._transport.opens_session(request.headers) and not self._open.has_room(owner):
            return Refusal(429, "TooManySessions", "You have too many MCP sessions: end one.", retry_after=60)
        return None

    async def _end_sandbox(self, caller: Caller) -> None:
        """End the sandbox of a client that has ended its session of the protocol."""
        if caller.has_own_session:
            with contextlib.suppress(SandboxError):
                await self._service.stop(address_of(caller.identity, caller.own_identifier))


def mcp_application(service: SessionService) -> McpApplication:
    """Make the application for a service that is open; whoever mounts it enters `running`."""
    return McpApplication(service)
