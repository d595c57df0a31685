"""A restart is told once to each client that used the kernel before, with its first cell in the new one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from mcp import Client
from websockets.sync.client import ClientConnection

from tests.server.running import GEN1, Running
from tests.server.test_mcp_http import connected
from tests.server.test_native import receive, run, socket_of

pytestmark = pytest.mark.anyio
NAME = "told"
SESSION = f"/v1/sessions/{NAME}"
DIE = "import os; os._exit(3)"


@pytest.fixture
async def mcp(server: Running) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


def over(socket: ClientConnection, source: str = "1") -> tuple[str, str | None]:
    """Run a cell over a WebSocket: its status, and what is told of a restart."""
    socket.send(json.dumps({"type": "execute", "id": "1", "source": source}))
    while (message := receive(socket))["type"] != "done":
        pass
    return message["execution"]["status"], message["execution"]["restarted_because"]


def restart(client: httpx.Client) -> None:
    client.post(f"{SESSION}/restart").raise_for_status()


def test_death_is_told_once_to_each_connection_and_to_all_requests_together(
    server: Running, client: httpx.Client
) -> None:
    client.post("/v1/sessions", json={"id": NAME}).raise_for_status()
    because = "The kernel exited with status 3."
    with socket_of(server, SESSION) as first, socket_of(server, SESSION) as second:
        assert over(first, "x = 1") == ("ok", None)
        assert over(first, DIE) == ("dead", None)
        assert [over(first), over(first)] == [("ok", because), ("ok", None)]
        query = {"identifier": NAME, "api-version": GEN1}
        with server.client() as other:  # of the same identity, and so the same client
            told = other.post("/code/execute", params=query, json={"properties": {"code": "1"}}).json()
        assert because in told["properties"]["stderr"]
        assert run(client, SESSION, "1")["restarted_because"] is None
        assert [over(second), over(second)] == [("ok", because), ("ok", None)]
        with socket_of(server, SESSION) as third:
            assert over(third) == ("ok", None)
    server.end(NAME)


def test_restart_is_told_to_all_but_who_asked_for_it(server: Running, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"id": NAME}).raise_for_status()
    with socket_of(server, SESSION) as first, socket_of(server, SESSION) as second:
        restart(client)
        assert over(first) == ("ok", "The kernel was restarted.")
        assert run(client, SESSION, "1")["restarted_because"] is None
        stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
        lost = run(client, SESSION, stubborn, timeout=0.5)
        assert (lost["status"], lost["ran"], lost["kept"]) == ("timeout", "began", "files")
        status, told = over(second)  # of the newest of both
        assert (status, "did not stop when interrupted" in str(told)) == ("ok", True)
    server.end(NAME)


async def test_session_of_mcp_is_a_client_of_its_own(server: Running, client: httpx.Client, mcp: Client) -> None:
    async def told(source: str = "1") -> str | None:
        result = await mcp.call_tool("execute_python", {"code": source, "session": NAME})
        reason: str | None = result.structured_content.get("restarted_because")
        return reason

    assert await told() is None
    assert run(client, SESSION, "1")["restarted_because"] is None
    await mcp.call_tool("reset_session", {"session": NAME})
    assert await told() is None
    assert run(client, SESSION, "1")["restarted_because"] == "The kernel was restarted."
    restart(client)
    assert [await told(), await told()] == ["The kernel was restarted.", None]
    server.end(NAME)
