"""A service that takes everybody on this machine: no page of another site uses it, and the first key ends it."""

from __future__ import annotations

import asyncio
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from kernel_sandbox.doors.http.doorkeeper import HEALTH_PATHS, OPEN_PATHS
from kernel_sandbox.service.storage import Store
from tests.doors.http.routes import MISSING_TRANSCRIPT, OPERATIONS, Names, call
from tests.doors.http.running import Running, issue_key, running

CHROMIUM = Path("/usr/bin/chromium")
EVERYTHING = [*OPERATIONS, *(("GET", path) for path in sorted(OPEN_PATHS - HEALTH_PATHS))]
NAMES = Names("session", "1", MISSING_TRANSCRIPT, "anonymous", "picture.svg")
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>'
RUN = '{"type": "execute", "id": "1", "source": "6 * 7"}'


def live_address(server: Running, session: str) -> str:
    return f"{server.address.replace('http', 'ws')}/v1/sessions/{session}/ws"


# The first key


def test_first_key_ends_that_everybody_is_let_in(server_engine: str, tmp_path: Path) -> None:
    with running(tmp_path, engine=server_engine) as server, server.client() as anybody:
        anybody.post("/v1/sessions", json={"identifier": "mine"}).raise_for_status()
        key = issue_key(tmp_path, "alice")
        refused = anybody.get("/v1/sessions")
        assert refused.status_code == 401
        assert "mine" not in refused.text
        with server.client(key) as alice:
            assert alice.get("/v1/sessions").json() == {"sessions": []}
        asyncio.run(revoke(tmp_path, key))
        assert anybody.get("/v1/sessions").status_code == 401
        assert anybody.get("/healthz").status_code == 200


async def revoke(directory: Path, key: str) -> None:
    async with Store(str(directory / "server.db")) as store:
        assert await store.revoke_key(key.split("_")[1])


def test_first_key_ends_what_was_connected_before_it(server_engine: str, tmp_path: Path) -> None:
    with running(tmp_path, engine=server_engine) as server, server.client() as anybody:
        anybody.post("/v1/sessions", json={"identifier": "mine"}).raise_for_status()
        with connect(live_address(server, "mine")) as socket:
            socket.send(RUN)
            assert '"42"' in socket.recv(30) or '"42"' in socket.recv(30)
            issue_key(tmp_path, "alice")
            socket.send(RUN)
            with pytest.raises(ConnectionClosed) as closed:
                for _ in range(5):
                    socket.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_live_connection_ends_with_its_key(server_engine: str, tmp_path: Path) -> None:
    key = issue_key(tmp_path, "alice")
    with running(tmp_path, engine=server_engine, keys="on") as server, server.client(key) as client:
        client.post("/v1/sessions", json={"identifier": "mine"}).raise_for_status()
        with connect(live_address(server, "mine"), additional_headers={"x-api-key": key}) as socket:
            asyncio.run(revoke(tmp_path, key))
            socket.send(RUN)
            with pytest.raises(ConnectionClosed):
                socket.recv(30)


# Pages of other sites


@pytest.mark.parametrize("site", ["cross-site", "same-site", "cross-site, none", "anything new"])
@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_route_refuses_what_a_page_of_another_site_asks_for(server: Running, method: str, path: str, site: str) -> None:
    """Another port of this machine is the "same site"."""
    if method == "WEBSOCKET":
        with pytest.raises(InvalidStatus) as refused:
            connect(live_address(server, "session"), additional_headers={"sec-fetch-site": site})
        assert refused.value.response.status_code == 403
        return
    with server.client() as client:
        client.headers["sec-fetch-site"] = site
        answer = call(client, method, path, NAMES)
    assert answer.status_code == 403
    assert "other sites' pages" in answer.text


@pytest.mark.parametrize("site", [None, "same-origin", "none"])
def test_own_page_programs_and_typed_addresses_are_answered(client: httpx.Client, site: str | None) -> None:
    headers = {} if site is None else {"sec-fetch-site": site}
    for path in ("/", "/docs", "/page/page.js", "/page/sessions", "/v1/sessions"):
        assert client.get(path, headers=headers).status_code == 200, path


def test_link_to_the_page_is_followed_as_its_own_document_only(client: httpx.Client) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path in ("/", "/docs"):
        answer = client.get(path, headers=link)
        assert answer.status_code == 200
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert client.get(path, headers=link | {"sec-fetch-dest": "iframe"}).status_code == 403
        assert client.get(path, headers=link | {"sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/v1/sessions", headers=link).status_code == 403


def test_answers_are_for_their_own_origin(client: httpx.Client) -> None:
    for path in ("/", "/v1/sessions", "/nowhere"):
        assert client.get(path).headers["cross-origin-resource-policy"] == "same-origin"


@pytest.fixture
def other_site() -> Iterator[str]:
    """The address of an empty page on another port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>elsewhere</title>")

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"localhost:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


LOAD = """address => new Promise(done => {
    const picture = new Image()
    picture.onload = () => done(picture.naturalWidth)
    picture.onerror = () => done(0)
    picture.src = address
})"""


@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium")
def test_browser_shows_a_sandboxes_picture_to_no_other_site(server: Running, other_site: str) -> None:
    """From another site, and from another port of the same address."""
    from playwright.sync_api import sync_playwright

    with server.client() as client:
        client.post("/v1/sessions", json={"identifier": "pictured"}).raise_for_status()
        client.put("/v1/sessions/pictured/files/picture.svg", content=PICTURE).raise_for_status()
    place = f"{server.address}/v1/sessions/pictured/files/picture.svg"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for address in (f"http://{other_site}", f"http://{other_site}".replace("localhost", "127.0.0.1")):
            page = browser.new_page()
            page.goto(address)
            assert page.evaluate(LOAD, place) == 0
            opened = page.goto(f"{server.address}/")
            assert opened is not None
            assert opened.status == 200
        browser.close()
    with server.client() as client:
        numbers = client.get("/metrics").text
    statuses = set(re.findall(r'requests_total{method="GET",route="[^"]*files/{name:path}",status="(\d+)"}', numbers))
    assert statuses == {"403"}, "else it was answered, and only the browser kept it from the page"


def test_mcp_takes_no_other_sites_pages_with_a_key_either(server_engine: str, tmp_path: Path) -> None:
    key = issue_key(tmp_path, "alice")
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    accept = {"accept": "application/json, text/event-stream"}
    with running(tmp_path, engine=server_engine, keys="on") as server, server.client(key) as client:
        own = server.address
        statuses = {None: 200, own: 200, "http://evil.example": 403, "null": 403, "http://[": 403}
        for path in ("/mcp", "/pool/mcp"):
            for origin, status in statuses.items():
                headers = accept | ({} if origin is None else {"origin": origin})
                assert client.post(path, json=body, headers=headers).status_code == status, (path, origin)
