"""A session over a WebSocket: cells in, outputs out as they come. One JSON object per message.

    client   {"type": "execute", "id": "1", "source": "…", "timeout": 60}
             {"type": "interrupt"}
    server   {"type": "output", "id": "1", "output": {…}}      as it comes
             {"type": "done", "id": "1", "execution": {…}}     after the last; with `restarted_because`, once
             {"type": "error", "id": "1", "error": {"code", "message"}}
             {"type": "part", "id": "1", "part": 1, "parts": 3, "text": "…"}     see websocket_messages

Cells run in the order in which they came; whoever closes the connection interrupts the one that runs. A browser, which
can set no header, sends its token as a subprotocol: ["kernel-sandbox.v1", "bearer.TOKEN"].
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from kernel_sandbox.doors.http.bodies import response_of
from kernel_sandbox.doors.http.event_stream import with_silences
from kernel_sandbox.doors.http.outputs_json import execution_json
from kernel_sandbox.doors.http.websocket_messages import texts_of
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.failures import InvalidRequest, failure_of
from kernel_sandbox.service.ownership import Address, address_of
from kernel_sandbox.service.requests import identity_of
from kernel_sandbox.service.service import SessionService

PROTOCOL = "kernel-sandbox.v1"
MOST_WAITING = 16
"""Cells of one connection that wait."""
SEND_IDLE = 30.0
"""Seconds until a client has taken a message."""
LONGEST_ID = 100

router = APIRouter(prefix="/v1")


@dataclass(frozen=True, slots=True)
class _Asked:
    id: str
    source: str
    timeout: float | None


@router.websocket("/sessions/{identifier}/ws")
async def live(websocket: WebSocket, identifier: str) -> None:
    """Serve one connection. A session that is missing, or another's, is answered before the connection is taken."""
    service: SessionService = websocket.app.state.service
    try:
        address = address_of(identity_of(websocket), unquote(identifier))
        service.describe(address)
    except SandboxError as exc:
        await websocket.send_denial_response(response_of(failure_of(exc)))
        return
    offered = websocket.scope.get("subprotocols", ())
    await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
    await _Connection(websocket, service, address).serve()


class _Connection:
    """One client: a reader, and a worker that runs its cells one after the other."""

    def __init__(self, websocket: WebSocket, service: SessionService, address: Address) -> None:
        self._websocket = websocket
        self._client = f"websocket-{secrets.token_hex(8)}"
        self._service = service
        self._address = address
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue(MOST_WAITING)
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Serve until the client goes away, or does not take what it is sent."""
        self._service.meet(self._address, self._client)
        worker, reader = asyncio.create_task(self._work()), asyncio.create_task(self._read())
        try:
            await asyncio.wait({worker, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (worker, reader):
                task.cancel()
            await asyncio.gather(worker, reader, return_exceptions=True)
            with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
                await self._websocket.close()

    async def _read(self) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._take(message.get("text") or "")

    async def _take(self, text: str) -> None:
        try:
            asked = _read_message(text)
            if asked is None:
                await self._service.interrupt(self._address)
            elif self._waiting.full():
                raise InvalidRequest(f"{MOST_WAITING} cells wait already: send this one again later.", target=asked.id)
            else:
                self._waiting.put_nowait(asked)
        except SandboxError as exc:
            await self._tell_failure("", exc)

    async def _work(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, OSError):
            while True:
                asked = await self._waiting.get()
                try:
                    await self._run(asked)
                except SandboxError as exc:
                    await self._tell_failure(asked.id, exc)

    async def _run(self, asked: _Asked) -> None:
        opened = self._service.stream(
            self._address, asked.source, timeout=asked.timeout, create=False, client=self._client
        )
        async with opened as streaming:
            async for event in with_silences(streaming.cell):
                if event is not None:  # the protocol has its own pings
                    await self._send({"type": "output", "id": asked.id, "output": event})
            execution = execution_json(
                streaming.cell.result(), streaming.news(), new_session=streaming.new_session, with_outputs=False
            )
        await self._send({"type": "done", "id": asked.id, "execution": execution})

    async def _tell_failure(self, asked_id: str, exc: SandboxError) -> None:
        await self._send({"type": "error", "id": asked_id, **failure_of(exc).body()})

    async def _send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises TimeoutError (an OSError) where the client does not take it."""
        async with self._sending:
            for text in texts_of(message):
                async with asyncio.timeout(SEND_IDLE):
                    await self._websocket.send_text(text)


def _read_message(text: str) -> _Asked | None:
    """Read a client's message: a cell, or None for an interrupt. Raises InvalidRequest."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("A message is a JSON object.") from exc
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "interrupt":
        return None
    if kind != "execute":
        raise InvalidRequest('A message has a type: "execute" or "interrupt".', target="type")
    asked_id, source, timeout = (message.get(name) for name in ("id", "source", "timeout"))
    if not isinstance(asked_id, str) or len(asked_id) > LONGEST_ID:
        raise InvalidRequest(f"Give the cell an id: a text of up to {LONGEST_ID} characters.", target="id")
    if not isinstance(source, str):
        raise InvalidRequest("Give the cell as a text.", target="source")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise InvalidRequest("Give seconds above 0.", target="timeout")
    return _Asked(asked_id, source, timeout)
