"""Two keys of one owner, each for sessions of its own prefix: what is beyond it is not there, on any route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.routes import MISSING_TRANSCRIPT, OPERATIONS, REQUESTS, Names, call, comparable
from tests.doors.http.running import GEN2, Running, issue_key, running, until

OWNER = "key:team"
LISTS = ("essions", "transcripts", "kept")


@dataclass(frozen=True)
class Side:
    """One key, an admin's of the same prefix, and what its session holds."""

    prefix: str
    key: str
    admin: str
    names: Names
    secret: str


@dataclass(frozen=True)
class Scoped:
    server: Running
    whole_admin: str
    sides: tuple[Side, Side]


def make_keys(directory: Path, prefix: str) -> tuple[str, str]:
    admin = issue_key(directory, "root", roles=("admin",), prefixes=(prefix,))
    return issue_key(directory, "team", prefixes=(prefix,)), admin


def fill(server: Running, prefix: str, key: str, admin: str) -> Side:
    """Make a session with a variable, a file and an asynchronous result, and a notebook of one that has ended."""
    session, secret = f"{prefix}session", f"what only {prefix} knows"
    with server.client(key) as client:
        for name in (f"{prefix}ended", session):
            client.post("/v1/sessions", json={"identifier": name}).raise_for_status()
            cell = {"source": f"secret = {secret!r}; secret"}
            client.post(f"/v1/sessions/{name}/execute", json=cell).raise_for_status()
        client.delete(f"/v1/sessions/{prefix}ended").raise_for_status()
        client.put(f"/v1/sessions/{session}/files/{prefix}.txt", content=secret.encode()).raise_for_status()
        query = {"identifier": session, "api-version": GEN2}
        # Both sides give their execution the same id.
        asked: dict[str, Any] = {"code": "secret", "executionType": "Asynchronous"}
        started = client.post("/executions", params=query, json=asked, headers={"operation-id": "1"})
        assert started.status_code == 202, started.text
        until(lambda: secret in client.get("/executions/1", params=query).text)
        until(lambda: len(client.get("/v1/transcripts").json()["transcripts"]) == 2)
        transcript = client.get("/v1/transcripts").json()["transcripts"][0]["id"]
    return Side(prefix, key, admin, Names(session, "1", transcript, OWNER, f"{prefix}.txt"), secret)


@pytest.fixture(scope="module")
def scoped(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoped]:
    directory = tmp_path_factory.mktemp("scoped")
    whole = issue_key(directory, "root", roles=("admin",))
    keys = {prefix: make_keys(directory, prefix) for prefix in ("red-", "blue-")}
    with running(directory, engine=server_engine, keys="on", pool=PoolSettings(ready=2, sessions=8)) as server:
        red, blue = (fill(server, prefix, *pair) for prefix, pair in keys.items())
        yield Scoped(server, whole, (red, blue))


def beyond(scoped: Scoped, own: int, kind: str, method: str, path: str) -> tuple[httpx.Response, httpx.Response]:
    """Call a route about the other side's things, and about what there is not beyond the own prefix."""
    side, other = scoped.sides[own], scoped.sides[1 - own]
    missing = Names(f"{other.prefix}missing", "2", MISSING_TRANSCRIPT, OWNER, other.names.file)
    with scoped.server.client(getattr(side, kind)) as client:
        return call(client, method, path, other.names), call(client, method, path, missing)


@pytest.mark.parametrize("own", [0, 1], ids=["red", "blue"])
@pytest.mark.parametrize("kind", ["key", "admin"])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_route_tells_a_scoped_key_nothing_beyond_its_prefix(
    scoped: Scoped, method: str, path: str, kind: str, own: int
) -> None:
    answer, of_missing = beyond(scoped, own, kind, method, path)
    side, other = scoped.sides[own], scoped.sides[1 - own]
    in_path = [] if "{identifier}" in path else [other.names.session]  # a refusal may repeat what was asked
    for told in (other.secret, other.names.transcript, *in_path):
        assert told not in answer.text
    if answer.status_code == 200 and path.endswith(LISTS):
        assert other.prefix not in answer.text
        assert (side.prefix in answer.text) == (kind == "key" or "admin" in path or "page" in path)
        return
    assert path == "/metadata" or answer.status_code >= 400
    assert comparable(answer, other.names.session) == comparable(of_missing, f"{other.prefix}missing")


@pytest.mark.parametrize("own", [0, 1], ids=["red", "blue"])
@pytest.mark.parametrize("path", [path for method, path in OPERATIONS if method == "WEBSOCKET"])
def test_live_connection_beyond_the_prefix_is_refused(scoped: Scoped, path: str, own: int) -> None:
    side, other = scoped.sides[own], scoped.sides[1 - own]
    address, statuses = scoped.server.address.replace("http", "ws"), []
    for session in (other.names.session, f"{other.prefix}missing"):
        url = address + path.replace("{identifier}", session)
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers={"x-api-key": side.key}):
            pass
        statuses.append(refused.value.response.status_code)
    assert statuses == [403, 403]


@pytest.mark.anyio
@pytest.mark.parametrize("own", [0, 1], ids=["red", "blue"])
async def test_tools_reach_nothing_beyond_the_prefix(scoped: Scoped, own: int) -> None:
    side, other = scoped.sides[own], scoped.sides[1 - own]
    headers = {"x-api-key": side.key}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{scoped.server.address}/mcp", http_client=http)
        async with Client(transport) as client:
            listed = str(await client.call_tool("list_sessions", {}))
            assert side.names.session in listed
            assert other.prefix not in listed
            tools = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
            about = {name: schema for name, schema in tools.items() if "identifier" in schema["properties"]}
            assert len(about) >= 8
            for name, schema in about.items():
                given = dict.fromkeys(schema.get("required", ()), "secret") | {"identifier": other.names.session}
                refused = await client.call_tool(name, given)
                assert refused.is_error, name
                assert other.secret not in str(refused)
                assert "may not use that identifier" in str(refused), name


def test_numbers_of_the_whole_service_are_for_keys_without_a_prefix(scoped: Scoped) -> None:
    for key, status in ((scoped.whole_admin, 200), (scoped.sides[0].admin, 403), (scoped.sides[0].key, 403)):
        with scoped.server.client(key) as client:
            assert client.get("/metrics").status_code == status


def test_session_without_a_name_gets_one_that_its_key_may_use(scoped: Scoped) -> None:
    for side in scoped.sides:
        with scoped.server.client(side.key) as client:
            made = client.post("/v1/sessions").raise_for_status().json()["identifier"]
            assert made.startswith(f"{side.prefix}s-")
            client.delete(f"/v1/sessions/{made}").raise_for_status()


def test_sides_are_as_they_were(scoped: Scoped) -> None:
    """After all that was tried: variables, files, the results of one id, the notebooks."""
    for side in scoped.sides:
        names, query = side.names, {"identifier": side.names.session, "api-version": GEN2}
        with scoped.server.client(side.key) as client:
            ran = client.post(f"/v1/sessions/{names.session}/execute", json={"source": "print(secret)"}).json()
            assert ran["outputs"][0]["text"] == f"{side.secret}\n"
            files = client.get(f"/v1/sessions/{names.session}/files").json()["files"]
            assert [each["name"] for each in files] == [names.file]
            assert side.secret in client.get("/executions/1", params=query).text
            kept = {each["identifier"] for each in client.get("/v1/transcripts").json()["transcripts"]}
            assert kept >= {f"{side.prefix}ended", names.session}
