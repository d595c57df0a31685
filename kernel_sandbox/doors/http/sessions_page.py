"""The page for people, at `/`: the sessions as they are now, their notebooks as they grow. For admins.

The page itself is static and tells nothing. Its script asks the two routes here and those of `admin`, which want one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from kernel_sandbox.doors.http.admin import All, Anyones
from kernel_sandbox.doors.http.cell_views import view_cell
from kernel_sandbox.doors.http.native import Service, transcript_json
from kernel_sandbox.doors.http.outputs_json import session_json
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.failures import Refusal
from kernel_sandbox.service.service import SessionMissing, SessionService
from kernel_sandbox.service.session_values import SessionView
from kernel_sandbox.text.amounts import format_size

MOST_CELLS = 20
"""Cells of one answer; the script asks for the next."""
MOST_KEPT = 200
"""Kept notebooks that are listed, the newest."""
MOST_SHOWN = 64 * 1024**2
"""Bytes of a kept notebook: it is read anew for each of its pages."""
USAGE_WITHIN = 1.0
"""Seconds in which a sandbox tells what it uses, or the page shows a dash."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""https://www.w3.org/TR/CSP3/: nothing but our own script and style, and pictures that are within the data."""
_KINDS = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}

router = APIRouter(include_in_schema=False)


@cache
def _file(name: str) -> bytes:
    return files("kernel_sandbox.doors.http").joinpath("page_files", name).read_bytes()


def _static(name: str) -> Response:
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(_file(name), media_type=_KINDS[name], headers=headers)


@router.get("/")
async def index() -> Response:
    """Give the page."""
    return _static("index.html")


@router.get("/page/page.css")
async def style() -> Response:
    """Give its style sheet."""
    return _static("page.css")


@router.get("/page/page.js")
async def script() -> Response:
    """Give its script."""
    return _static("page.js")


@router.get("/page/sessions")
async def sessions(request: Request, service: Service, everybodys: All) -> Response:
    """List everybody's sessions, as far as the key may see them, with what they use."""
    views = service.sessions(everybodys)
    used = await asyncio.gather(*(_memory(service, view) for view in views))
    told: list[dict[str, Any]] = [
        session_json(view) | {"owner": view.address.owner, "memory": memory, "last_status": view.last_status}
        for view, memory in zip(views, used, strict=True)
    ]
    pool = {"ready": service.pool.ready, "most": service.settings.pool.sessions}
    hindrance = await request.app.state.readiness.hindrance()
    return _json({"sessions": told, "pool": pool, "hindrance": hindrance})


async def _memory(service: SessionService, view: SessionView) -> int | None:
    with contextlib.suppress(SandboxError, TimeoutError):
        async with asyncio.timeout(USAGE_WITHIN):
            return (await service.usage(view.address)).memory
    return None


@router.get("/page/cells")
async def cells(service: Service, session: Anyones, first: Annotated[int, Query(ge=0)] = 0) -> Response:
    """Give cells of a session's notebook from a position on, and how many there are."""
    total, found = service.cells(session, first, MOST_CELLS)
    return _json({"total": total, "cells": await asyncio.to_thread(_views, found)})


@router.get("/page/kept")
async def kept(service: Service, everybodys: All) -> Response:
    """List the kept notebooks of sessions that have ended, as far as the key may see them, the newest first."""
    found = await service.kept(everybodys)
    return _json({"total": len(found), "kept": [transcript_json(each) for each in found[:MOST_KEPT]]})


@router.get("/page/kept/cells")
async def kept_cells(
    service: Service, everybodys: All, transcript_id: str, first: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Give cells of a kept notebook from a position on, and how many there are."""
    content = await service.saved.read(everybodys, transcript_id)
    if content is None:
        raise SessionMissing("There is no such notebook any more.")
    if len(content) > MOST_SHOWN:
        raise Refusal(413, "ResultTooLarge", f"It has more than {format_size(MOST_SHOWN)}: download it to see it.")

    def read() -> tuple[int, list[dict[str, Any]]]:
        cells = json.loads(content)["cells"]
        return len(cells), _views(cells[first : first + MOST_CELLS])

    total, views = await asyncio.to_thread(read)
    return _json({"total": total, "cells": views})


def _views(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [view_cell(cell) for cell in cells]


def _json(value: Any) -> Response:
    return JSONResponse(value, headers={"cache-control": "no-store"})
