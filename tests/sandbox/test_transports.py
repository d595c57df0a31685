from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from kernel_sandbox import PolicyError, SandboxSpec, Session
from kernel_sandbox.host.run_directory import base_directory
from kernel_sandbox.sandbox.engines import get_engine
from kernel_sandbox.sandbox.engines.docker_client import connect

Transport = Literal["ipc", "forward"]
both = pytest.mark.parametrize("transport", ["ipc", "forward"])


@both
def test_transport_carries_cells_figures_and_restarts(engine: str, transport: Transport) -> None:
    with Session(engine=engine, image="python", transport=transport) as session:
        assert session.execute("x = 1; x").text == "1"
        large = session.execute(
            "from IPython.display import display\ndisplay({'text/plain': 'y' * 5_000_000}, raw=True)"
        )
        assert len(large.text) == 5_000_000
        session.restart()
        assert session.execute("x").status == "error"
        assert session.transcript.metadata["kernel_sandbox"]["transport"] == transport


@both
def test_connection_file_is_private_and_names_what_listens(engine: str, transport: Transport) -> None:
    with Session(engine=engine, image="python", transport=transport) as session:
        path = session.connection_file
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o777 == 0o700  # jupyter_client adds the sticky bit
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
        assert {p.name for p in path.parent.iterdir() if p.is_socket()} == {f"h-{port}" for port in range(1, 6)}
    assert not path.parent.exists()


@both
def test_another_client_can_use_the_connection_file(engine: str, transport: Transport) -> None:
    from jupyter_client.blocking.client import BlockingKernelClient

    with Session(engine=engine, image="python", transport=transport) as session:
        session.execute("x = 41")
        for _ in ("before", "after the restart"):
            client = BlockingKernelClient(connection_file=str(session.connection_file))
            client.load_connection_file()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=20)
                assert client.execute_interactive("x = 41", timeout=10)["content"]["status"] == "ok"
            finally:
                client.stop_channels()
            assert session.execute("x + 1").text == "42"
            session.restart()
            session.execute("x = 0")


def test_tcp_ports_are_on_loopback_only(engine: str) -> None:
    with Session(engine=engine, spec=SandboxSpec(image="python", listen="tcp")) as session:
        assert session.execute("1 + 1").text == "2"
        listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        info = json.loads(session.connection_file.read_text())
        assert (info["ip"], info["transport"]) == ("127.0.0.1", "tcp")
        for channel in ("shell", "iopub", "stdin", "control", "hb"):
            assert f"0100007F:{info[f'{channel}_port']:04X}" in listening


def test_ipc_is_refused_where_sockets_cannot_be_shared() -> None:
    with (
        pytest.raises(PolicyError, match="use 'forward'"),
        Session(engine="docker", spec=SandboxSpec(image="python", transport="ipc", runtime="runsc")),
    ):
        pass


RELAY = """
import asyncio, ssl, sys
async def join(reader, writer):
    inner_reader, inner_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
    async def carry(source, sink):
        try:
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        finally:
            if sink.can_write_eof(): sink.write_eof()
            else: sink.close()
    await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer), return_exceptions=True)
    writer.close()
    inner_writer.close()
async def main():
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
    server = await asyncio.start_server(join, "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def relay(*arguments: str) -> Iterator[str]:
    """A remote engine: here the local one behind a TCP port, with which no file system is shared."""
    get_engine.cache_clear()
    with subprocess.Popen([sys.executable, "-c", RELAY, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"tcp://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            get_engine.cache_clear()
            process.terminate()


def check_forwarded() -> None:
    with Session(engine="docker", image="python") as session:
        assert session.execute("1 + 1").text == "2"
        content = os.urandom(3_000_000)
        session.files.write("large", content)
        assert session.files.read("large") == content
        assert session.transcript.metadata["kernel_sandbox"]["transport"] == "forward"


def test_engine_over_tcp_is_reached_by_forwarding(docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay() as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        check_forwarded()


def test_engine_over_tls_is_reached_by_forwarding(
    docker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "ca.pem").write_bytes((tmp_path / "cert.pem").read_bytes())
    with relay(str(tmp_path)) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests would take them over the engine's own
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        check_forwarded()


def test_engine_of_a_docker_context_is_used(docker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with relay() as address:
        folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"elsewhere").hexdigest()
        folder.mkdir(parents=True)
        endpoint = {"Host": address, "SkipTLSVerify": False}
        (folder / "meta.json").write_text(
            json.dumps({"Name": "elsewhere", "Metadata": {}, "Endpoints": {"docker": endpoint}})
        )
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        check_forwarded()


def sockets_directory(session: Session) -> Path:
    """Where the host reaches the sockets of the first kernel."""
    if session.engine == "docker":
        return session.connection_file.parent / "k" / "1"
    records = (json.loads(path.read_text()) for path in base_directory().glob("bubblewrap/*.json"))
    (first_pid,) = (record["first_pid"] for record in records if record["session"] == session.id)
    return Path(f"/proc/{first_pid}/root/opt/kernel-sandbox/run/1")


def test_hostile_sockets_put_in_place_are_never_connected_to(session: Session) -> None:
    """After the start the sandbox cannot write where its sockets are, and the host goes by its pinned descriptors."""
    directory = sockets_directory(session)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert directory.stat().st_uid == os.getuid()
    # Even a replacement that should not be possible changes nothing: the descriptor is what counts.
    (directory / "s-1").rename(directory / "moved")
    (directory / "s-1").symlink_to("/var/run/docker.sock")
    from jupyter_client.blocking.client import BlockingKernelClient

    client = BlockingKernelClient(connection_file=str(session.connection_file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=20)
    finally:
        client.stop_channels()


def test_containers_carry_their_owner(docker: None) -> None:
    with Session(engine="docker", image="python") as session:
        check_owner(session)


def check_owner(session: Session) -> None:
    (container,) = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={session.id}"})
    owner = json.loads(container.labels["org.kernel-sandbox.owner"])
    assert owner["pid"] == os.getpid()
    assert owner["started"] == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
