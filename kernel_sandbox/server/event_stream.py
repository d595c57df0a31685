"""A running cell as server-sent events (WHATWG HTML, section 9.2): every output as it comes, then the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kernel_sandbox.cell import CellStream
from kernel_sandbox.server.outputs_json import event_json, execution_json

HEARTBEAT = 10.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""


class EventStream(StreamingResponse):
    """Answers with a cell's events. When the client goes away, the cell is interrupted."""

    def __init__(self, stream: CellStream, held: contextlib.AsyncExitStack, restarted: str | None) -> None:
        """`held` is closed at the end, however it comes about: it interrupts the cell if that still runs.

        `restarted` says why the session began anew, if it did.
        """
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(stream, restarted), media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._held.aclose()


async def _events(stream: CellStream, restarted: str | None) -> AsyncIterator[bytes]:
    async for event in with_silences(stream):
        yield b": the cell runs\n\n" if event is None else _message("output", event)
    assert stream.execution is not None
    told = execution_json(stream.execution, with_outputs=False) | {"restarted_because": restarted}
    yield _message("done", told)


async def with_silences(stream: CellStream) -> AsyncIterator[dict[str, Any] | None]:
    """Iterate over a cell's events as JSON; None after each silence."""
    following = asyncio.ensure_future(anext(stream, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=HEARTBEAT)
            if not done:
                yield None
                continue
            event = following.result()
            if event is None:
                return
            yield event_json(event)
            following = asyncio.ensure_future(anext(stream, None))
    finally:
        following.cancel()


def _message(kind: str, value: dict[str, Any]) -> bytes:
    # JSON in one line: a line end within a text is written as \n there.
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
