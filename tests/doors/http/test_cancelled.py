"""What becomes of a cell whose client goes away, at each door: the rows of the table in images/server/README.md.

Each looks for the effect in the sandbox: a letter that the cell appends to a file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_sandbox.host.run_directory import base_directory
from kernel_sandbox.pool import PoolSettings
from tests.doors.http.running import GEN1, GEN2, Running, running, until
from tests.doors.http.test_native import events, receive, run, socket_of

NAME = "cancelled"
SESSION = f"/v1/sessions/{NAME}"
QUERY = {"identifier": NAME}
AWAIT = "while not os.path.exists('/mnt/data/release'): time.sleep(0.01)"


@pytest.fixture
def session(client: httpx.Client, server: Running) -> Iterator[str]:
    client.post("/v1/sessions", json={"identifier": NAME}).raise_for_status()
    yield SESSION
    server.end(NAME)


def python(letters: str) -> str:
    """A cell that writes each letter down, and waits between them until it is released."""
    write = "open('/mnt/data/log', 'a').write({!r})"
    return "import os, time\n" + f"\n{AWAIT}\n".join(write.format(letter) for letter in letters)


def shell(letters: str) -> str:
    wait = "while [ ! -e /mnt/data/release ]; do sleep 0.01; done"
    return f"\n{wait}\n".join(f"printf {letter} >> /mnt/data/log" for letter in letters)


Door = Callable[[str], tuple[str, dict[str, Any]]]
"""Gives the path and what is posted there, for the letters to be written down."""
PLAIN: dict[str, Door] = {
    "execute": lambda letters: (f"{SESSION}/execute", {"json": {"source": python(letters)}}),
    "shell": lambda letters: (f"{SESSION}/run_command", {"json": {"command": shell(letters)}}),
    "code/execute": lambda letters: (
        "/code/execute",
        {"json": {"properties": {"code": python(letters)}}, "params": QUERY | {"api-version": GEN1}},
    ),
    "python/execute": lambda letters: (
        "/python/execute",
        {"json": {"properties": QUERY | {"code": python(letters)}}},
    ),
    "executions": lambda letters: (
        "/executions",
        {"json": {"code": python(letters)}, "params": QUERY | {"api-version": GEN2}},
    ),
    "executions of commands": lambda letters: (
        "/executions",
        {"json": {"shellCommand": shell(letters)}, "params": QUERY | {"api-version": GEN2}},
    ),
}


def log(client: httpx.Client) -> str:
    answer = client.get(f"{SESSION}/files/log")
    return answer.text if answer.status_code == 200 else ""


def release(client: httpx.Client) -> None:
    client.put(f"{SESSION}/files/release", content=b"").raise_for_status()


def leave(
    server: Running, door: str, letters: str, headers: dict[str, str] | None = None, *, seconds: float = 0.7
) -> None:
    """Post to a door, and go away before there is an answer."""
    path, request = PLAIN[door](letters)
    with server.client() as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post(path, timeout=seconds, headers=headers, **request)


@contextmanager
def busy(client: httpx.Client) -> Iterator[None]:
    """Keep the session busy with a cell that writes A, waits, and writes Z; release it and wait for it at the end."""
    with events(client, SESSION, "print('go', flush=True)\n" + python("AZ")) as found:
        next(found)
        yield
        release(client)
        assert dict(found)["done"]["ran"] == "whole"


@pytest.mark.parametrize("door", PLAIN)
def test_waiting_request_whose_client_goes_away_never_runs(
    server: Running, client: httpx.Client, session: str, door: str
) -> None:
    with busy(client):
        leave(server, door, "B", seconds=0.3)
    run(client, session, "1")
    assert log(client) == "AZ"


def test_waiting_stream_that_is_closed_never_runs(server: Running, client: httpx.Client, session: str) -> None:
    with busy(client):
        with server.client() as other, events(other, session, python("B")):
            pass
        with socket_of(server, session) as socket:
            socket.send(json.dumps({"type": "execute", "id": "1", "source": python("C")}))
            until(lambda: client.get(session).json()["cells"] == 3)
        with socket_of(server, session) as socket:  # what waits in the connection itself
            for number in range(3):
                socket.send(json.dumps({"type": "execute", "id": str(number), "source": python("D")}))
            until(lambda: client.get(session).json()["cells"] == 4)
    run(client, session, "1")
    assert log(client) == "AZ"


@pytest.mark.parametrize("door", PLAIN)
def test_running_request_whose_client_goes_away_runs_on_and_is_kept(
    server: Running, client: httpx.Client, session: str, door: str
) -> None:
    leave(server, door, "BE")
    assert log(client) == "B"
    release(client)
    run(client, session, "1")
    assert log(client) == "BE"
    cell = client.get(f"{session}/transcript").json()["cells"][0]
    assert not any(output["output_type"] == "error" for output in cell["outputs"])
    until(lambda: client.get(session).json()["state"] == "idle")


def test_running_stream_that_is_closed_is_interrupted(server: Running, client: httpx.Client, session: str) -> None:
    source = "print('go', flush=True)\n" + python("BE")
    with server.client() as other, events(other, session, source) as found:
        next(found)
        until(lambda: log(client) == "B")
    with socket_of(server, session) as socket:
        socket.send(json.dumps({"type": "execute", "id": "1", "source": source}))
        assert receive(socket)["output"]["text"] == "go\n"
        until(lambda: log(client) == "BB")
    until(lambda: client.get(session).json()["state"] == "idle")
    release(client)
    run(client, session, "1")
    assert log(client) == "BB"


# Retries


@pytest.mark.parametrize("door", PLAIN)
def test_retry_joins_the_first_one_and_later_gets_its_answer(
    server: Running, client: httpx.Client, session: str, door: str
) -> None:
    leave(server, door, "BE", {"idempotency-key": "once"})
    path, request = PLAIN[door]("BE")
    retried: Future[httpx.Response] = Future()

    def retry() -> None:
        with server.client() as other:
            retried.set_result(other.post(path, headers={"idempotency-key": "once"}, **request))

    thread = threading.Thread(target=retry)
    thread.start()
    release(client)
    thread.join()
    again = client.post(path, headers={"idempotency-key": "once"}, **request)
    assert log(client) == "BE"
    assert (retried.result().status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json() == retried.result().json()
    _, other = PLAIN[door]("X")
    refused = client.post(path, headers={"idempotency-key": "once"}, **other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "IdempotencyKeyReused")
    assert log(client) == "BE"


def test_retry_of_what_never_ran_runs(server: Running, client: httpx.Client, session: str) -> None:
    key = {"idempotency-key": "given-up"}
    with busy(client):
        leave(server, "execute", "B", key, seconds=0.3)
        leave(server, "execute", "B", key, seconds=0.3)
    path, request = PLAIN["execute"]("B")
    assert client.post(path, headers=key, **request).json()["ran"] == "whole"
    assert client.post(path, headers=key, **request).json()["ran"] == "whole"
    assert log(client) == "AZB"


def test_key_is_its_sessions_own(server: Running, client: httpx.Client, session: str) -> None:
    body, key = {"source": "open('/mnt/data/log', 'a').write('B')", "create": True}, {"idempotency-key": "same"}
    for name in (NAME, "another", NAME):
        client.post(f"/v1/sessions/{name}/execute", json=body, headers=key).raise_for_status()
    assert log(client) == "B"
    assert client.get("/v1/sessions/another/files/log").text == "B"
    server.end("another")
    client.post("/v1/sessions/another/execute", json=body, headers=key).raise_for_status()
    assert client.get("/v1/sessions/another/files/log").text == "B"  # a new session of that name ran it
    server.end("another")
    assert client.post(f"{session}/execute", json=body, headers={"idempotency-key": "a b"}).status_code == 400
    streamed = client.post(f"{session}/execute?stream=true", json=body, headers={"idempotency-key": "other"})
    assert (streamed.status_code, log(client)) == (400, "B")


def test_answer_that_is_too_large_is_not_run_again(client: httpx.Client, session: str) -> None:
    source, key = python("B") + "\nprint('x' * 5_000_000)", {"idempotency-key": "large"}
    assert client.post(f"{session}/execute", json={"source": source}, headers=key).json()["status"] == "ok"
    again = client.post(f"{session}/execute", json={"source": source}, headers=key)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "AnswerNotKept")
    assert log(client) == "B"


def test_operation_id_finds_what_its_client_left(server: Running, client: httpx.Client, session: str) -> None:
    leave(server, "executions", "BE", {"operation-id": "op"})
    query = QUERY | {"api-version": GEN2}
    assert client.get("/executions/op", params=query).json()["status"] == "Running"
    path, request = PLAIN["executions"]("BE")
    assert client.post(path, headers={"operation-id": "op"}, **request).status_code == 409
    release(client)
    until(lambda: client.get("/executions/op", params=query).json()["status"] == "Succeeded")
    assert log(client) == "BE"


# Beside another client of the session's kernel


@contextmanager
def attached(client: httpx.Client) -> Iterator[BlockingKernelClient]:
    """Another Jupyter client of the session, through its connection file."""
    key = run(client, SESSION, "print(get_ipython().kernel.session.key.decode())")["outputs"][0]["text"].strip()
    files = base_directory().glob("*/connection.json")
    (file,) = (each for each in files if json.loads(each.read_bytes())["key"] == key)
    other = BlockingKernelClient(connection_file=str(file))
    other.load_connection_file()
    other.start_channels()
    try:
        other.wait_for_ready(timeout=20)
        yield other
    finally:
        other.stop_channels()


def test_another_client_keeps_its_output_and_its_time(server: Running, client: httpx.Client, session: str) -> None:
    with attached(client) as other:
        other.execute("import time\nfor n in range(15): print('theirs', flush=True); time.sleep(0.1)")
        while other.get_iopub_msg(timeout=20)["msg_type"] != "stream":
            pass
        leave(server, "execute", "B", seconds=0.3)
        told = run(client, session, "print('mine')", timeout=1)
        assert other.get_shell_msg(timeout=20)["content"]["status"] == "ok"
    assert (told["status"], [output["text"] for output in told["outputs"]], log(client)) == ("ok", ["mine\n"], "")
    assert "theirs" not in str([cell["outputs"] for cell in client.get(f"{session}/transcript").json()["cells"]])


# The time of a request


def test_request_that_takes_too_long_is_told_whether_it_runs(server_engine: str, tmp_path: Path) -> None:
    pool = PoolSettings(ready=1, sessions=2)
    with running(tmp_path, engine=server_engine, pool=pool, request_timeout=4.0) as server, server.client() as client:
        client.post("/v1/sessions", json={"identifier": NAME}).raise_for_status()
        path, request = PLAIN["execute"]("BE")
        runs = client.post(path, **request)
        waits = client.post(path, **request)
        for answer, says in ((runs, "runs on"), (waits, "did not run")):
            assert answer.status_code == 504
            assert says in answer.json()["error"]["message"]
        assert "Send it again" not in runs.json()["error"]["message"]
        release(client)
        run(client, SESSION, "1")
        assert log(client) == "BE"
        source = "print('go', flush=True)\nimport time; time.sleep(60)"
        with events(client, SESSION, source) as found:
            done = dict(found)["done"]
        assert (done["status"], done["ran"], done["kept"]) == ("error", "began", "all")


@pytest.mark.parametrize("path", ["execute", "execute?stream=true"])
def test_request_for_which_no_session_is_free_in_time_is_told_that_it_did_not_run(
    server_engine: str, tmp_path: Path, path: str
) -> None:
    pool = PoolSettings(ready=1, sessions=1, queue_timeout=30.0)
    with running(tmp_path, engine=server_engine, pool=pool, request_timeout=8.0) as server, server.client() as client:
        client.post("/v1/sessions", json={"identifier": NAME}).raise_for_status()
        late = client.post(f"/v1/sessions/another/{path}", json={"source": "1", "create": True})
        assert (late.status_code, late.json()["error"]["message"][:14]) == (504, "It did not run")
        assert client.get("/v1/sessions/another").status_code == 404
