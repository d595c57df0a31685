"""Every route of the service, and a request of each: for tests that walk them all.

They are read off the application, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.routing import BaseRoute, Route, WebSocketRoute

from kernel_sandbox.doors.http.asgi_app import create_app
from kernel_sandbox.doors.http.doorkeeper import OPEN_PATHS
from kernel_sandbox.doors.http.methods import flat
from kernel_sandbox.pool import SessionPool
from kernel_sandbox.service.authenticator import Authenticator
from kernel_sandbox.service.saved import SavedTranscripts
from kernel_sandbox.service.service import SessionService
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.service.storage import Store
from tests.doors.http.running import GEN1, GEN2

CODE = "import os; ('secret' in globals(), os.listdir('/mnt/data'))"
MISSING_TRANSCRIPT = "20200101-000000-000000000000"
BODIES: dict[str, Any] = {
    "/code/execute": {"properties": {"code": CODE}},
    "/python/execute": {"properties": {"identifier": "IDENTIFIER", "pythonCode": CODE}},
    "/executions": {"code": CODE},
    "/v1/sessions": {"identifier": "IDENTIFIER"},
    "/v1/sessions/{identifier}/execute": {"source": CODE},
    "/v1/sessions/{identifier}/run_command": {"command": "ls /mnt/data"},
}


def all_routes() -> Iterator[BaseRoute]:
    """The routes of an application; none of it is opened."""
    settings, store = ServerSettings(), Store("unused")
    saved = SavedTranscripts(store, Path("unused"), days=None)
    service = SessionService(SessionPool(), store, settings, saved)
    yield from flat(create_app(service, Authenticator(settings, store)).routes)


def operations() -> list[tuple[str, str]]:
    """Method and path of every route that is for somebody known."""
    found = []
    for route in all_routes():
        if isinstance(route, WebSocketRoute):
            found.append(("WEBSOCKET", route.path))
        elif isinstance(route, Route):
            found += [(method, route.path) for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"})]
        else:
            raise AssertionError(f"{route} is of a kind that this test does not know")
    return [(method, path) for method, path in found if path not in OPEN_PATHS]


OPERATIONS = operations()
REQUESTS = [each for each in OPERATIONS if each[0] != "WEBSOCKET"]


@dataclass(frozen=True)
class Names:
    """What a request of any route may name."""

    session: str
    execution: str
    transcript: str
    owner: str
    file: str


def call(client: httpx.Client, method: str, path: str, names: Names) -> httpx.Response:
    """Call a route about a session: by its name in the path, the query or the body, wherever the route looks."""
    parts = {"identifier": names.session, "name": names.file, "execution_id": names.execution}
    parts["transcript_id"] = names.transcript
    url = re.sub(r"{(\w+)(:path)?}", lambda found: parts[found[1]], path)
    query = {"identifier": names.session, "owner": names.owner, "transcript_id": names.transcript}
    query["api-version"] = GEN1 if url.startswith("/code/") else GEN2
    options: dict[str, Any] = {"params": query}
    body = BODIES.get(path)
    if path in ("/files", "/files/upload") and method == "POST":
        options["files"] = {"file": ("theirs.txt", b"theirs")}
    elif method == "PUT":
        options["content"] = b"overwritten"
    elif method == "POST" and body is not None:
        options["content"] = json.dumps(body).replace("IDENTIFIER", names.session)
        options["headers"] = {"content-type": "application/json"}
    return client.request(method, url, **options)


def comparable(answer: httpx.Response, identifier: str) -> tuple[int, str]:
    """Return an answer without the names and numbers that every answer has of its own."""
    text = answer.text.replace(identifier, "IDENTIFIER")
    return answer.status_code, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{8,}|\d+", "0", text)
