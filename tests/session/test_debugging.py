"""The debugger of a kernel, by Jupyter's protocol: it costs nothing until the first request for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_sandbox import Session
from tests.conftest import missing

LOADED = "import sys; 'debugpy' in sys.modules"


@pytest.fixture
def furnished() -> Iterator[Session]:
    if reason := missing("docker"):
        pytest.skip(reason)
    with Session(engine="docker", image="datascience") as opened:
        yield opened


@pytest.fixture
def client(furnished: Session) -> Iterator[BlockingKernelClient]:
    made = BlockingKernelClient(connection_file=str(furnished.connection_file))
    made.load_connection_file()
    made.start_channels()
    made.wait_for_ready(timeout=30)
    yield made
    made.stop_channels()


def asked(client: BlockingKernelClient, number: int, command: str, **arguments: Any) -> dict[str, Any]:
    """Send one request of the debug adapter protocol, and return the answer."""
    request = {"type": "request", "seq": number, "command": command, "arguments": arguments}
    message = client.session.msg("debug_request", request)
    client.control_channel.send(message)
    while True:
        reply = client.get_control_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            return dict(reply["content"])


def test_debugger_is_imported_at_the_first_request(furnished: Session, client: BlockingKernelClient) -> None:
    client.kernel_info()
    assert "debugger" in client.get_shell_msg(timeout=30)["content"]["supported_features"]
    assert furnished.execute(LOADED).text == "False"
    assert asked(client, 1, "debugInfo")["body"]["isStarted"] is False
    assert furnished.execute(LOADED).text == "True"


def test_breakpoint_stops_a_cell(furnished: Session, client: BlockingKernelClient) -> None:
    code = "a = 1\nb = a + 1\nb"
    assert asked(client, 1, "initialize", adapterID="python", clientID="test")["success"]
    assert asked(client, 2, "attach")["success"]
    path = asked(client, 3, "dumpCell", code=code)["body"]["sourcePath"]
    stop = asked(client, 4, "setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])
    assert stop["body"]["breakpoints"][0]["verified"]
    assert asked(client, 5, "configurationDone")["success"]
    client.execute(code)
    while True:
        heard = client.get_iopub_msg(timeout=30)
        if heard["msg_type"] == "debug_event" and heard["content"]["event"] == "stopped":
            break
    asked(client, 6, "continue", threadId=heard["content"]["body"]["threadId"])
    assert asked(client, 7, "disconnect", restart=False, terminateDebuggee=False)["success"]
    assert furnished.execute("b").text == "2"


def test_debugger_answers_after_a_cell_has_imported_debugpy(furnished: Session, client: BlockingKernelClient) -> None:
    furnished.execute("import debugpy").raise_for_error()
    assert asked(client, 1, "debugInfo")["body"]["isStarted"] is False
    assert asked(client, 2, "initialize", adapterID="python", clientID="test")["success"]
    assert asked(client, 3, "disconnect", restart=False, terminateDebuggee=False)["success"]
