"""A restart, and a session begun anew under its name, are told once to each client that used the one before."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from mcp import Client
from websockets.sync.client import ClientConnection

from kernel_sandbox.pool import SessionPool
from kernel_sandbox.service.clients import MOST_OF_ONE, Clients
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.spec.values import SandboxSpec
from tests.doors.http.running import GEN1, SMALL, Running
from tests.doors.http.test_mcp_http import connected
from tests.doors.http.test_native import receive, run, socket_of

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


def stderr_of_pool(client: httpx.Client) -> str:
    """Run a cell over the session pools' API, and return what it says in stderr."""
    query = {"identifier": NAME, "api-version": GEN1}
    told = client.post("/code/execute", params=query, json={"properties": {"code": "1"}}).json()
    return str(told["properties"]["stderr"])


def restart(client: httpx.Client) -> None:
    client.post(f"{SESSION}/restart").raise_for_status()


def test_death_is_told_once_to_each_connection_and_to_all_requests_together(
    server: Running, client: httpx.Client
) -> None:
    client.post("/v1/sessions", json={"identifier": NAME}).raise_for_status()
    because = "The kernel exited with status 3."
    with socket_of(server, SESSION) as first, socket_of(server, SESSION) as second:
        assert over(first, "x = 1") == ("ok", None)
        assert over(first, DIE) == ("dead", None)
        assert [over(first), over(first)] == [("ok", because), ("ok", None)]
        with server.client() as other:  # of the same identity, and so the same client
            assert because in stderr_of_pool(other)
        assert run(client, SESSION, "1")["restarted_because"] is None
        assert [over(second), over(second)] == [("ok", because), ("ok", None)]
        with socket_of(server, SESSION) as third:
            assert over(third) == ("ok", None)
    server.end(NAME)


def test_restart_is_told_to_all_but_who_asked_for_it(server: Running, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"identifier": NAME}).raise_for_status()
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
        result = await mcp.call_tool("execute_python", {"source": source, "identifier": NAME})
        reason: str | None = result.structured_content.get("restarted_because")
        return reason

    assert await told() is None
    assert run(client, SESSION, "1")["restarted_because"] is None
    await mcp.call_tool("restart_session", {"identifier": NAME})
    assert await told() is None
    assert run(client, SESSION, "1")["restarted_because"] == "The kernel was restarted."
    restart(client)
    assert [await told(), await told()] == ["The kernel was restarted.", None]
    server.end(NAME)


ANOTHER = "The session had ended, and another one began under its name: earlier files are gone too."


def make(client: httpx.Client) -> None:
    assert client.post("/v1/sessions", json={"identifier": NAME}).status_code == 201


def test_session_begun_anew_is_told_once_to_each_connection_but_who_ended_it(
    server: Running, client: httpx.Client
) -> None:
    make(client)
    with socket_of(server, SESSION) as first, socket_of(server, SESSION) as second:
        assert over(first, "open('kept', 'w').write('x'); x = 1") == ("ok", None)
        client.delete(SESSION).raise_for_status()
        make(client)
        assert run(client, SESSION, "1")["restarted_because"] is None
        assert over(first, "import os; assert not os.path.exists('kept')") == ("ok", ANOTHER)
        assert [over(first), over(second), over(second)] == [("ok", None), ("ok", ANOTHER), ("ok", None)]
        assert over(first, DIE) == ("dead", None)
        assert over(second)[1] == "The kernel exited with status 3."  # of the new one they are told as ever
        with socket_of(server, SESSION) as third:
            assert over(third) == ("ok", None)
    server.end(NAME)


async def test_session_begun_anew_by_mcp_is_told_to_requests(
    server: Running, client: httpx.Client, mcp: Client
) -> None:
    async def told() -> dict[str, object]:
        result = await mcp.call_tool("execute_python", {"source": "1", "identifier": NAME})
        return dict(result.structured_content)

    make(client)
    assert run(client, SESSION, "1")["restarted_because"] is None
    assert "restarted_because" not in await told()
    await mcp.call_tool("shutdown_session", {"identifier": NAME})
    again = await told()
    assert (again["new_session"], "restarted_because" in again) == (True, False)
    stderr = [stderr_of_pool(client), stderr_of_pool(client)]
    assert [ANOTHER in text for text in stderr] == [True, False]
    server.end(NAME)
    assert run(client, SESSION, "1", create=True)["new_session"] is True
    assert [(await told()).get("restarted_because") for _ in range(2)] == [ANOTHER, None]
    server.end(NAME)


def test_session_ended_by_an_admin_is_told_to_its_owner(server: Running, client: httpx.Client) -> None:
    make(client)
    assert run(client, SESSION, "1")["new_session"] is False
    client.delete("/v1/admin/session", params={"owner": "anonymous", "identifier": NAME}).raise_for_status()
    told = [run(client, SESSION, "1", create=True) for _ in range(2)]
    assert [(each["new_session"], each["restarted_because"]) for each in told] == [(True, ANOTHER), (False, None)]
    server.end(NAME)


async def test_restart_of_a_session_begun_anew_does_not_hide_that(
    server: Running, client: httpx.Client, mcp: Client
) -> None:
    make(client)
    run(client, SESSION, "1")
    await mcp.call_tool("execute_python", {"source": "1", "identifier": NAME})
    await mcp.call_tool("shutdown_session", {"identifier": NAME})
    await mcp.call_tool("execute_python", {"source": "1", "identifier": NAME})
    restart(client)  # whose answer says nothing of the files
    assert [run(client, SESSION, "1")["restarted_because"] for _ in range(2)] == [ANOTHER, None]
    server.end(NAME)


def test_streams_and_commands_say_that_the_session_is_new(server: Running, client: httpx.Client) -> None:
    asked = {"command": "true", "create": True}
    told = [client.post(f"{SESSION}/run_command", json=asked).json() for _ in range(2)]
    assert [(each["exit_status"], each["new_session"]) for each in told] == [(0, True), (0, False)]
    server.end(NAME)
    cell = {"source": "1", "create": True}
    for new in (True, False):
        answer = client.post(f"{SESSION}/execute", params={"stream": "true"}, json=cell)
        done = json.loads(answer.text.rpartition("event: done\ndata: ")[2])
        assert (done["status"], done["new_session"]) == ("ok", new)
    server.end(NAME)


async def test_clients_of_one_owner_that_are_remembered_have_a_bound(server_engine: str) -> None:
    clients, address = Clients(), Address("owner", NAME)
    async with (
        SessionPool(spec=SandboxSpec(limits=SMALL), engine=server_engine) as pool,
        pool.acquire(address.key) as pooled,
    ):
        for number in range(MOST_OF_ONE + 1):
            clients.meet(pooled, f"{number}")
        await pooled.session.restart()
        cell = pooled.stream("1")
        assert [event async for event in cell]
        told = [clients.meet(pooled, name).news(cell) for name in (f"{MOST_OF_ONE}", "0")]
        assert told == ["The kernel was restarted.", None]
