"""`kernel-sandbox ask` without a key: what it answers and refuses, and which model servers of this machine it names."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from kernel_sandbox.agents.local_servers import MAX_BYTES, PORTS, TIMEOUT, LocalServer, find_local_servers
from kernel_sandbox.host.reactor import call_reactor
from tests.agents.model_server import Say, model_server
from tests.conftest import missing

COMMAND = Path(sys.executable).parent / "kernel-sandbox"
CITIES = ("Rome", "Oslo", "Oslo")
SALES = "city,sold,note\n" + "".join(f"{CITIES[n % 3]},{n % 3 * 10 + n % 2},text {n}\n" for n in range(40))


def ask(directory: Path, *arguments: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    """Ask about a table, by somebody who has no key."""
    if reason := missing("docker"):
        pytest.skip(reason)
    (directory / "sales.csv").write_text(SALES)
    command = [str(COMMAND), "ask", *arguments, "--data", "sales.csv"]
    return subprocess.run(
        command, cwd=directory, env=keyless(), input=answers, capture_output=True, text=True, timeout=100, check=False
    )


def keyless() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return environment | {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}


def test_both_analyses_are_answered_and_kept(tmp_path: Path, engine: str) -> None:
    done = ask(tmp_path, "what goes with Sold", "--engine", engine, "--save", "out.ipynb")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1. city: correlation ratio 0." in done.stdout
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells][-4:] == ["markdown", "code", "code", "markdown"]
    assert "What goes with sold, the closest first (1 of 1 comparable columns)." in notebook.cells[-1].source
    described = ask(tmp_path, "Describe this table.", "--engine", engine)
    assert (described.returncode, described.stderr) == (0, "")
    assert "- city: category, 2 different, most often Oslo (26), Rome (14)\n" in described.stdout


def test_other_question_starts_nothing_and_says_how_to_get_a_model(tmp_path: Path) -> None:
    refused = ask(tmp_path, "Which city sold most?", "--save", "out.ipynb")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert '"describe this table" and "what goes with COLUMN"' in refused.stderr
    assert "OPENAI_API_KEY" in refused.stderr
    assert "  OPENAI_BASE_URL=http://127.0.0.1:" in refused.stderr
    assert not (tmp_path / "out.ipynb").exists()


def test_column_that_is_not_there_ends_with_status_1_and_a_kept_notebook(tmp_path: Path) -> None:
    refused = ask(tmp_path, "what goes with weather", "--save", "out.ipynb")
    assert refused.returncode == 1
    assert "“weather” names no column of the table, which has: city, sold, note" in refused.stderr
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert notebook.cells[-1].source.startswith("*No answer came: “weather” names no column")


def test_console_goes_on_after_a_question_that_needs_a_model(tmp_path: Path) -> None:
    done = ask(tmp_path, answers="Which city sold most?\nwhat goes with weather\ndescribe this table\nexit\n")
    assert done.returncode == 1
    assert 'two questions are answered: "describe this table" and "what goes with COLUMN"; exit ends.' in done.stdout
    assert done.stderr.count("error: ") == 2
    assert "Source: sales.csv, 40 rows, 3 columns." in done.stdout


def free_port() -> int:
    """Return a usual port of model servers that no program of this machine listens on."""
    for port in PORTS:
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    pytest.skip("all usual ports of model servers are taken")


def test_model_server_of_this_machine_is_named_with_a_command_that_asks_it(tmp_path: Path) -> None:
    port, models = free_port(), ("nomic-embed-text", "llama3.2:3b")
    with model_server(Say("Oslo, and by far."), port=port, models=models) as server:
        refused = ask(tmp_path, "Which city's sold most?", "--image", "python")
        assert f"answers on port {port} of this machine, as {PORTS[port]} does" in refused.stderr
        assert refused.returncode == 1
        assert server.requests == []
        assert {head.splitlines()[0] for head in server.heads} == {"GET /v1/models HTTP/1.0"}
        assert "sales" not in str(server.heads)
        (command,) = [line for line in refused.stderr.splitlines() if f":{port}/v1 kernel-sandbox ask" in line]
        asked = subprocess.run(
            command, shell=True, cwd=tmp_path, env=keyless(), capture_output=True, text=True, timeout=100, check=False
        )
        assert (asked.returncode, asked.stderr) == (0, "")
        assert "Oslo, and by far." in asked.stdout
        assert server.requests[0]["model"] == "llama3.2:3b"
        assert server.requests[0]["messages"][-1]["content"] == "Which city's sold most?"


def test_server_is_named_whatever_its_models_and_no_name_gets_into_a_shell() -> None:
    hostile = ("$(touch here)", "a;b", "-x", "", "line\nbreak", "ｌlama", "x" * 201)
    for models, named in ((hostile, "NAME"), ((*hostile, "qwen3"), "qwen3"), ((), "NAME")):
        with model_server(models=models) as server:
            port = server.server_address[1]
            assert find(port) == [LocalServer(port, "it", named)]
            assert find(port)[0].url == server.url


def find(port: int) -> list[LocalServer]:
    return call_reactor(find_local_servers, {port: "it"})


LIST = b'{"object": "list", "data": [{"id": "m"}]}'


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n" + LIST, True),
        (b'HTTP/1.1 200 OK\r\n\r\n{"data": null}', True),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n" + LIST, False),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/v1/models\r\n\r\n" + LIST, False),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", False),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", False),
        (b'HTTP/1.1 200 OK\r\n\r\n{"data": "m"}', False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + LIST + b" " * MAX_BYTES, False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"", False),
    ],
)
def test_only_a_list_of_models_is_taken_for_one(answer: bytes, named: bool) -> None:
    with raw_server(answer) as port:
        assert bool(find(port)) is named


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 200 OK\r\nx: y\r\n"])
def test_server_that_never_ends_is_not_waited_for(piece: bytes) -> None:
    with raw_server(piece, forever=True) as port:
        started = time.monotonic()
        assert find(port) == []
        assert time.monotonic() - started < TIMEOUT + 2


def test_port_that_nobody_listens_on_has_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert find(port) == []


@contextlib.contextmanager
def raw_server(answer: bytes, *, forever: bool = False) -> Iterator[int]:
    """Send every client these bytes; `forever`: again and again, slowly, until it goes."""
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            try:
                connection.sendall(answer)
                while forever and not done.wait(0.05):
                    connection.sendall(answer)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            thread.join()
