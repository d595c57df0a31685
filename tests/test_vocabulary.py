"""One word for one thing over all doors: Python, the command line, the magics, the service's settings, /v1 and MCP.

Whoever adds a parameter, an option, a field or a tool finds here what the thing is called already. Names of foreign
protocols stay as those fix them: Azure's session pools, OpenAI's cookbook, papermill, OpenID, MCP itself.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

import kernel_sandbox
from kernel_sandbox import AsyncSession, Kept, Limits, PoolSettings, Ran, SandboxSpec, Session, SessionState, Status
from kernel_sandbox.session.outputs import Output
from tests import vocabulary
from tests.vocabulary import FACES, Name

SAY = {
    "backend": "engine",
    "provider": "engine",
    "box": "sandbox",
    "interpreter": "kernel",
    "tunnel": "transport",
    "bridge": "transport",
    "workspace": "session",
    "session_id": "identifier, which addresses a pool's session; a sandbox's own is Session.id",
    "session_name": "identifier",
    "snippet": "source",
    "code": "source, of a cell",
    "cell_code": "source",
    "response": "execution, or output",
    "run_result": "execution",
    "notebook": "transcript, for the cells so far",
    "history": "transcript",
    "log": "transcript",
    "snapshot": "checkpoint",
    "clone": "branch",
    "plugin": "host service",
    "callback": "host service",
    "worker": "node",
    "shard": "node",
    "cancel": "interrupt",
    "abort": "interrupt",
    "stop": "interrupt a cell, restart a kernel, shut a session down",
    "reset": "restart",
    "kill": "shutdown",
    "terminate": "shutdown",
    "destroy": "shutdown",
    "shell": "run_command",
    "exec": "execute",
    "function": "tool",
    "action": "tool",
    "images": "pictures, of a cell; an image is what sandboxes start from",
    "figures": "pictures",
    "timeout_seconds": "timeout",
    "time_limit": "timeout, or cell_timeout",
    "longest_timeout": "max_timeout",
    "max_execution_seconds": "max_timeout",
    "argv": "command, a list of words",
    "filename": "name, of a file below /mnt/data",
}
"""What no name is, nor has as one of its words, and what to say instead."""
WHOLE = {"modified": "modified_at", "created": "created_at", "last_used": "last_used_at", "expires": "expires_at"}
"""What no name is by itself."""

EXEMPT = {
    "response": "OpenAI's cookbook",
    "return_tool_response_as_is": "OpenAI's cookbook",
    "PythonExecAgent": "OpenAI's cookbook",
    "PythonExecTool": "OpenAI's cookbook",
    "keys create --expires": "a number of days",
    "export notebook": "any notebook, also one that is nobody's transcript",
    "Transcript.notebook": "the nbformat document itself",
    "export_notebook": "any notebook, also one that is nobody's transcript",
    "log_format": "the service's log",
    "function": "what `tool` decorates",
    "AsyncCellStream(stop)": "users get one and make none",
    "add_code_cell": "nbformat's kind of cell",
    "insert_code_cell": "nbformat's kind of cell",
}
"""Names, and places of names, that are right all the same."""
ENDS = ("exit_code", "status_code")
"""Where "code" is a number."""

WHERE = {
    "save": {
        *("Session(save)", "AsyncSession(save)", "SessionPool(save_dir)", "Transcript.save"),
        *("run --save", "repl --save", "ask --save", "mcp --save", "mcp --save-dir", "serve --save-dir", "save_dir"),
        *("%sandbox start --save", "%sandbox save"),
    },
    "transcript": {
        *("Transcript", "TranscriptError", "Session(transcript)", "AsyncSession(transcript)"),
        *("Session.transcript", "AsyncSession.transcript", "serve --transcript-days", "transcript_days"),
        *("/v1/sessions/{identifier}/transcript", "/v1/admin/session/transcript", "get_transcript"),
        *("/v1/transcripts/{transcript_id}", "/v1/admin/transcripts/{transcript_id}"),
    },
    "interrupt": {
        *("Session.interrupt", "AsyncSession.interrupt", "%sandbox interrupt"),
        *("/v1/sessions/{identifier}/interrupt", "/v1/admin/session/interrupt"),
        *("Limits.interrupt_grace", "Limits(interrupt_grace)", "limits.interrupt_grace"),
        "serve --limits-interrupt-grace",
    },
    "restart": {
        *("Session.restart", "AsyncSession.restart", "%sandbox restart", "restart_session"),
        *("Session.restart_if_dead", "AsyncSession.restart_if_dead", "/v1/sessions/{identifier}/restart"),
        *("Session.kept_by_restart", "AsyncSession.kept_by_restart"),
    },
    "shutdown": {"SessionPool.shutdown", "%sandbox shutdown", "shutdown_session"},
    "run_command": {
        *("Session.run_command", "AsyncSession.run_command", "PooledSession.run_command"),
        *("/v1/sessions/{identifier}/run_command", "run_command"),
    },
    "execute": {
        *("Session.execute", "AsyncSession.execute", "PooledSession.execute"),
        *("/v1/sessions/{identifier}/execute", "execute_python", "ExecuteResult"),
    },
    "state": {
        *("Session.state", "AsyncSession.state", "PooledSession.state", "SessionState"),
        *("SessionAnswer.state", "OwnedSessionAnswer.state", "list_sessions -> state"),
    },
    "max_timeout": {"max_timeout", "serve --max-timeout"},
    "cell_timeout": {
        *("Limits(cell_timeout)", "Limits.cell_timeout", "limits.cell_timeout", "serve --limits-cell-timeout"),
        *("run --cell-timeout", "repl --cell-timeout", "ask --cell-timeout", "mcp --cell-timeout"),
        *("%config cell_timeout", "CellTimeout"),
    },
    "--session": {f"%sandbox {name} --session" for name in vocabulary.MAGIC_COMMANDS}
    | {"%%sandbox --session"}
    | {"%ask --session"},
}
"""All places in which a word stands: another one is a decision, and written down here."""


def words(name: str) -> Iterator[str]:
    """The words of a name, one by one, and several together."""
    parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)
    for start in range(len(parts)):
        yield from ("_".join(parts[start:end]).lower() for end in range(start + 1, len(parts) + 1))


def every() -> set[Name]:
    return {name for face in FACES.values() for name in face()}


@pytest.mark.parametrize("face", FACES)
def test_no_face_has_a_second_word_for_a_thing(face: str) -> None:
    found: dict[str, str] = {}
    for place, name in FACES[face]():
        if {place, name} & EXEMPT.keys() or name.endswith(ENDS):
            continue
        if wrong := [f"{word}: say {SAY[word]}" for word in words(name) if word in SAY]:
            found[place] = wrong[0]
        if name in WHOLE:
            found[place] = f"{name}: say {WHOLE[name]}"
    assert not found, found


@pytest.mark.parametrize("word", WHERE)
def test_word_stands_where_it_is_meant_to(word: str) -> None:
    places = every()
    if word.startswith("--"):
        found = {place for place, _ in places if place.endswith(f" {word}")}
    else:
        found = {place for place, name in places if f"_{word}_" in f"_{'_'.join(words_of(name))}_"}
    assert {place for place in found if "?" not in place and "agents." not in place} == WHERE[word]


def words_of(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)]


def fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_limits_have_the_same_names_everywhere() -> None:
    rows = vocabulary.settings()
    assert {name for place, name in rows if place.startswith("limits.")} == fields(Limits)
    assert {name for place, name in rows if place.startswith("pool.")} == fields(PoolSettings)
    described = fields(SandboxSpec) | fields(Limits) | {"mount", "engine"}
    options = {"data", "save", "output_dir", "file", "parameters", "keep_going", "no_strict"}
    options |= {f"parameters_{kind}" for kind in ("raw", "file", "yaml")}
    assert {name for place, name in vocabulary.command_line() if place.startswith("run ")} <= described | options
    start = {name for place, name in vocabulary.magic() if place.startswith("%sandbox start ")}
    assert start <= described | {"save", "session", "help"}
    config = {name for place, name in vocabulary.magic() if place.startswith("%config ")}
    assert config <= described | {"html", "model", "transfer_limit"}


def test_states_and_outcomes_have_the_same_words_everywhere() -> None:
    models = vocabulary.openapi()["components"]["schemas"]
    assert models["SessionAnswer"]["properties"]["state"]["enum"] == [*get_args(SessionState)]
    told = models["ExecutionAnswer"]["properties"]
    data = vocabulary.tools()["execute_python"].data
    assert data is not None
    for name, kind in {"status": Status, "ran": Ran}.items():
        assert {*told[name]["enum"]} == {*get_args(kind)}, name
        assert {*data["properties"][name]["enum"]} - {"failed"} == {*get_args(kind)}, name
    assert told["kept"]["enum"] == data["properties"]["kept"]["enum"] == [*get_args(Kept)]


def test_what_addresses_a_pools_session_is_its_identifier() -> None:
    assert all(" --session" in place or name != "session" for place, name in vocabulary.magic())
    for tool in vocabulary.tools().values():
        assert ("identifier" in tool.arguments["properties"]) == (tool.name != "list_sessions")
    for path in vocabulary.openapi()["paths"]:
        assert path.startswith("/v1/sessions/{identifier}") or "{" not in path.replace("{transcript_id}", ""), path


def test_name_begins_with_async_where_there_is_a_sync_one() -> None:
    exported = [getattr(kernel_sandbox, name) for name in kernel_sandbox.__all__]
    ended = {kind.__name__ for kind in exported if inspect.isclass(kind) and hasattr(kind, "aclose")}
    assert ended == {"AsyncSession", "AsyncCellStream", "SessionPool"}  # there is no sync pool
    prefixed = {name for name in kernel_sandbox.__all__ if name.startswith("Async")}
    assert {name.removeprefix("Async") for name in prefixed} <= {*kernel_sandbox.__all__}
    assert hasattr(Session, "close")
    assert not hasattr(AsyncSession, "close")


def test_parts_of_an_output_are_named_as_in_nbformat() -> None:
    members = {name for kind in get_args(Output) for name in fields(kind)}
    assert members == {
        *("name", "text", "data", "metadata", "display_id", "execution_count", "ename", "evalue", "traceback"),
    }
