"""Plain requests that run something, in every API: how long they wait, and what becomes of it when they do not.

The table in images/server/README.md has the rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response

from kernel_sandbox.doors.http.bodies import ClientGone, TurnMissed, disconnected
from kernel_sandbox.service.failures import Refusal
from kernel_sandbox.service.idempotency import fingerprint_of
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.service.runs import Run, Watched
from kernel_sandbox.service.service import SessionService

Work = Callable[[Watched], Awaitable[Response]]
"""Runs something in a session, and makes the answer of it."""

Retry = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,255}$",
        description="A name of your choice for this request, such as a UUID. A retry with the same key and body gets "
        "the first one's answer, also while that still runs, and runs nothing again. With another body it is refused "
        "(422). Keys belong to one session; each is kept for an hour after its answer, and the last 256 of yours are.",
    ),
]


async def answer(request: Request, service: SessionService, address: Address, key: str | None, work: Work) -> Response:
    """Answer a plain request with what `work` makes; `key` is its Idempotency-Key."""

    def begin() -> Run[Response]:
        return service.runs.begin(work)

    if key is None:
        return await _wait(request, service, begin(), kept=False)
    fingerprint = fingerprint_of(request.scope["path"], await request.body())
    found, again = service.idempotent.run(address, key, fingerprint, begin)
    response = found if isinstance(found, Response) else await _wait(request, service, found, kept=True)
    return _copy(response, again)


async def _wait(request: Request, service: SessionService, run: Run[Response], *, kept: bool) -> Response:
    """Wait for a run while the client is there, and no longer than a request may take."""
    gone = asyncio.ensure_future(disconnected(request))
    given_up = False
    run.join()
    try:
        await asyncio.wait({run.task, gone}, timeout=service.patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        given_up = await run.leave()
        gone.cancel()
    if run.task.done() and not run.task.cancelled():
        return run.task.result()
    if gone.done() and not gone.cancelled():
        raise ClientGone
    if run.task.done():
        raise Refusal(503, "ServiceUnavailable", "The server is ending.")
    raise TurnMissed if given_up else Refusal(504, "RequestTimeout", _runs_on(kept=kept))


def _runs_on(*, kept: bool) -> str:
    if kept:
        return "It runs on: send the same request with the same Idempotency-Key to get its answer."
    return (
        "It runs on: the session's notebook will have its outputs. A request with an Idempotency-Key can be sent "
        "again to get its answer."
    )


def _copy(response: Response, again: bool) -> Response:
    """Make a response that can be sent from one that may have been."""
    copy = Response(response.body, response.status_code)
    copy.raw_headers = [*response.raw_headers, *([(b"idempotency-replayed", b"true")] if again else [])]
    return copy
