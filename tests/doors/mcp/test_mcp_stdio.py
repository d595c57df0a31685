"""`kernel-sandbox mcp` as a process, called by the SDK's own client: both versions of the protocol, both engines."""

from __future__ import annotations

import array
import asyncio
import base64
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp_types import BlobResourceContents, CallToolResult, EmbeddedResource, ImageContent, TextResourceContents

from kernel_sandbox.sandbox.engines.all_engines import ask_engines, sandboxes
from kernel_sandbox.setup import kernelspec
from kernel_sandbox.spec.languages import language_named
from tests.conftest import missing
from tests.doors.mcp.test_mcp_answers import png
from tests.languages import CELLS, TESTED, require_image

pytestmark = pytest.mark.anyio
COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
MODES = ["legacy", "auto"]
"""The version of the protocol with a handshake, and the newest."""
ENDLESS = "kept = 5\nprint('begun', flush=True)\nwhile True: pass"


@pytest.fixture
def quick() -> str:
    """The engine that starts sooner, for what is the tools' alone."""
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    return "bubblewrap"


@asynccontextmanager
async def connected(engine: str, *arguments: str, mode: str = "legacy", image: str = "python") -> AsyncIterator[Client]:
    """A client of a process of its own."""
    line = ["mcp", "--engine", engine, "--image", image, *arguments]
    async with Client(StdioServerParameters(command=COMMAND, args=line, env=dict(os.environ)), mode=mode) as client:
        yield client


async def run(client: Client, code: str, **arguments: Any) -> CallToolResult:
    return await client.call_tool("execute_python", {"source": code, **arguments})


async def output(client: Client, code: str, **arguments: Any) -> str:
    """What a cell that succeeds shows."""
    result = await run(client, code, **arguments)
    assert not result.is_error, result
    return str(result.structured_content["output"])


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


def resource_of(result: CallToolResult) -> TextResourceContents | BlobResourceContents:
    (found,) = (block.resource for block in result.content if isinstance(block, EmbeddedResource))
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_tools_keep_state_between_calls(engine: str, mode: str) -> None:
    async with connected(engine, mode=mode) as client:
        first = await run(client, "x = 20\nprint('so', x)\nx + 1")
        assert not first.is_error
        assert first.structured_content["output"] == "so 20\n21"
        assert first.structured_content["new_session"] is True
        second = await run(client, "x * 2")
        assert (second.structured_content["output"], second.structured_content["execution_count"]) == ("40", 2)
        assert second.structured_content["new_session"] is False


async def test_tools_are_told_with_what_they_do(quick: str) -> None:
    async with connected(quick, image="datascience") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            "execute_python",
            "run_command",
            "list_files",
            "read_file",
            "write_file",
            "restart_session",
            "shutdown_session",
            "get_transcript",
        }
        assert client.instructions is not None
        for part in ("/mnt/data", "no network", "pandas", "stay from one call to the next"):
            assert part in str(tools["execute_python"].description)
        hints = {name: tool.annotations for name, tool in tools.items()}
        assert all(hint is not None and hint.open_world_hint is False for hint in hints.values())
        reading = {name for name, hint in hints.items() if hint is not None and hint.read_only_hint}
        assert reading == {"list_files", "read_file", "get_transcript"}
        assert "identifier" not in tools["execute_python"].input_schema["properties"]


@pytest.mark.parametrize("image", TESTED)
async def test_tools_are_of_the_kernels_language(quick: str, image: str) -> None:
    require_image(quick, image)
    cells = CELLS[image]
    async with connected(quick, image=image) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        name = f"execute_{cells.language.lower()}"
        assert name in tools
        assert not {"execute_python", "run_command"} & set(tools)
        told = f"{client.instructions} {' '.join(str(tool.model_dump()) for tool in tools.values())}"
        assert language_named(cells.language).title in str(tools[name].description)
        assert not re.search("IPython|pandas|plain Python|Run Python|execute_python|shell commands", told)
        await client.call_tool(name, {"source": cells.assign})
        result = await client.call_tool(name, {"source": cells.show})
        assert "42" in result.structured_content["output"]


async def test_figure_and_table_come_as_what_they_are(engine: str) -> None:
    code = """import pandas as pd, matplotlib.pyplot as plt
plt.figure(figsize=(2, 1)); plt.plot([1, 2]); plt.show()
print("between")
pd.DataFrame({"city": ["Oslo", "Rome"], "sold": [7, 5]})"""
    async with connected(engine, image="datascience") as client:
        result = await run(client, code)
        (picture,) = (block for block in result.content if isinstance(block, ImageContent))
        assert picture.mime_type == "image/png"
        data = base64.b64decode(picture.data)
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        (told,) = result.structured_content["pictures"]
        shown = {"media_type": "image/png", "width": width, "height": height, "bytes": len(data), "shown": True}
        assert told == shown
        assert result.structured_content["tables"] == [
            {
                "columns": ["index", "city", "sold"],
                "rows": [[0, "Oslo", 7], [1, "Rome", 5]],
                "total_rows": 2,
                "total_columns": 3,
                "truncated": False,
            }
        ]
        text = result.structured_content["output"]
        assert text.index("picture 1") < text.index("between") < text.index("Oslo")
        long = await run(client, "pd.DataFrame({'n': range(1000)})")
        (table,) = long.structured_content["tables"]
        assert (len(table["rows"]), table["rows"][49], table["total_rows"]) == (50, [49, 49], 1000)
        assert table["truncated"] is True


async def test_error_says_what_was_raised_and_what_was_shown_before(quick: str) -> None:
    async with connected(quick) as client:
        result = await run(client, "print('before')\nkept = 1\n1 / 0")
        assert result.is_error
        error = result.structured_content["error"]
        assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
        assert "1 / 0" in error["traceback"]
        assert "\x1b" not in text_of(result)
        assert "before" in text_of(result)
        assert await output(client, "kept") == "1"


async def test_cell_past_its_time_is_stopped_and_keeps_variables(quick: str) -> None:
    async with connected(quick, "--cell-timeout", "30") as client:
        result = await run(client, ENDLESS, timeout=1)
        assert result.is_error
        assert result.structured_content["status"] == "timeout"
        assert (result.structured_content["ran"], result.structured_content["kept"]) == ("began", "all")
        assert await output(client, "kept") == "5"
        stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
        lost = await run(client, stubborn, timeout=1)
        assert (lost.structured_content["status"], lost.structured_content["kept"]) == ("timeout", "files")
        again = (await run(client, "kept")).structured_content
        assert again["error"]["ename"] == "NameError"
        assert "did not stop when interrupted" in again["restarted_because"]


async def test_dead_kernel_is_told_and_replaced(engine: str) -> None:
    async with connected(engine) as client:
        await run(client, "x = 1; open('kept.txt', 'w').write('here')")
        result = await run(client, "import os; os._exit(3)")
        assert result.is_error
        assert (result.structured_content["status"], result.structured_content["kept"]) == ("dead", "files")
        assert "restart()" not in text_of(result)
        assert await output(client, "'x' in dir(), open('kept.txt').read()") == "(False, 'here')"


async def test_calls_that_waited_for_a_kernel_that_died_leave_the_fresh_one_alone(quick: str) -> None:
    async with connected(quick) as client:
        await output(client, "1")
        calls = ("import os, time; time.sleep(1); os._exit(3)", "open('ran.txt', 'w')", "open('ran.txt', 'w')")
        died, *waited = await asyncio.gather(*(run(client, call) for call in calls))
        assert [result.structured_content["ran"] for result in (died, *waited)] == ["began", "no", "no"]
        fresh = (await run(client, "import os; os.path.exists('ran.txt')")).structured_content
        assert (fresh["output"], fresh["restarted_because"]) == ("False", "The kernel exited with status 3.")


@pytest.mark.parametrize("mode", MODES)
async def test_progress_is_told_while_a_cell_runs(quick: str, mode: str) -> None:
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    code = "import time\nfor n in range(5):\n    print('step', n, flush=True); time.sleep(0.7)"
    async with connected(quick, mode=mode) as client:
        await output(client, "1")
        await client.call_tool("execute_python", {"source": code}, progress_callback=note)
        assert 1 <= len(told) <= 5
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert all(re.fullmatch(r"\d+ s: step \d", message or "") for _, message in told)


@pytest.mark.parametrize("mode", MODES)
async def test_cancelled_call_interrupts_its_cell_and_nothing_else(engine: str, mode: str) -> None:
    begun = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        if message is not None and message.endswith("begun"):
            begun.set()

    async with connected(engine, mode=mode) as client:
        await output(client, "1")
        call = asyncio.ensure_future(client.call_tool("execute_python", {"source": ENDLESS}, progress_callback=note))
        await asyncio.wait_for(begun.wait(), 30)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        # It waits for its turn, so the loop has ended; and it ends long before the loop's own time.
        assert await asyncio.wait_for(output(client, "kept"), 30) == "5"


@pytest.mark.parametrize("mode", MODES)
async def test_waiting_call_that_is_cancelled_never_runs(quick: str, mode: str) -> None:
    async with connected(quick, mode=mode) as client:
        await output(client, "import time; ran = []")
        running = asyncio.ensure_future(run(client, "time.sleep(0.8); ran.append('A')"))
        await asyncio.sleep(0.2)
        waiting = [
            asyncio.ensure_future(run(client, "ran.append('B')")),
            asyncio.ensure_future(client.call_tool("run_command", {"command": "touch /mnt/data/C"})),
        ]
        await asyncio.sleep(0.2)
        for call in waiting:
            call.cancel()
        assert (await running).structured_content["ran"] == "whole"
        assert await output(client, "ran, __import__('os').listdir()") == "(['A'], [])"


async def test_reset_during_a_cell_tells_that_it_ran_and_what_is_lost(quick: str) -> None:
    async with connected(quick) as client:
        endless = "open('/mnt/data/begun', 'w').close(); kept = 1\nimport time; time.sleep(60)"
        for fresh, fate in ((False, ("aborted", "began", "files")), (True, ("dead", "began", "nothing"))):
            running = asyncio.ensure_future(run(client, endless))
            while "begun" not in str((await client.call_tool("list_files", {})).structured_content):
                await asyncio.sleep(0.05)
            await client.call_tool("shutdown_session" if fresh else "restart_session", {})
            told = (await running).structured_content
            assert (told["status"], told["ran"], told["kept"]) == fate
            after = (await run(client, "'kept' in dir(), __import__('os').listdir()")).structured_content
            assert after["output"] == str((False, [] if fresh else ["begun"]))
            assert "restarted_because" not in after  # who asked for it knows
            await output(client, "import os; [os.unlink(name) for name in os.listdir()]")


async def test_calls_wait_for_each_other_in_order(quick: str) -> None:
    async with connected(quick) as client:
        await output(client, "import time; seen = []")
        slow = "time.sleep(0.5); seen.append('slow'); seen"
        calls = [run(client, slow), run(client, "seen.append('quick'); seen")]
        first, second = await asyncio.gather(*calls)
        assert first.structured_content["output"] == "['slow']"
        assert second.structured_content["output"] == "['slow', 'quick']"


async def test_too_many_waiting_calls_are_refused(quick: str) -> None:
    async with connected(quick) as client:
        await output(client, "import time")
        results = await asyncio.gather(*(run(client, "time.sleep(0.1)") for _ in range(20)))
        refused = [result for result in results if result.is_error]
        assert len(refused) == 4
        assert "wait for their results" in text_of(refused[0])


async def test_shell_command_runs_beside_the_cells(engine: str) -> None:
    async with connected(engine) as client:
        await output(client, "open('made.txt', 'w').write('by python')")
        result = await client.call_tool("run_command", {"command": "cat made.txt; echo oops >&2; exit 3"})
        data = result.structured_content
        assert (data["stdout"], data["stderr"], data["exit_status"]) == ("by python", "oops\n", 3)
        assert not result.is_error
        late = await client.call_tool("run_command", {"command": "sleep 60", "timeout": 1})
        assert late.structured_content["exit_status"] == 124


async def test_files_go_in_and_out(quick: str, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\n1,2\n")
    async with connected(quick, "--data", str(given)) as client:
        listed = await client.call_tool("list_files", {})
        assert [file["path"] for file in listed.structured_content["files"]] == ["/mnt/data/given.csv"]
        await client.call_tool("write_file", {"name": "out/text.txt", "content": "Grüße"})
        assert await output(client, "open('/mnt/data/out/text.txt').read()") == "'Grüße'"
        read = await client.call_tool("read_file", {"name": "/mnt/data/out/text.txt"})
        assert read.structured_content["text"] == "Grüße"
        for directory, total in (("/mnt/data", 2), ("/mnt/data/", 2), ("out/", 1), ("/mnt/data/out", 1)):
            below = await client.call_tool("list_files", {"directory": directory})
            assert below.structured_content["total"] == total, directory
        for name, content in (("bytes.bin", b"\0\xff"), ("picture.dat", png(5, 4))):
            encoded = base64.b64encode(content).decode()
            written = await client.call_tool("write_file", {"name": name, "content": encoded, "encoding": "base64"})
            assert written.structured_content["size"] == len(content)
        blob = resource_of(await client.call_tool("read_file", {"name": "bytes.bin"}))
        assert isinstance(blob, BlobResourceContents)
        assert base64.b64decode(blob.blob) == b"\0\xff"
        assert blob.uri == "sandbox:///mnt/data/bytes.bin"
        picture = (await client.call_tool("read_file", {"name": "picture.dat"})).content[1]
        assert isinstance(picture, ImageContent)
        assert (picture.mime_type, base64.b64decode(picture.data)) == ("image/png", png(5, 4))


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("read_file", {"name": "missing.txt"}, "There is no 'missing.txt'"),
        ("read_file", {"name": "../../etc/passwd"}, "is refused"),
        ("read_file", {"name": "big.bin"}, "more than the limit of 1 MB"),
        ("write_file", {"name": "../up.txt", "content": "x"}, "is refused"),
        ("write_file", {"name": "x", "content": "%%%", "encoding": "base64"}, "not base64"),
        ("read_file", {}, "must contain ['name'] properties"),
        ("execute_python", {"source": "1", "timeout": 0}, "timeout must be bigger than 0"),
        ("execute_python", {"source": 5}, "source must be string"),
        ("execute_python", {"source": "1", "identifier": "other"}, "must not contain {'identifier'} properties"),
    ],
    ids=range(9),
)
async def test_call_that_cannot_be_done_is_a_result_that_says_why(
    quick_client: Client, tool: str, arguments: dict[str, Any], reason: str
) -> None:
    result = await quick_client.call_tool(tool, arguments)
    assert result.is_error
    assert reason in text_of(result)
    assert result.structured_content["problem"] == text_of(result)


async def test_timeout_above_the_longest_is_taken_as_that(quick_client: Client) -> None:
    assert not (await quick_client.call_tool("execute_python", {"source": "1", "timeout": 1_000_000})).is_error


@pytest.fixture
async def quick_client(quick: str) -> AsyncIterator[Client]:
    async with connected(quick) as client:
        await output(client, "_ = open('big.bin', 'wb').write(bytes(1024 * 1024 + 1))")
        yield client


async def test_unknown_tool_is_an_error_of_the_protocol(quick: str) -> None:
    async with connected(quick) as client:
        with pytest.raises(MCPError, match="There is no tool named 'launch'"):
            await client.call_tool("launch", {})


async def test_reset_loses_variables_and_fresh_loses_files_too(engine: str) -> None:
    async with connected(engine) as client:
        await output(client, "x = 1; _ = open('kept.txt', 'w').write('here')")
        result = await client.call_tool("restart_session", {})
        assert "files under /mnt/data are kept" in result.structured_content["message"]
        assert await output(client, "'x' in dir(), open('kept.txt').read()") == "(False, 'here')"
        await client.call_tool("shutdown_session", {})
        again = await run(client, "import os; os.listdir()")
        assert (again.structured_content["output"], again.structured_content["new_session"]) == ("[]", True)
        notebook = resource_of(await client.call_tool("get_transcript", {}))
        assert isinstance(notebook, TextResourceContents)
        assert len(nbformat.reads(notebook.text, as_version=4).cells) == 3  # type: ignore[no-untyped-call]


async def test_reset_ends_a_cell_that_runs(quick: str) -> None:
    async with connected(quick) as client:
        await output(client, "1")
        call = asyncio.ensure_future(run(client, "while True: pass"))
        await asyncio.wait_for(client.call_tool("restart_session", {}), 30)
        result = await asyncio.wait_for(call, 30)
        assert result.is_error
        assert result.structured_content["status"] == "aborted"
        assert await output(client, "2") == "2"


async def test_notebook_holds_all_that_was_shown(quick: str) -> None:
    async with connected(quick) as client:
        shown = await output(client, "print('x' * 150_000)")
        assert len(shown) < 3_000
        exported = resource_of(await client.call_tool("get_transcript", {}))
        assert isinstance(exported, TextResourceContents)
        assert exported.mime_type == "application/x-ipynb+json"
        notebook = nbformat.reads(exported.text, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        assert notebook.cells[0].source == "print('x' * 150_000)"
        assert notebook.cells[0].outputs[0].text == "x" * 150_000 + "\n"


async def test_notebooks_are_saved_where_the_operator_said(quick: str, tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept.ipynb", tmp_path / "folder"
    folder.mkdir()
    kept.write_text("precious")
    async with connected(quick, "--save", str(kept), "--save-dir", str(folder)) as client:
        await output(client, "6 * 7")
        result = await client.call_tool("get_transcript", {})
        assert result.structured_content["path"] == str(folder / "notebook.ipynb")
        (block,) = result.content
        assert block.type == "text"
        assert kernelspec.warning() in block.text
    assert kept.read_text() == "precious"
    for path in (folder / "notebook.ipynb", tmp_path / "kept-2.ipynb"):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        assert [cell.source for cell in notebook.cells] == ["6 * 7"]


async def test_sandbox_that_cannot_start_is_told_and_tried_again(quick: str) -> None:
    async with connected(quick, image="no-such-image") as client:
        assert len((await client.list_tools()).tools) == 8
        for _ in range(2):
            result = await run(client, "1")
            assert result.is_error
            assert "no-such-image" in text_of(result)
            assert result.structured_content["status"] == "failed"


# The process itself, without the SDK: what it writes, and how it ends


class Process:
    """The server as a process, spoken to by hand."""

    def __init__(self, engine: str, *arguments: str) -> None:
        self.engine = engine
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [COMMAND, "mcp", "--engine", engine, "--image", "python", *arguments], stdin=pipe, stdout=pipe, stderr=pipe
        )
        self.lines: list[dict[str, Any]] = []
        self._rest = b""

    def send(self, method: str, id: int | None = None, **params: Any) -> None:
        assert self.process.stdin is not None
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if id is None else {"id": id})
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def begin(self) -> None:
        client = {"name": "test", "version": "1"}
        self.send("initialize", 0, protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        self.wait(lambda line: line.get("id") == 0)
        self.send("notifications/initialized")

    def call(self, id: int, code: str) -> None:
        meta = {"progressToken": id}
        self.send("tools/call", id, name="execute_python", arguments={"source": code}, _meta=meta)

    def wait(self, wanted: Callable[[dict[str, Any]], bool], limit: float = 60) -> dict[str, Any]:
        """Read messages until the one that is wanted; whatever is no message fails here."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + limit
        while True:
            while b"\n" in self._rest:
                line, self._rest = self._rest.split(b"\n", 1)
                self.lines.append(json.loads(line))
                if wanted(self.lines[-1]):
                    return self.lines[-1]
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the message did not come"
            piece = os.read(self.process.stdout.fileno(), 65_536)
            assert piece, "the server ended"
            self._rest += piece

    def wait_until_full(self, limit: float = 60) -> None:
        """Wait until the pipe that it writes to takes no more."""
        assert self.process.stdout is not None
        capacity = fcntl.fcntl(self.process.stdout, fcntl.F_GETPIPE_SZ)
        waiting, deadline = array.array("i", [0]), time.monotonic() + limit
        while waiting[0] < capacity - 2 * 4096:  # it is filled page by page, and a message's last page is not full
            assert time.monotonic() < deadline, "the pipe did not fill"
            time.sleep(0.02)
            fcntl.ioctl(self.process.stdout, termios.FIONREAD, waiting)

    @property
    def sandboxes(self) -> int:
        """How many sandboxes there are that it owns."""
        (found,) = ask_engines(sandboxes, self.engine).given.values()
        return sum(info.owner_pid == self.process.pid for info in found)


@contextmanager
def started(engine: str, *arguments: str) -> Iterator[Process]:
    server = Process(engine, *arguments)
    with server.process:
        try:
            yield server
        finally:
            server.process.kill()


def test_nothing_but_the_protocol_is_written_to_standard_output(quick: str) -> None:
    loud = """import os, sys
os.write(1, b'{"jsonrpc": "2.0", "id": 99, "result": {}}\\n'); os.system("echo from a child")
print("printed"); sys.__stdout__.write("raw\\n"); sys.__stdout__.flush()"""
    with started(quick) as server:
        server.begin()
        server.call(1, loud)
        answer = server.wait(lambda line: line.get("id") == 1)
        shown = answer["result"]["structuredContent"]["output"]
        assert "from a child" in shown
        assert "printed" in shown
        server.process.stdin.close()  # type: ignore[union-attr]
        assert server.process.wait(20) == 0
        assert {line["id"] for line in server.lines if "id" in line} == {0, 1}


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGINT"])
def test_end_of_the_client_ends_everything(engine: str, how: str) -> None:
    with started(engine) as server:
        server.begin()
        server.call(1, ENDLESS)
        server.wait(lambda line: "begun" in str(line.get("params", {}).get("message")))
        assert server.sandboxes == 1
        begun = time.monotonic()
        if how == "stdin":
            server.process.stdin.close()  # type: ignore[union-attr]
        else:
            server.process.send_signal(getattr(signal, how))
        status = server.process.wait(20)
        took = time.monotonic() - begun
        assert server.sandboxes == 0
        assert status == 0
        assert took < 5, f"it took {took:.1f} s"  # under 2 s on a machine that does nothing else


def test_server_ends_although_its_client_reads_nothing(quick: str) -> None:
    with started(quick) as server:
        server.begin()
        for number in range(1, 9):
            server.call(number, "print('x\\n' * 20_000)")  # each answer is more than half of what a pipe holds
        server.wait_until_full()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert server.sandboxes == 0


@pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
def test_server_ends_while_its_sandbox_starts(quick: str, how: str) -> None:
    with started(quick, "--warm") as server:
        server.begin()
        server.call(1, "1")
        if how == "stdin":
            server.process.stdin.close()  # type: ignore[union-attr]
        else:
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert server.sandboxes == 0


def test_no_sandbox_starts_before_it_is_needed(quick: str) -> None:
    with started(quick) as server:
        server.begin()
        server.send("tools/list", 1)
        server.wait(lambda line: line.get("id") == 1)
        assert server.sandboxes == 0
        server.call(2, "1")
        server.wait(lambda line: line.get("id") == 2)
        assert server.sandboxes == 1


def test_help_shows_how_to_register_it() -> None:
    shown = subprocess.run([COMMAND, "mcp", "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"^ +\{\n.*?^ +\}\n(?=\n)", shown, re.DOTALL | re.MULTILINE)
    assert found is not None
    server = json.loads(found[0])["mcpServers"]["python"]
    assert server["command"] == "kernel-sandbox"
    assert server["args"][0] == "mcp"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--save", "notes.txt"], "end in .ipynb"),
        (["--save", "/no/such/directory/a.ipynb"], "no directory"),
        (["--data", "/no/such/file"], "does not exist"),
        (["--cell-timeout", "0"], "not in the range"),
    ],
    ids=["suffix", "directory", "data", "timeout"],
)
def test_usage_error_writes_nothing_to_standard_output(arguments: list[str], reason: str) -> None:
    done = subprocess.run([COMMAND, "mcp", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in " ".join(done.stderr.split())
