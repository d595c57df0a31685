"""The server's own routes: whole results, live events, files, notebooks, and what happens to who goes away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import nbformat
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.doors.http.running import GEN1, GEN2, Running, until
from tests.doors.http.test_llama_index import PLOT


@pytest.fixture
def session(server: Running, client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a session of the test's own."""
    name = f"of {request.node.name}"
    client.post("/v1/sessions", json={"identifier": name}).raise_for_status()
    yield f"/v1/sessions/{quote(name, safe='')}"
    server.end(name)


def run(client: httpx.Client, session: str, source: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"{session}/execute", json={"source": source, **fields})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@contextmanager
def events(client: httpx.Client, session: str, source: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """Run a cell and iterate over its server-sent events: name and data."""

    def read(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    headers = {"accept": "text/event-stream"}
    with client.stream("POST", f"{session}/execute", json={"source": source}, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield read(answer.iter_lines())


def test_session_is_made_once_and_named(server: Running, client: httpx.Client) -> None:
    made = client.post("/v1/sessions")
    assert made.status_code == 201
    name = made.json()["identifier"]
    assert made.headers["location"] == f"/v1/sessions/{name}"
    again = client.post("/v1/sessions", json={"identifier": name})
    assert again.status_code == 200
    assert again.json()["created_at"] == made.json()["created_at"]
    assert name in [each["identifier"] for each in client.get("/v1/sessions").json()["sessions"]]
    assert client.delete(f"/v1/sessions/{name}").status_code == 204
    assert client.delete(f"/v1/sessions/{name}").status_code == 404


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "ü ?&#", "...", "a/..", "x" * 256])
def test_session_may_have_any_name(server: Running, client: httpx.Client, name: str) -> None:
    location = client.post("/v1/sessions", json={"identifier": name}).headers["location"]
    # A path of dots is one that clients resolve themselves; encoded, it is a name.
    location = location.replace("/..", "/%2E%2E")
    raw = httpx.URL(client.base_url).copy_with(raw_path=location.encode())
    assert client.get(raw).json()["identifier"] == name
    server.end(name)


def test_session_that_looks_like_another_is_refused(client: httpx.Client) -> None:
    for hidden in ("\u3164", "\u115f", "\ufe0f", "\u17b4", "\u200d", "\x7f", "\U000e0100"):
        answer = client.post("/v1/sessions", json={"identifier": f"alike{hidden}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidIdentifier"), ascii(hidden)


@pytest.mark.parametrize("name", [".", ".."])
def test_session_that_clients_cannot_address_is_refused(server: Running, client: httpx.Client, name: str) -> None:
    refused = [client.post("/v1/sessions", json={"identifier": name})]
    cell = {"properties": {"code": "1", "pythonCode": "1", "identifier": name}}
    query = {"identifier": name, "owner": "anonymous", "api-version": GEN1}
    refused += [client.post(path, params=query, json=cell) for path in ("/code/execute", "/python/execute")]
    refused.append(client.get("/v1/admin/session", params=query))
    escaped = name.replace(".", "%2E")
    with socket.create_connection(("127.0.0.1", urlsplit(server.address).port or 0), timeout=10) as stream:
        stream.sendall(f"GET /v1/sessions/{escaped} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert b" 400 " in stream.recv(65536)
    assert [(each.status_code, each.json()["error"]["code"]) for each in refused] == [(400, "InvalidIdentifier")] * 4
    head = {"operation-id": name}
    answer = client.post(
        "/executions", params=query | {"identifier": "a", "api-version": GEN2}, headers=head, json=cell
    )
    assert answer.status_code == 400


def test_missing_session_is_made_only_if_asked(server: Running, client: httpx.Client) -> None:
    path = "/v1/sessions/made-by-a-cell/execute"
    assert client.post(path, json={"source": "1"}).status_code == 404
    assert client.post(path, json={"source": "1", "create": True}).status_code == 200
    server.end("made-by-a-cell")


def test_every_output_comes_in_order(client: httpx.Client, session: str) -> None:
    source = PLOT + "\nimport sys; print('e', file=sys.stderr)\n{'a': 1}"
    told = run(client, session, source)
    kinds = [(each["output_type"], each.get("name")) for each in told["outputs"]]
    expected = [("stream", "stdout"), ("display_data", None), ("stream", "stderr"), ("execute_result", None)]
    assert kinds == expected
    assert told["outputs"][1]["data"]["image/png"].startswith("iVBORw0KGgo")
    assert told["outputs"][3]["data"]["text/plain"] == "{'a': 1}"
    assert (told["status"], told["execution_count"], told["error"]) == ("ok", 1, None)


def test_failure_keeps_what_came_before(client: httpx.Client, session: str) -> None:
    told = run(client, session, "print('before'); 1 / 0")
    assert told["status"] == "error"
    assert told["outputs"][0]["text"] == "before\n"
    assert told["error"]["ename"] == "ZeroDivisionError"


def test_dead_kernel_is_told_and_so_is_the_loss(client: httpx.Client, session: str) -> None:
    run(client, session, "kept = 1; open('f', 'w').write('x')")
    assert run(client, session, "import os; os._exit(3)")["status"] == "dead"
    told = run(client, session, "'kept' in globals()")
    assert told["outputs"][0]["data"]["text/plain"] == "False"
    assert "exited with status 3" in told["restarted_because"]
    assert run(client, session, "1")["restarted_because"] is None
    assert client.get(f"{session}/files/f").text == "x"


def test_time_out_ends_the_cell_and_keeps_the_session(client: httpx.Client, session: str) -> None:
    run(client, session, "kept = 1")
    assert run(client, session, "while True: pass", timeout=1)["status"] == "timeout"
    assert run(client, session, "kept")["outputs"][0]["data"]["text/plain"] == "1"


def test_outputs_are_sent_as_they_come(client: httpx.Client, session: str) -> None:
    source = "print('first', flush=True)\nimport time; time.sleep(0.5)\n'last'"
    with events(client, session, source) as found:
        assert next(found) == ("output", {"output_type": "stream", "name": "stdout", "text": "first\n"})
        name, data = next(found)
        assert (name, data["output_type"], data["data"]["text/plain"]) == ("output", "execute_result", "'last'")
        name, data = next(found)
        assert (name, data["status"], data["restarted_because"]) == ("done", "ok", None)
        assert data["duration"] >= 0.5
        assert list(found) == []


def test_client_that_goes_away_interrupts_its_cell(client: httpx.Client, session: str) -> None:
    with events(client, session, "print('began', flush=True)\nimport time; time.sleep(60)") as found:
        next(found)
        assert client.get(session).json()["state"] == "busy"
    until(lambda: client.get(session).json()["state"] == "idle")
    cells = client.get(f"{session}/transcript").json()["cells"]
    assert any(output.get("ename") == "KeyboardInterrupt" for output in cells[-1]["outputs"])


def test_cell_is_interrupted_from_another_connection(client: httpx.Client, session: str) -> None:
    with events(client, session, "print('began', flush=True)\nimport time; time.sleep(60)") as found:
        next(found)
        assert client.post(f"{session}/interrupt").status_code == 204
        outcome = dict(found)
    assert outcome["done"]["status"] == "error"
    assert outcome["done"]["error"]["ename"] == "KeyboardInterrupt"
    assert client.post(f"{session}/interrupt").status_code == 204


def test_cells_of_one_session_run_one_at_a_time(server: Running, client: httpx.Client, session: str) -> None:
    run(client, session, "running, most = 0, 0")
    source = "running += 1; most = max(most, running); import time; time.sleep(0.2); running -= 1"

    def send() -> None:
        with server.client() as own:
            run(own, session, source)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = run(client, session, "most")
    assert (told["outputs"][0]["data"]["text/plain"], told["execution_count"]) == ("1", 6)


def test_restart_forgets_variables_and_keeps_files(client: httpx.Client, session: str) -> None:
    run(client, session, "gone = 1; open('stays', 'w').write('x')")
    assert client.post(f"{session}/restart").json()["state"] == "idle"
    assert run(client, session, "'gone' in globals()")["outputs"][0]["data"]["text/plain"] == "False"
    assert client.get(f"{session}/files/stays").text == "x"


@pytest.mark.parametrize("name", ["plain.bin", "d/e/ü b#%?.txt", "'quoted\".txt"])
def test_file_goes_there_and_back(client: httpx.Client, session: str, name: str) -> None:
    path, content = f"{session}/files/{quote(name)}", bytes(range(256)) * 8192
    assert client.put(path, content=content).json() | {"modified_at": ""} == {
        "name": name,
        "kind": "file",
        "size": len(content),
        "modified_at": "",
    }
    answer = client.get(path)
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    last = quote(name.rpartition("/")[2], safe="")
    assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{last}")
    assert name in [each["name"] for each in client.get(f"{session}/files").json()["files"]]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_full_disk_is_told(client: httpx.Client, session: str) -> None:
    run(client, session, "import os; f = open('big', 'wb'); f.write(b'x' * (os.statvfs('.').f_bavail * 4096 - 65536))")
    answer = client.put(f"{session}/files/more", content=b"y" * 1_000_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "SessionStorageFull")


def test_shell_command_runs_beside_the_cells(client: httpx.Client, session: str) -> None:
    run(client, session, "import os; os.makedirs('d'); os.chdir('d'); os.environ['MINE'] = 'yes'; x = 1")
    told = client.post(f"{session}/run_command", json={"command": "pwd; echo $MINE; exit 4"}).json()
    assert (told["stdout"], told["exit_status"]) == ("/mnt/data/d\nyes\n", 4)
    assert client.post(f"{session}/run_command", json={"command": ["true"]}).json()["exit_status"] == 0
    shown = run(client, session, "x, [n for n in dir() if 'shell' in n]")["outputs"][0]["data"]
    assert shown["text/plain"] == "(1, [])"
    assert client.post(f"{session}/run_command", json={}).status_code == 400


def test_shell_command_never_drops_its_last_write(client: httpx.Client, session: str) -> None:
    command = "for i in 1 2 3; do (for j in $(seq 300); do echo $j; done; echo last); done; printf end"
    for _ in range(60):
        told = client.post(f"{session}/run_command", json={"command": command}).json()
        assert told["stdout"].count("last\n") == 3
        assert told["stdout"].endswith("last\nend")


def test_shell_command_may_leave_something_running(client: httpx.Client, session: str) -> None:
    started = time.monotonic()
    told = client.post(f"{session}/run_command", json={"command": "sleep 50 & echo on"}).json()
    assert (told["stdout"], told["exit_status"]) == ("on\n", 0)
    assert time.monotonic() - started < 20


def test_notebook_is_valid_and_named_safely(client: httpx.Client, session: str) -> None:
    run(client, session, "'é'")
    answer = client.get(f"{session}/transcript")
    notebook = nbformat.reads(answer.text, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == ["'é'"]
    assert answer.headers["content-disposition"].startswith("attachment;")


def test_notebook_outlives_its_session(server: Running, client: httpx.Client) -> None:
    client.post("/v1/sessions/remembered/execute", json={"source": "'kept'", "create": True})

    def kept() -> list[dict[str, Any]]:
        found = client.get("/v1/transcripts").json()["transcripts"]
        return [each for each in found if each["identifier"] == "remembered"]

    until(lambda: bool(kept()))
    client.delete("/v1/sessions/remembered")
    assert client.get("/v1/sessions/remembered").status_code == 404
    assert "'kept'" in client.get("/v1/sessions/remembered/transcript").text
    assert client.get(f"/v1/transcripts/{kept()[0]['id']}").json()["cells"][0]["source"] == ["'kept'"]


def test_usage_is_told(client: httpx.Client, session: str) -> None:
    run(client, session, "open('f', 'wb').write(b'x' * 1_000_000)")
    told = client.get(f"{session}/usage").json()
    assert told["data"] >= 1_000_000
    assert told["processes"] >= 2


def socket_of(server: Running, session: str, **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(server.address.replace("http", "ws") + session + "/ws", **options)
    return socket


def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=30))
    return message


def test_live_connection_streams_cells_in_order(server: Running, session: str) -> None:
    with socket_of(server, session) as socket:
        for number in range(3):
            socket.send(json.dumps({"type": "execute", "id": str(number), "source": f"print({number}); x = {number}"}))
        for number in range(3):
            output = receive(socket)
            assert (output["type"], output["id"], output["output"]["text"]) == ("output", str(number), f"{number}\n")
            done = receive(socket)
            assert (done["type"], done["id"], done["execution"]["status"]) == ("done", str(number), "ok")


def test_live_messages_are_ones_that_clients_take_and_lose_nothing(server: Running, session: str) -> None:
    source = """
text = ('"\\\\é🙂 \\x00' * 300_000)
print(text)
display({'text/plain': text}, raw=True)
raise ValueError(text[:400_000])
"""
    expected = '"\\é🙂 \x00' * 300_000
    events: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    sizes: list[int] = []
    with socket_of(server, session) as live:  # its default takes no more than 1 MiB
        live.send(json.dumps({"type": "execute", "id": "1", "source": source}))
        while not events or events[-1]["type"] != "done":
            raw = live.recv(timeout=60)
            sizes.append(len(raw))
            message = json.loads(raw)
            parts += [message] if message["type"] == "part" else []
            if parts and len(parts) == parts[0]["parts"]:
                message, parts = json.loads("".join(part["text"] for part in parts)), []
            events += [] if message["type"] == "part" else [message]
    outputs = [event["output"] for event in events if event["type"] == "output"]
    assert "".join(each["text"] for each in outputs if each["output_type"] == "stream") == expected + "\n"
    (shown,) = [each for each in outputs if each["output_type"] == "display_data"]
    assert shown["data"] == {"text/plain": expected}
    (error,) = [each for each in outputs if each["output_type"] == "error"]
    assert error["ename"] == "ValueError"
    assert max(sizes) < 2**20


def test_live_connection_interrupts(server: Running, session: str) -> None:
    with socket_of(server, session) as socket:
        source = "print('began', flush=True)\nimport time; time.sleep(60)"
        socket.send(json.dumps({"type": "execute", "id": "1", "source": source}))
        assert receive(socket)["output"]["text"] == "began\n"
        socket.send('{"type": "interrupt"}')
        found = [receive(socket), receive(socket)]
        assert found[0]["output"]["ename"] == "KeyboardInterrupt"
        assert found[1]["execution"]["status"] == "error"


def test_live_connection_that_closes_interrupts_its_cell(server: Running, client: httpx.Client, session: str) -> None:
    with socket_of(server, session) as socket:
        source = "print('began', flush=True)\nimport time; time.sleep(60)"
        socket.send(json.dumps({"type": "execute", "id": "1", "source": source}))
        receive(socket)
    until(lambda: client.get(session).json()["state"] == "idle")


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "{}",
        "[" * 50_000,
        '{"type": "execute"}',
        '{"type": "execute", "id": "1", "source": 1}',
        '{"type": "execute", "id": "1", "source": "1", "timeout": -1}',
        '{"type": "execute", "id": 5, "source": "1"}',
    ],
)
def test_live_message_that_is_not_understood_is_answered(server: Running, session: str, message: str) -> None:
    with socket_of(server, session) as socket:
        socket.send(message)
        assert receive(socket)["error"]["code"] == "InvalidRequest"
        socket.send('{"type": "execute", "id": "2", "source": "1"}')
        assert receive(socket)["id"] == "2"


def test_live_connection_names_its_protocol_and_takes_a_token_there(server: Running, session: str) -> None:
    with socket_of(server, session, subprotocols=["kernel-sandbox.v1", "bearer.anything"]) as socket:
        assert socket.subprotocol == "kernel-sandbox.v1"


def test_live_connection_of_another_site_is_refused(server: Running, session: str) -> None:
    with pytest.raises(InvalidStatus) as refused, socket_of(server, session, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    own = server.address
    with socket_of(server, session, origin=own):
        pass


def test_request_of_another_site_is_refused(client: httpx.Client) -> None:
    assert client.get("/v1/sessions", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/v1/sessions", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"source": 1}',
        b'{"source": "1", "timeout": 0}',
        b'{"source": "1", "timeout": NaN}',
        b'{"source": "1", "\\ud800": 1}',
        b'{"sou',
        b"\xff",
    ],
)
def test_body_that_is_not_understood_is_refused(client: httpx.Client, session: str, body: bytes) -> None:
    answer = client.post(f"{session}/execute", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequest")


def test_lone_surrogates_break_nothing(client: httpx.Client, session: str) -> None:
    headers = {"content-type": "application/json"}
    cell = b'{"source": "print(\'\\ud800\')"}'
    assert client.post(f"{session}/execute", content=cell, headers=headers).status_code == 200
    command = b'{"command": "echo \\ud800"}'
    assert client.post(f"{session}/run_command", content=command, headers=headers).status_code == 400
    assert client.post("/v1/sessions", content=b'{"identifier": "\\ud800"}', headers=headers).status_code == 400
    query = {"identifier": "surrogate", "api-version": "2024-02-02-preview"}
    code = json.dumps({"properties": {"code": "'\\ud800'"}})
    answer = client.post("/code/execute", params=query, content=code.encode(), headers=headers)
    assert answer.json()["properties"]["status"] == "Success"
    client.delete("/session", params=query | {"api-version": "2025-10-02-preview"})


def test_page_tells_what_became_of_a_cell(client: httpx.Client, session: str) -> None:
    run(client, session, "1 / 0")
    run(client, session, "print('begun', flush=True); import os; os._exit(3)")
    query = {"owner": "anonymous", "identifier": unquote(session.rpartition("/")[2])}
    cells = client.get("/page/cells", params=query).json()["cells"]
    assert [(cell["status"], cell["ran"], cell["kept"]) for cell in cells] == [
        ("error", "whole", "all"),
        ("dead", "began", "files"),
    ]
    assert cells[0]["fate"] == ""
    assert "ran in part" in cells[1]["fate"]
