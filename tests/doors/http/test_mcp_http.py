"""The service's sessions as MCP tools over streamable HTTP, called by the SDK's own client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import httpx2
import nbformat
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, EmbeddedResource, ImageContent, TextResourceContents

from kernel_sandbox.doors.mcp.protocol_sessions import ProtocolSessions
from kernel_sandbox.pool import PoolSettings
from kernel_sandbox.service.identity import Role
from kernel_sandbox.service.keys import make_key
from kernel_sandbox.service.storage import Store
from tests.doors.http.running import Running, running, until
from tests.languages import require_image

pytestmark = pytest.mark.anyio
STATELESS = "2026-07-28"
"""The version of the protocol that has no sessions."""
MODES = ["auto", STATELESS]
PICTURE = """import base64
from IPython.display import Image, display
display(Image(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")))"""


@asynccontextmanager
async def connected(server: Running, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{server.address}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def run(client: Client, code: str, **arguments: Any) -> CallToolResult:
    return await client.call_tool("execute_python", {"source": code, **arguments})


async def output(client: Client, code: str, **arguments: Any) -> str:
    """What a cell that succeeds shows."""
    result = await run(client, code, **arguments)
    assert not result.is_error, result
    return str(result.structured_content["output"])


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


async def reach(state: Callable[[], bool], limit: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + limit
    while not state():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.05)


def identifiers(server: Running, key: str | None = None) -> set[str]:
    """The sessions that the service tells of."""
    with server.client(key) as client:
        return {session["identifier"] for session in client.get("/v1/sessions").raise_for_status().json()["sessions"]}


@pytest.fixture
async def tools(server: Running) -> AsyncIterator[Client]:
    """A client with a session of its own, which ends with it."""
    async with connected(server) as client:
        yield client


async def test_clients_have_a_session_each_which_keeps_its_state(server: Running) -> None:
    async with connected(server) as first, connected(server) as second:
        assert await output(first, "x = 20; x + 1") == "21"
        assert await output(first, "x * 2") == "40"
        assert await output(second, "'x' in dir()") == "False"
        names = [(await run(client, "1")).structured_content["identifier"] for client in (first, second)]
        assert names[0] != names[1]
        assert set(names) <= identifiers(server)


async def test_sandbox_ends_with_its_client(server: Running) -> None:
    async with connected(server) as client:
        name = (await run(client, "1")).structured_content["identifier"]
        assert name in identifiers(server)
    await reach(lambda: name not in identifiers(server))


async def test_named_session_is_that_of_the_other_routes_and_stays(server: Running) -> None:
    async with connected(server) as client:
        await output(client, "x = 6", identifier="shared")
        assert await output(client, "'x' in dir()") == "False"
        listed = await client.call_tool("list_sessions", {})
        assert "shared" in {session["identifier"] for session in listed.structured_content["sessions"]}
    with server.client() as http:
        told = http.post("/v1/sessions/shared/execute", json={"source": "x * 7"}).raise_for_status().json()
        assert told["outputs"][0]["data"]["text/plain"] == "42"
    server.end("shared")


async def test_client_without_sessions_of_the_protocol_has_one_of_its_identity(server: Running) -> None:
    async with connected(server, STATELESS) as client:
        assert (await run(client, "x = 1")).structured_content["identifier"] == "mcp-default"
        assert await output(client, "x + 1") == "2"
    async with connected(server, STATELESS) as client:
        assert await output(client, "x + 2") == "3"
    server.end("mcp-default")


async def test_results_are_what_they_are_over_stdio(tools: Client) -> None:
    result = await run(tools, PICTURE + "\nprint('before')\n1 / 0")
    assert result.is_error
    assert [block.mime_type for block in result.content if isinstance(block, ImageContent)] == ["image/png"]
    assert result.structured_content["error"]["ename"] == "ZeroDivisionError"
    assert "before" in text_of(result)
    shell = await tools.call_tool("run_command", {"command": "echo out; exit 2"})
    assert (shell.structured_content["stdout"], shell.structured_content["exit_status"]) == ("out\n", 2)


async def test_files_and_notebook_and_reset(tools: Client) -> None:
    missing = await tools.call_tool("read_file", {"name": "a.txt"})
    assert "the session has not begun yet" in text_of(missing)
    assert (await tools.call_tool("list_files", {})).structured_content["total"] == 0
    assert "run a cell first" in text_of(await tools.call_tool("get_transcript", {}))
    await tools.call_tool("write_file", {"name": "a.txt", "content": "written"})
    assert await output(tools, "x = 1; open('a.txt').read()") == "'written'"
    assert (await tools.call_tool("read_file", {"name": "a.txt"})).structured_content["text"] == "written"
    await output(tools, "_ = open('big', 'wb').write(bytes(1024 * 1024 + 1))")
    assert "more than 1 MB" in text_of(await tools.call_tool("read_file", {"name": "big"}))
    await tools.call_tool("restart_session", {})
    assert await output(tools, "'x' in dir(), open('a.txt').read()") == "(False, 'written')"
    exported = (await tools.call_tool("get_transcript", {})).content[1]
    assert isinstance(exported, EmbeddedResource)
    assert isinstance(exported.resource, TextResourceContents)
    notebook = nbformat.reads(exported.resource.text, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert len(notebook.cells) == 3
    await tools.call_tool("shutdown_session", {})
    assert (await tools.call_tool("list_files", {})).structured_content["total"] == 0


async def test_dead_kernel_is_told_and_the_next_call_finds_another(tools: Client) -> None:
    await output(tools, "x = 1")
    died = await run(tools, "import os; os._exit(3)")
    assert (died.structured_content["status"], died.structured_content["kept"]) == ("dead", "files")
    again = await run(tools, "'x' in dir()")
    assert again.structured_content["output"] == "False"
    assert "exited with status 3" in again.structured_content["restarted_because"]
    assert "without earlier variables" in text_of(again)
    assert "restarted_because" not in (await run(tools, "1")).structured_content


@pytest.mark.parametrize("mode", MODES)
async def test_cancelled_call_interrupts_its_cell_and_nothing_else(server: Running, mode: str) -> None:
    begun = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        if message is not None and message.endswith("begun"):
            begun.set()

    endless = {"source": "kept = 5\nprint('begun', flush=True)\nwhile True: pass", "identifier": f"cancelled {mode}"}
    async with connected(server, mode) as client:
        call = asyncio.ensure_future(client.call_tool("execute_python", endless, progress_callback=note))
        await asyncio.wait_for(begun.wait(), 60)
        call.cancel()
        await asyncio.wait([call])
        assert await asyncio.wait_for(output(client, "kept", identifier=endless["identifier"]), 30) == "5"
    server.end(endless["identifier"])


async def test_call_longer_than_a_request_may_take_is_given_up(server_engine: str, tmp_path: Path) -> None:
    pool = PoolSettings(ready=1, sessions=1)
    with running(tmp_path, engine=server_engine, pool=pool, request_timeout=10.0) as server:
        async with connected(server) as client:
            await output(client, "kept = 5")
            result = await run(client, "import time; time.sleep(60)")
            assert result.is_error
            assert "longer than a request may" in text_of(result)
            assert await output(client, "kept") == "5"


async def test_end_of_the_client_ends_its_cell(server: Running) -> None:
    async with connected(server) as client:
        name = (await run(client, "1")).structured_content["identifier"]
        call = asyncio.ensure_future(run(client, "while True: pass"))
        with server.client() as http:
            await reach(lambda: http.get(f"/v1/sessions/{name}").json()["state"] == "busy")
        call.cancel()
    await reach(lambda: name not in identifiers(server))


# Who may do what


@pytest.fixture(scope="module")
def keyed(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A server that asks for keys, and four of them."""
    directory = tmp_path_factory.mktemp("keyed")
    keys = asyncio.run(make_keys(str(directory / "server.db")))
    pool = PoolSettings(ready=0, sessions=8)
    with running(directory, engine=server_engine, keys="on", pool=pool) as started:
        yield started, keys


async def make_keys(database: str) -> dict[str, str]:
    admin: tuple[Role, ...] = ("admin",)
    made = {
        "alice": make_key("alice"),
        "bob": make_key("bob"),
        "team": make_key("team", prefixes=("team/",)),
        "watcher": make_key("watcher", roles=admin),
    }
    async with Store(database) as store:
        for _, record in made.values():
            await store.add_key(record)
    return {name: key for name, (key, _) in made.items()}


async def test_identities_cannot_reach_each_others_sessions(keyed: tuple[Running, dict[str, str]]) -> None:
    server, keys = keyed
    alice_headers = {"authorization": f"Bearer {keys['alice']}"}
    async with connected(server, **alice_headers) as alice, connected(server, **{"x-api-key": keys["bob"]}) as bob:
        await output(alice, "secret = 1; _ = open('secret.txt', 'w').write('s')", identifier="same name")
        assert await output(bob, "'secret' in dir()", identifier="same name") == "False"
        files = await bob.call_tool("list_files", {"identifier": "same name"})
        assert files.structured_content["total"] == 0
        read = await bob.call_tool("read_file", {"name": "secret.txt", "identifier": "same name"})
        assert read.is_error
        assert "There is no 'secret.txt'" in text_of(read)
        for client in (alice, bob):
            (listed,) = (await client.call_tool("list_sessions", {})).structured_content["sessions"]
            assert (listed["identifier"], listed["cells"]) == ("same name", 1)


def initialize(http: httpx.Client) -> httpx.Response:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    return post(http, "initialize", params)


def message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def post(http: httpx.Client, method: str, params: dict[str, Any], **headers: str) -> httpx.Response:
    accept = {"accept": "application/json, text/event-stream", **headers}
    return http.post("/mcp", json=message(method, params), headers=accept)


async def test_session_of_the_protocol_is_not_there_for_others(keyed: tuple[Running, dict[str, str]]) -> None:
    server, keys = keyed
    with server.client(keys["alice"]) as alice, server.client(keys["bob"]) as bob:
        session = {"mcp-session-id": initialize(alice).headers["mcp-session-id"]}
        assert post(alice, "tools/list", {}, **session).status_code == 200
        assert post(bob, "tools/list", {}, **session).status_code == 404
        assert bob.delete("/mcp", headers=session).status_code == 404
        assert post(alice, "tools/list", {}, **session).status_code == 200
        assert alice.delete("/mcp", headers=session).status_code == 200
        assert post(alice, "tools/list", {}, **session).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "ks_wrong"}, {"authorization": "Bearer nonsense"}])
async def test_nobody_comes_in_without_a_key(keyed: tuple[Running, dict[str, str]], headers: dict[str, str]) -> None:
    server, _ = keyed
    with server.client() as http:
        http.headers.update(headers)
        answer = initialize(http)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "mcp-session-id" not in answer.headers


async def test_key_with_a_prefix_keeps_to_it(keyed: tuple[Running, dict[str, str]]) -> None:
    server, keys = keyed
    async with connected(server, **{"x-ms-apikey": keys["team"]}) as client:
        result = await run(client, "1")
        assert result.structured_content["identifier"].startswith("team/mcp-")
        refused = await run(client, "1", identifier="elsewhere")
        assert refused.is_error
        assert "may not use that identifier" in text_of(refused)
        assert await output(client, "2", identifier="team/other") == "2"


async def test_key_that_may_not_execute_runs_nothing(keyed: tuple[Running, dict[str, str]]) -> None:
    server, keys = keyed
    async with connected(server, **{"x-api-key": keys["watcher"]}) as client:
        result = await run(client, "1")
        assert result.is_error
        assert "needs the role 'executor'" in text_of(result)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"host": "evil.example"}, {"host": "evil.example", "origin": "null"}],
    ids=["origin", "host", "both"],
)
async def test_web_pages_of_others_are_refused(server: Running, headers: dict[str, str]) -> None:
    with server.client() as http:
        http.headers.update(headers)
        assert initialize(http).status_code == 403


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
async def test_other_methods_are_refused(server: Running, method: str) -> None:
    with server.client() as http:
        answer = http.request(method, "/mcp", headers={"accept": "text/event-stream"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, DELETE"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"nonsense", 400), (b"[]", 400), (b'{"jsonrpc": "2.0", "id": 1, "method": "x"}', 400)],
    ids=["empty", "nonsense", "batch", "no session"],
)
async def test_malformed_requests_are_refused(server: Running, body: bytes, status: int) -> None:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    with server.client() as http:
        assert http.post("/mcp", content=body, headers=headers).status_code == status


async def test_body_that_is_too_large_is_refused(server: Running) -> None:
    with server.client() as http:
        assert post(http, "initialize", {"x": "x" * (server.settings.max_body_bytes + 1)}).status_code == 413


def test_sessions_of_the_protocol_are_counted_by_identity() -> None:
    sessions = ProtocolSessions(idle=60, most=2)
    sessions.note("1", "alice")
    assert sessions.has_room("alice")
    sessions.note("2", "alice")
    sessions.note("2", "alice")
    assert not sessions.has_room("alice")
    assert sessions.has_room("bob")
    sessions.forget("1")
    assert sessions.has_room("alice")
    assert ProtocolSessions(idle=0, most=1, _used={"1": ("alice", time.monotonic() - 1)}).has_room("alice")


async def test_identity_with_too_many_sessions_of_the_protocol_is_refused(server_engine: str, tmp_path: Path) -> None:
    pool = PoolSettings(ready=0, sessions=1)
    with running(tmp_path, engine=server_engine, pool=pool) as server, server.client() as http:
        answers = [initialize(http) for _ in range(65)]
        assert [answer.status_code for answer in answers] == [200] * 64 + [429]
        assert answers[-1].headers["retry-after"] == "60"
        first = answers[0].headers["mcp-session-id"]
        assert http.delete("/mcp", headers={"mcp-session-id": first}).status_code == 200
        assert initialize(http).status_code == 200


def test_log_holds_no_identifier_of_the_protocol(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as http:
        session = initialize(http).headers["mcp-session-id"]
    logging.getLogger("mcp.server.streamable_http_manager").error(f"Session {session} crashed")
    assert "crashed" in caplog.text
    assert session not in caplog.text


# A session pool's own endpoint


@pytest.fixture
def pool(server: Running) -> Iterator[Callable[..., dict[str, Any]]]:
    """Calls a method at a pool's endpoint as its clients do, each request for itself."""
    with server.client() as http:

        def call(method: str, **params: Any) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
            answer = http.post("/subscriptions/s/resourceGroups/g/sessionPools/p/mcp", json=body)
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            return told

        yield call


def content(pool: Callable[..., dict[str, Any]], tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool at a pool's endpoint, and return what it answered as data."""
    found: dict[str, Any] = pool("tools/call", name=tool, arguments=arguments)["result"]["structuredContent"]
    return found


def test_pool_endpoint_runs_code_and_commands_in_an_environment(pool: Callable[..., dict[str, Any]]) -> None:
    about = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    assert pool("initialize", **about)["result"]["protocolVersion"] == "2025-03-26"
    tools = [tool["name"] for tool in pool("tools/list")["result"]["tools"]]
    assert tools == ["launchShell", "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"]

    launched = [content(pool, "launchShell")["environmentId"] for _ in range(2)]
    first, second = launched
    ran = content(pool, "runPythonCodeInRemoteEnvironment", environmentId=first, pythonCode="x = 5\nprint('hi')\nx")
    assert ran == {"stdout": "hi\n5", "stderr": "", "exitCode": 0}
    shell = content(
        pool, "runShellCommandInRemoteEnvironment", environmentId=first, shellCommand="echo a; echo b >&2; exit 3"
    )
    assert shell == {"stdout": "a\n", "stderr": "b\n", "exitCode": 3}
    words = content(
        pool, "runShellCommandInRemoteEnvironment", environmentId=first, execCommandAndArgs=["echo", "$x  y"]
    )
    assert words["stdout"] == "$x  y\n"
    failed = content(pool, "runPythonCodeInRemoteEnvironment", environmentId=second, pythonCode="x")
    assert failed["exitCode"] == 1
    assert "NameError" in failed["stderr"]


def test_pool_endpoint_tells_what_became_of_a_kernel(pool: Callable[..., dict[str, Any]]) -> None:
    launched = content(pool, "launchShell")
    died = content(
        pool, "runPythonCodeInRemoteEnvironment", **launched, pythonCode="import os, time; time.sleep(0.2); os._exit(3)"
    )
    assert "The cell ran in part; variables are lost" in died["stderr"]
    fresh, again = (
        content(pool, "runShellCommandInRemoteEnvironment", **launched, shellCommand="echo b >&2") for _ in range(2)
    )
    assert fresh["stderr"].endswith("without earlier variables. The kernel exited with status 3.]\nb\n")
    assert again == {"stdout": "", "stderr": "b\n", "exitCode": 0}


def test_pool_endpoint_knows_only_environments_that_it_launched(pool: Callable[..., dict[str, Any]]) -> None:
    arguments = {"environmentId": "mine", "pythonCode": "1"}
    told = pool("tools/call", name="runPythonCodeInRemoteEnvironment", arguments=arguments)
    assert told["error"]["code"] == -32000
    assert told["error"]["message"].startswith("Environment not found")


def test_pool_environment_of_another_identity_is_not_found(keyed: tuple[Running, dict[str, str]]) -> None:
    server, keys = keyed

    def call(key: str, name: str, **arguments: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        with server.client() as http:
            told: dict[str, Any] = http.post("/pool/mcp", json=body, headers={"x-ms-apikey": keys[key]}).json()
            return told

    environment = call("team", "launchShell")["result"]["structuredContent"]["environmentId"]
    run = {"environmentId": environment, "pythonCode": "6 * 7"}
    assert call("bob", "runPythonCodeInRemoteEnvironment", **run)["error"]["code"] == -32000
    ran = call("team", "runPythonCodeInRemoteEnvironment", **run)
    assert ran["result"]["structuredContent"]["stdout"] == "42"
    assert f"team/env-{environment}" in identifiers(server, keys["team"])


WITHOUT = "import sys; sys.modules['mcp'] = sys.modules['mcp_types'] = None\n"
"""Makes both look as if they were not installed."""


def test_service_without_the_extra_has_no_tools() -> None:
    code = (
        WITHOUT
        + """
from types import SimpleNamespace
from kernel_sandbox.doors.http.asgi_app import create_app
from kernel_sandbox.service.settings import ServerSettings
app = create_app(SimpleNamespace(settings=ServerSettings()), None)
print(app.state.mcp, [route for route in app.routes if getattr(route, "path", "") == "/mcp"])"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "None []\n"


def test_command_without_the_extra_says_what_is_missing() -> None:
    code = WITHOUT + "sys.argv = ['kernel-sandbox', 'mcp']; from kernel_sandbox.doors.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "pip install 'kernel-sandbox[mcp]'" in " ".join(done.stderr.split())


# What becomes of calls


async def test_waiting_call_that_is_given_up_never_runs(server: Running) -> None:
    async with connected(server) as client, connected(server) as other, connected(server, STATELESS) as third:
        await output(client, "import time; ran = []", identifier="turns")
        running = asyncio.ensure_future(run(client, "time.sleep(1.5); ran.append('A')", identifier="turns"))
        with server.client() as http:
            await reach(lambda: http.get("/v1/sessions/turns").json()["cells"] == 2)
            for each in (other, third):
                waiting = asyncio.ensure_future(run(each, "ran.append('B')", identifier="turns"))
                await reach(lambda: http.get("/v1/sessions/turns").json()["cells"] > 2)
                waiting.cancel()
            asked = {"name": "execute_python", "arguments": {"source": "ran.append('C')", "identifier": "turns"}}
            session = {"mcp-session-id": initialize(http).headers["mcp-session-id"]}
            with pytest.raises(httpx.ReadTimeout):  # its connection breaks: it cannot cancel any more
                http.post(
                    "/mcp",
                    json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked},
                    headers={"accept": "application/json, text/event-stream", **session},
                    timeout=0.3,
                )
        assert (await running).structured_content["ran"] == "whole"
        assert await output(client, "ran", identifier="turns") == "['A']"
    server.end("turns")


def test_call_whose_connection_breaks_while_its_sandbox_starts_never_runs(server_engine: str, tmp_path: Path) -> None:
    asked = {"source": "open('/mnt/data/log', 'w').close()", "identifier": "cold"}
    pool = PoolSettings(ready=0, sessions=1)
    with running(tmp_path, engine=server_engine, pool=pool) as server, server.client() as http:
        headers = {
            "mcp-session-id": initialize(http).headers["mcp-session-id"],
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        call = message("tools/call", {"name": "execute_python", "arguments": asked})
        with contextlib.closing(HTTPConnection(server.address.removeprefix("http://"), timeout=60)) as impatient:
            impatient.request("POST", "/mcp", json.dumps(call), headers)
            state = None
            while state is None:
                state = http.get("/v1/sessions/cold").json().get("state")
            assert state == "starting"
        until(lambda: http.get("/v1/sessions/cold").json().get("cells") == 1)
        ran = http.post("/v1/sessions/cold/execute", json={"source": "import os; os.listdir('/mnt/data')"}).json()
        assert ran["outputs"][0]["data"]["text/plain"] == "[]"


async def test_call_whose_connection_breaks_runs_on(server: Running) -> None:
    """A broken connection is no cancellation, MCP says."""
    async with connected(server) as client:
        await output(client, "import time; ran = []", identifier="broken")
        asked = {"source": "ran.append(1); time.sleep(1); ran.append(2)", "identifier": "broken"}
        with server.client() as http:
            session = {"mcp-session-id": initialize(http).headers["mcp-session-id"]}
            http.timeout = httpx.Timeout(0.6)
            with pytest.raises(httpx.ReadTimeout):
                post(http, "tools/call", {"name": "execute_python", "arguments": asked}, **session)
        assert await output(client, "ran", identifier="broken") == "[1, 2]"
    server.end("broken")


async def test_reset_during_a_cell_tells_that_it_ran_and_lost_its_variables(server: Running) -> None:
    async with connected(server) as client:
        code = "open('/mnt/data/begun', 'w').close(); kept = 1; import time; time.sleep(60)"
        running = asyncio.ensure_future(run(client, code, identifier="reset"))
        with server.client() as http:
            await reach(lambda: "begun" in http.get("/v1/sessions/reset/files").text)
        await client.call_tool("restart_session", {"identifier": "reset"})
        told = (await running).structured_content
        assert (told["status"], told["ran"], told["kept"]) == ("aborted", "began", "files")
        assert await output(client, "'kept' in dir(), __import__('os').listdir()", identifier="reset") == (
            "(False, ['begun'])"
        )
    server.end("reset")


async def test_tools_are_of_the_image_of_the_service(tmp_path: Path, server_engine: str) -> None:
    require_image(server_engine, "bash")
    with running(tmp_path, engine=server_engine, image="bash", pool=PoolSettings(ready=0, sessions=2)) as server:
        async with connected(server) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert "execute_bash" in tools
            assert not {"execute_python", "run_command"} & tools
            result = await client.call_tool("execute_bash", {"source": "x=41; echo $((x + 1))"})
            assert result.structured_content["output"] == "42"
        with server.client() as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            told = http.post("/subscriptions/s/resourceGroups/g/sessionPools/p/mcp", json=body).json()["result"]
        assert [tool["name"] for tool in told["tools"]] == ["launchShell", "runPythonCodeInRemoteEnvironment"]
        assert "Run Bash" in told["tools"][1]["description"]
