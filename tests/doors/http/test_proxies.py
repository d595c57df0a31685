"""The service behind a proxy that takes a prefix off, and with TLS of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from kernel_sandbox.doors.http.tls import tls_context
from kernel_sandbox.service.settings import ServerSettings, SettingsError
from tests.doors.http.running import GEN2, Running, ServerProcess, issue_key, running

RECIPE = Path(__file__).parents[3] / "images" / "server" / "nginx.conf"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def locations(client: httpx.Client, headers: dict[str, str]) -> list[str]:
    """Every address that the service answers with."""
    query = {"identifier": "prefixed", "api-version": GEN2}
    body = {"code": "1", "executionType": "Asynchronous"}
    made = client.post("/v1/sessions", json={"identifier": "prefixed"}, headers=headers)
    slashed = client.get("/v1/sessions/", headers=headers)
    later = client.post("/executions", params=query, json=body, headers=headers)
    described = client.get("/openapi.json", headers=headers).json().get("servers", [{"url": ""}])
    found = [made.headers["location"], slashed.headers["location"], later.headers["operation-location"]]
    return [*found, *(each["url"] for each in described)]


def test_prefix_of_a_trusted_proxy_is_in_every_address(server: Running, client: httpx.Client) -> None:
    host = httpx.URL(server.address).netloc.decode()
    told = {"x-forwarded-prefix": "/some/where/", "x-forwarded-proto": "https"}
    location, slashed, later, described = locations(client, told)
    assert location == "/some/where/v1/sessions/prefixed"
    assert slashed == f"https://{host}/some/where/v1/sessions"
    assert later.startswith(f"https://{host}/some/where/executions/")
    assert described == "/some/where"
    page, docs = client.get("/").text, client.get("/docs", headers=told).text
    assert "/some/where" in docs
    for text in (page, docs):
        assert 'href="/' not in text
        assert 'src="/' not in text
    server.end("prefixed")


@pytest.mark.parametrize("prefix", ["//evil.example", "/a/../b", "https://evil.example", "/a b", "/\u00e9", "/a//b"])
def test_prefix_that_leads_elsewhere_is_not_taken(client: httpx.Client, prefix: str) -> None:
    headers = {b"x-forwarded-prefix": prefix.encode()}
    answer = client.get("/v1/sessions/", headers=headers)
    assert httpx.URL(answer.headers["location"]).path == "/v1/sessions"


def test_prefix_of_the_settings_holds_where_no_proxy_is_trusted(server_engine: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"proxy_prefix": "/set", "trusted_proxies": ("192.0.2.0/24",)}
    with running(tmp_path, engine=server_engine, **given) as server, server.client() as client:
        told = {"x-forwarded-prefix": "/forged", "x-forwarded-proto": "https"}
        location, slashed, later, described = locations(client, told)
        for left in ("/v1/sessions/prefixed", "/set/v1/sessions/prefixed", "/set/v1/sessions/prefixed/transcript"):
            assert client.get(left).status_code == 200
        query = {"identifier": "prefixed", "api-version": GEN2}
        again = client.post("/set/executions", params=query, json={"code": "1"}).headers["operation-location"]
        assert again.startswith(f"{server.address}/set/executions/")
    assert (location, described) == ("/set/v1/sessions/prefixed", "/set")
    assert slashed == f"{server.address}/set/v1/sessions"
    assert later.startswith(f"{server.address}/set/executions/")


@contextmanager
def proxied(directory: Path, server: Running, certificate: tuple[Path, Path]) -> Iterator[str]:
    """nginx with the recipe, changed as its reader would; gives the address."""
    if (program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    recipe = RECIPE.read_text()
    for theirs, ours in (
        ("127.0.0.1:8000", server.address.removeprefix("http://")),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/certs/example.org.pem", str(certificate[0])),
        ("/etc/ssl/private/example.org.key", str(certificate[1])),
    ):
        assert theirs in recipe
        recipe = recipe.replace(theirs, ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    user = "user root;" if os.getuid() == 0 else ""
    head = f"daemon off; {user} pid {directory}/pid; error_log stderr; events {{}}"
    (directory / "nginx.conf").write_text(f"{head} http {{ access_log off; {places}\n{recipe}\n}}")
    command = [program, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield f"https://localhost:{port}/sandboxes"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_recipe_for_nginx_serves_all_of_it(
    server_engine: str, tmp_path: Path, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    key = issue_key(tmp_path, "alice")
    with (
        running(tmp_path, engine=server_engine, keys="on") as server,
        proxied(tmp_path, server, certificate) as address,
        httpx.Client(verify=trusting, headers={"x-api-key": key}, timeout=60) as client,
    ):
        made = client.post(f"{address}/v1/sessions", json={"identifier": "a/b c"})
        session = str(httpx.URL(address).join(made.headers["location"]))
        assert session == f"{address}/v1/sessions/a%2Fb%20c"
        assert client.get(session).json()["identifier"] == "a/b c"
        assert client.get(f"{address}/v1/sessions/", follow_redirects=True).status_code == 200
        content = os.urandom(3_000_000)
        assert client.put(f"{session}/files/d/f.bin", content=content).status_code == 200
        assert client.get(f"{session}/files/d/f.bin").content == content
        source = "import time\nprint('first', flush=True)\ntime.sleep(1.5)\nprint('second')"
        accept = {"accept": "text/event-stream"}
        with client.stream("POST", f"{session}/execute", json={"source": source}, headers=accept) as answer:
            times = {line: time.monotonic() for line in answer.iter_lines() if '"text"' in line}
        first, second = (next(times[line] for line in times if word in line) for word in ("first", "second"))
        assert second - first > 1, "the first was held back"
        told = {"x-api-key": key}
        with connect(f"wss{session[5:]}/ws", ssl=trusting, additional_headers=told) as live:
            live.send(json.dumps({"type": "execute", "id": "1", "source": "print(6 * 7)"}))
            assert json.loads(live.recv(timeout=30))["output"]["text"] == "42\n"
        assert "kernel-sandbox" in client.get(f"{address}", follow_redirects=True).text


def test_service_speaks_tls_itself(
    server_engine: str, tmp_path: Path, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    flags = [f"--tls-certificate={certificate[0]}", f"--tls-key={certificate[1]}"]
    with ServerProcess(tmp_path, server_engine, *flags) as server:
        assert server.address.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=server.address, verify=trusting, timeout=60) as client:
            made = client.post("/v1/sessions/a/execute", json={"source": "6 * 7", "create": True})
            assert made.json()["outputs"][0]["data"]["text/plain"] == "42"
            query = {"identifier": "a", "api-version": GEN2}
            later = client.post("/executions", params=query, json={"code": "1", "executionType": "Asynchronous"})
            assert later.headers["operation-location"].startswith(f"{server.address}/executions/")
        with connect(f"wss{server.address[5:]}/v1/sessions/a/ws", ssl=trusting) as live:
            live.send(json.dumps({"type": "execute", "id": "1", "source": "print(1)"}))
            assert json.loads(live.recv(timeout=30))["type"] == "output"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http{server.address[5:]}/healthz")


def test_certificate_that_cannot_be_used_is_told(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    good, key = map(str, certificate)
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    locked = tmp_path / "locked.pem"
    lock = ["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(lock, check=True, capture_output=True)
    other = tmp_path / "other.pem"
    command = ["openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", str(other)]
    subprocess.run(command, check=True, capture_output=True)
    none = Path(f"{good}.none")
    for pair, said in (
        ((certificate[0], None), "belong together"),
        ((none, certificate[1]), "cannot be read"),
        ((certificate[0], none), "cannot be read"),
        ((wrong, certificate[1]), "not a certificate and its key"),
        ((certificate[0], locked), "without a password"),
    ):
        with pytest.raises(SettingsError, match=said):
            tls_context(ServerSettings(tls_certificate=pair[0], tls_key=pair[1]))
    program = "from kernel_sandbox.doors.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port=0", f"--database={tmp_path}/server.db"]
    command += ["--tls-certificate", good, "--tls-key", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "not a certificate and its key" in " ".join(done.stderr.split())
