"""What a request may take: bytes before they are read, seconds, how many at once, how many sessions."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.running import GEN1, GEN2, Running, running

UPLOAD, BODY = 1024 * 1024, 64 * 1024


@pytest.fixture(scope="module")
def small(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with small limits."""
    directory = tmp_path_factory.mktemp("small")
    pool = PoolSettings(ready=1, sessions=3, queue_timeout=1)
    limits = {"max_upload_bytes": UPLOAD, "max_body_bytes": BODY, "quota_requests": 3, "quota_sessions": 2}
    with running(directory, engine=server_engine, pool=pool, **limits) as server:
        yield server


@pytest.fixture
def client(small: Running) -> Iterator[httpx.Client]:
    with small.client() as client:
        yield client
        for session in client.get("/v1/sessions").json()["sessions"]:
            client.delete(f"/v1/sessions/{session['identifier']}")


def test_body_that_says_it_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/sessions/a/execute", json={"source": "x" * BODY, "create": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "RequestTooLarge")
    assert client.get("/v1/sessions").json()["sessions"] == []


def test_body_that_turns_out_too_large_is_refused(client: httpx.Client) -> None:
    pieces = (b"x" * 10_000 for _ in range(20))
    answer = client.post("/v1/sessions/a/execute", content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "RequestTooLarge")


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_may_be_as_large_as_is_set(client: httpx.Client, chunked: bool) -> None:
    client.post("/v1/sessions", json={"identifier": "up"})
    for size, status in ((UPLOAD, 200), (UPLOAD + 128 * 1024, 413)):
        whole = b"x" * size
        content = (whole[at : at + 65536] for at in range(0, size, 65536)) if chunked else whole
        assert client.put("/v1/sessions/up/files/f", content=content).status_code == status
    query = {"identifier": "up", "api-version": GEN1}
    for size, status in ((UPLOAD, 200), (UPLOAD + 128 * 1024, 413)):
        answer = client.post("/pool/files/upload", params=query, files={"file": ("f", b"y" * size)})
        assert answer.status_code == status
    assert client.get("/v1/sessions/up/files/f").content == b"y" * UPLOAD


def test_far_too_large_upload_is_answered_at_once(small: Running) -> None:
    """Without waiting for it: only its head has been sent."""
    with connected(small) as stream:
        head = f"PUT /v1/sessions/a/files/f HTTP/1.1\r\nHost: {host_of(small)}\r\nContent-Length: 99999999999\r\n\r\n"
        stream.sendall(head.encode())
        assert stream.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_identity_is_held_to_its_sessions(client: httpx.Client) -> None:
    assert [client.post("/v1/sessions", json={"identifier": name}).status_code for name in "ab"] == [201, 201]
    refused = client.post("/v1/sessions", json={"identifier": "c"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "SessionsCountExceedsLimit")
    assert int(refused.headers["retry-after"]) > 0
    query = {"identifier": "c", "api-version": GEN2}
    assert client.post("/executions", params=query, json={"code": "1"}).status_code == 429
    assert client.post("/v1/sessions/a/execute", json={"source": "1"}).status_code == 200
    client.delete("/v1/sessions/a")
    assert client.post("/v1/sessions", json={"identifier": "c"}).status_code == 201


def test_identity_is_held_to_its_sessions_when_they_are_asked_for_at_once(small: Running, client: httpx.Client) -> None:
    codes: list[int] = []

    def make(name: str) -> None:
        with small.client() as own:
            codes.append(own.post("/v1/sessions", json={"identifier": name}).status_code)

    threads = [threading.Thread(target=make, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 201, 429]


def test_identity_is_held_to_its_requests_at_a_time(small: Running, client: httpx.Client) -> None:
    client.post("/v1/sessions", json={"identifier": "busy"})
    sources = ["import time; time.sleep(3)"] * 3
    answers: list[int] = []

    def wait(source: str) -> None:
        with small.client() as own:
            code = 429  # the question below is one of the requests at a time, and may have come before
            while code == 429:
                code = own.post("/v1/sessions/busy/execute", json={"source": source}).status_code
            answers.append(code)

    threads = [threading.Thread(target=wait, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while (refused := client.get("/v1/sessions")).status_code != 429:
        assert time.monotonic() < deadline
    assert refused.json()["error"]["code"] == "TooManyRequests"
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200
    for thread in threads:
        thread.join()
    assert answers == [200] * 3


def test_full_pool_refuses_and_says_when_to_come_again(server_engine: str, tmp_path: Path) -> None:
    pool = PoolSettings(ready=0, sessions=1, queue_timeout=0.5)
    with running(tmp_path, engine=server_engine, pool=pool) as server, server.client() as client:
        assert client.post("/v1/sessions", json={"identifier": "a"}).status_code == 201
        refused = client.post("/v1/sessions", json={"identifier": "b"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "SessionsCountExceedsLimit")
        assert int(refused.headers["retry-after"]) > 0
        client.delete("/v1/sessions/a")
        assert client.post("/v1/sessions", json={"identifier": "b"}).status_code == 201


def host_of(server: Running) -> str:
    return server.address.removeprefix("http://")


def connected(server: Running) -> socket.socket:
    host, port = host_of(server).split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_slow_clients_are_let_go(small: Running) -> None:
    """Who sends nothing, a header at a time, or a body at a time, has seconds for it."""
    host = f"Host: {host_of(small)}\r\n"
    body = "POST /v1/sessions HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    starts = {"nothing": "", "half a head": "GET /healthz HTTP/1.1\r\n" + host, "half a body": body}
    streams = {name: connected(small) for name in starts}
    trickled = {"half a head": b"X-More: 1\r\n", "half a body": b" "}
    ended: dict[str, bytes] = {}

    def be_slow(name: str) -> None:
        stream = streams[name]
        stream.sendall(starts[name].encode())
        stream.settimeout(1)
        while True:
            try:
                ended[name] = stream.recv(1000)
                return
            except TimeoutError:
                stream.sendall(trickled.get(name, b""))
            except ConnectionError:
                ended[name] = b""
                return

    threads = [threading.Thread(target=be_slow, args=(name,), daemon=True) for name in starts]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for stream in streams.values():
        stream.close()
    assert time.monotonic() - started < 45
    assert ended["nothing"] == ended["half a head"] == b""
    assert ended["half a body"].startswith(b"HTTP/1.1 408 ")


def test_endless_header_is_refused(small: Running) -> None:
    with connected(small) as stream:
        stream.sendall(b"GET /healthz HTTP/1.1\r\n")
        said = b""
        try:
            for _ in range(200):
                stream.sendall(b"X-Long: " + b"x" * 1000 + b"\r\n")
            said = stream.recv(1000)
        except ConnectionError:
            pass
        assert not said or b" 4" in said.split(b"\r\n")[0]


def test_answer_comes_although_the_client_sent_all_of_a_refused_body(client: httpx.Client) -> None:
    """A client such as `requests` reads nothing before it has sent everything."""
    answer = client.put("/v1/sessions/a/files/f", content=b"x" * (20 * UPLOAD))
    assert answer.status_code == 413
