"""The published LangChain client, unmodified, against a running server: all that it offers."""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package announces its successor
    from langchain_azure_dynamic_sessions import SessionsBashTool, SessionsPythonREPLTool

from tests.doors.http.running import GEN2, Running
from tests.doors.http.test_llama_index import PLOT


@pytest.fixture
def python(server: Running) -> Iterator[SessionsPythonREPLTool]:
    tool = SessionsPythonREPLTool(pool_management_endpoint=f"{server.address}/pool", access_token_provider=lambda: "t")
    yield tool
    server.end(tool.session_id)


@pytest.fixture
def bash(server: Running) -> Iterator[SessionsBashTool]:
    tool = SessionsBashTool(pool_management_endpoint=server.address, access_token_provider=lambda: "t")
    yield tool
    server.end(tool.session_id)


def invoke(tool: SessionsPythonREPLTool | SessionsBashTool, text: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(tool.invoke(text))
    return answer


def until_gone(server: Running, identifier: str) -> bool:
    """The client deletes in a thread of its own: wait until the server knows the session no more."""
    deadline = time.monotonic() + 10
    with server.client() as client:
        while time.monotonic() < deadline:
            query = {"identifier": identifier, "api-version": GEN2}
            if client.get("/session", params=query).status_code == 404:
                return True
            time.sleep(0.05)
    return False


def test_python_keeps_state_and_types(python: SessionsPythonREPLTool) -> None:
    assert invoke(python, "x = 6") == {"result": "", "stdout": "", "stderr": ""}
    assert invoke(python, "x * 7") == {"result": 42, "stdout": "", "stderr": ""}


def test_python_failure_reaches_the_model(python: SessionsPythonREPLTool) -> None:
    told = invoke(python, "undefined")
    assert told["result"] is None
    assert "NameError" in told["stderr"]


def test_python_figure_keeps_its_base64_from_the_model(python: SessionsPythonREPLTool) -> None:
    call = {"args": {"python_code": PLOT}, "id": "1", "name": python.name, "type": "tool_call"}
    message = python.invoke(call)
    assert json.loads(message.content)["result"] == {"type": "image", "format": "png"}
    assert message.artifact["result"]["base64_data"]


@pytest.mark.parametrize("name", ["plain.txt", "d/ü b#%.txt", 'quo"te.txt', "a?b&c.txt"])
def test_python_file_goes_there_and_back(python: SessionsPythonREPLTool, name: str) -> None:
    uploaded = python.upload_file(data=io.BytesIO(b"hello"), remote_file_path=name)
    assert (uploaded.filename, uploaded.size_in_bytes) == (name, 5)
    assert uploaded.full_path == f"/mnt/data/{name}"
    assert [found.filename for found in python.list_files()] == [name]
    assert python.download_file(remote_file_path=name).read() == b"hello"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client never closes the file that it uploads
def test_python_uploads_and_downloads_local_files(python: SessionsPythonREPLTool, tmp_path: Path) -> None:
    local = tmp_path / "in.bin"
    local.write_bytes(bytes(range(256)))
    python.upload_file(local_file_path=str(local))
    python.download_file(remote_file_path="in.bin", local_file_path=str(tmp_path / "out.bin"))
    assert (tmp_path / "out.bin").read_bytes() == bytes(range(256))


def test_python_session_is_deleted_and_begins_anew(server: Running, python: SessionsPythonREPLTool) -> None:
    python.invoke("kept = 1")
    before = python.session_id
    python.delete_session()
    assert python.session_id != before
    assert until_gone(server, before)
    assert "NameError" in invoke(python, "kept")["stderr"]


def test_python_context_manager_deletes_its_session(server: Running) -> None:
    with SessionsPythonREPLTool(pool_management_endpoint=server.address, access_token_provider=lambda: "t") as tool:
        tool.invoke("1")
        identifier = tool.session_id
    assert until_gone(server, identifier)


def test_python_session_may_end_after_each_call(server: Running) -> None:
    tool = SessionsPythonREPLTool(
        pool_management_endpoint=server.address,
        access_token_provider=lambda: "t",
        delete_session_after_invocation=True,
    )
    identifier = tool.session_id
    tool.invoke("kept = 1")
    assert until_gone(server, identifier)


def test_bash_tells_streams_and_exit_code(bash: SessionsBashTool) -> None:
    told = invoke(bash, "echo out; echo err >&2; exit 3")
    assert told == {"stdout": "out\n", "stderr": "err\n", "exitCode": 3}
    assert invoke(bash, "true")["exitCode"] == 0


def test_bash_keeps_files(bash: SessionsBashTool) -> None:
    invoke(bash, "mkdir d; echo kept > d/f")
    assert invoke(bash, "cat d/f")["stdout"] == "kept\n"


@pytest.mark.parametrize("name", ["plain.txt", "d/ü b#%.txt"])
def test_bash_file_goes_there_and_back(bash: SessionsBashTool, name: str) -> None:
    uploaded = bash.upload_file(data=io.BytesIO(b"hello"), remote_file_path=name)
    assert (uploaded.filename, uploaded.size_in_bytes) == (name, 5)
    assert bash.download_file(remote_file_path=name).read() == b"hello"
    assert name.partition("/")[0] in [found.filename for found in bash.list_files()]


def test_bash_session_is_deleted(server: Running, bash: SessionsBashTool) -> None:
    bash.invoke("true")
    identifier = bash.session_id
    bash.close()
    assert until_gone(server, identifier)
