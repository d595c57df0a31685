"""The published LlamaIndex client, unmodified, against a running server: all that it offers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from llama_index.tools.azure_code_interpreter import AzureCodeInterpreterToolSpec  # type: ignore[import-untyped]

from tests.doors.http.running import Running

POOL = "/subscriptions/s/resourceGroups/g/sessionPools/p"
PLOT = """
from IPython.display import Image, display
import zlib, struct
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\\0" + bytes([9, 200, 30]) for _ in range(1))
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
print("drawn")
display(Image(png))
"""


@pytest.fixture
def spec(server: Running) -> Iterator[AzureCodeInterpreterToolSpec]:
    made = AzureCodeInterpreterToolSpec(pool_management_endpoint=server.address + POOL)
    made.access_token_provider = lambda: "a token"
    yield made
    server.end(made.session_id)


def run(spec: AzureCodeInterpreterToolSpec, code: str) -> dict[str, Any]:
    properties: dict[str, Any] = spec.code_interpreter(code)["properties"]
    return properties


class _ManagedIdentity(BaseHTTPRequestHandler):
    """What gives out tokens on a cloud machine; azure-identity asks it where IDENTITY_ENDPOINT names one."""

    def do_GET(self) -> None:
        answer = {"access_token": "from the endpoint", "expires_on": str(int(time.time()) + 3600)}
        body = json.dumps(answer | {"resource": "https://dynamicsessions.io", "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def identity_endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ManagedIdentity)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/msi/token"
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # azure-identity leaves its connections to the collector
def test_endpoint_and_token_come_from_the_environment(
    server: Running, identity_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    monkeypatch.setenv("AZURE_POOL_MANAGEMENT_ENDPOINT", server.address + POOL)
    spec = AzureCodeInterpreterToolSpec()
    assert run(spec, "6 * 7")["result"] == 42
    assert spec.access_token is not None
    assert spec.access_token.token == "from the endpoint"


def test_state_persists_between_calls(spec: AzureCodeInterpreterToolSpec) -> None:
    run(spec, "x = 41")
    assert run(spec, "x + 1")["result"] == 42


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("1 + 1", 2),
        ("2.5", 2.5),
        ("'text'", "text"),
        ('"it\'s"', "it's"),
        ("'2'", "2"),
        ("['a', 'b']", "['a', 'b']"),
        ("[1, 2]", [1, 2]),
        ("{}", {}),
        ("float('nan')", "nan"),
        ("10**400 % 7", 10**400 % 7),
        ("True", "True"),
        ("None", ""),
        ("y = 1", ""),
        ("print('x')", ""),
    ],
)
def test_result_is_typed(spec: AzureCodeInterpreterToolSpec, code: str, result: Any) -> None:
    told = run(spec, code)
    assert (told["status"], told["result"]) == ("Success", result)
    assert type(told["result"]) is type(result)


def test_streams_are_apart(spec: AzureCodeInterpreterToolSpec) -> None:
    told = run(spec, "import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (told["stdout"], told["stderr"]) == ("out\n", "err\n")
    assert isinstance(told["executionTimeInMilliseconds"], int)


def test_failure_is_data(spec: AzureCodeInterpreterToolSpec) -> None:
    told = run(spec, "print('before')\n1 / 0")
    assert (told["status"], told["result"], told["stdout"]) == ("Failure", None, "before\n")
    assert told["stderr"].rstrip().endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in told["stderr"]


def test_syntax_error_is_data(spec: AzureCodeInterpreterToolSpec) -> None:
    told = run(spec, "def f(:\n")
    assert told["status"] == "Failure"
    assert "SyntaxError" in told["stderr"]


def test_figure_comes_as_an_image_beside_stdout(spec: AzureCodeInterpreterToolSpec, tmp_path: Path) -> None:
    spec.local_save_path = str(tmp_path)
    told = run(spec, PLOT)
    assert told["stdout"] == "drawn\n"
    assert told["result"] == {"type": "image", "format": "png", "saved_to_local_path": True}
    (picture,) = tmp_path.iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_base64_of_a_figure_is_right(server: Running) -> None:
    body = {"properties": {"codeInputType": "Inline", "executionType": "Synchronous", "code": PLOT}}
    query = {"identifier": "figure", "api-version": "2024-08-02-preview"}
    with server.client() as client:
        result = client.post(f"{POOL}/code/execute", params=query, json=body).json()["properties"]["result"]
    assert base64.b64decode(result["base64_data"], validate=True).endswith(b"IEND\xaeB`\x82")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client never closes the file that it uploads
def test_file_goes_there_and_back(spec: AzureCodeInterpreterToolSpec, tmp_path: Path) -> None:
    local = tmp_path / "up file é.csv"
    local.write_bytes(b"a,b\n1,2\n")
    (uploaded,) = spec.upload_file(local_file_path=str(local))
    assert (uploaded.filename, uploaded.size_in_bytes) == ("up file é.csv", 8)
    assert uploaded.file_full_path == "/mnt/data/up file é.csv"
    assert run(spec, "open('/mnt/data/up file é.csv').read()")["result"] == "a,b\n1,2\n"
    assert [found.filename for found in spec.list_files()] == ["up file é.csv"]
    content = spec.download_file_to_local("/mnt/data/up file é.csv")
    assert content is not None
    assert content.read() == b"a,b\n1,2\n"
    spec.download_file_to_local("up file é.csv", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"a,b\n1,2\n"


def test_tools_work_as_an_agent_calls_them(spec: AzureCodeInterpreterToolSpec) -> None:
    tools = {tool.metadata.name: tool for tool in spec.to_tool_list()}
    assert set(tools) == {"code_interpreter", "list_files"}
    answer = tools["code_interpreter"].call(python_code="```python\nopen('/mnt/data/n.txt', 'w').write('12')\n```")
    assert answer.raw_output["properties"]["result"] == 2
    assert [found.filename for found in tools["list_files"].call().raw_output] == ["n.txt"]


def test_two_specs_are_two_sessions(server: Running, spec: AzureCodeInterpreterToolSpec) -> None:
    other = AzureCodeInterpreterToolSpec(pool_management_endpoint=f"{server.address}{POOL}/")
    other.access_token_provider = lambda: "a token"
    run(spec, "mine = 1")
    assert "NameError" in run(other, "mine")["stderr"]


def test_identifier_with_a_slash_is_a_session_like_any(server: Running) -> None:
    spec = AzureCodeInterpreterToolSpec(pool_management_endpoint=server.address, session_id="team/../a&b=c#d")
    spec.access_token_provider = lambda: "a token"
    run(spec, "z = 3")
    assert run(spec, "z")["result"] == 3
