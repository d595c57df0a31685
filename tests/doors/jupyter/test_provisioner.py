"""The kernelspec under Jupyter's own tools: every test drives an unmodified client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.engines import get_engine
from tests.conftest import missing
from tests.inside.test_inside import INTERFACES

pytestmark = pytest.mark.usefixtures("kernelspec")
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kernelspec as a user installs it, in a prefix of its own."""
    if reason := missing("docker"):
        pytest.skip(reason)
    prefix = tmp_path_factory.mktemp("prefix")
    install: list[str | Path] = [
        BIN / "kernel-sandbox",
        "kernelspec",
        "install",
        "--prefix",
        prefix,
        "--image",
        "python",
    ]
    subprocess.run(install, check=True, capture_output=True)
    previous = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(prefix / "share" / "jupyter")
    yield prefix
    os.environ.pop("JUPYTER_PATH")
    if previous is not None:
        os.environ["JUPYTER_PATH"] = previous


def kernels_left() -> int:
    """How many sandboxes there are whose owner is dead, or below this process; others on this machine do not count."""
    found = portal().call(get_engine("docker").sandboxes)
    return sum(1 for info in found if info.owner_gone or is_below(info.owner_pid))


def is_below(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class TestKernel(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    """Jupyter's conformance suite."""

    kernel_name = "python-sandbox"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('oh', file=sys.stderr)"
    completion_samples = ({"text": "zi", "matches": {"zip"}},)
    complete_code_samples = ("1", "print('x')", "def f(x):\n  return x*2\n\n\n")
    incomplete_code_samples = ("print('''hello", "def f(x):\n  x*2")
    invalid_code_samples = ("import = 7q",)
    code_page_something = "zip?"
    code_generate_error = "1/0"
    code_execute_result = (
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    )
    code_display_data = (
        {"code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    )
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    kernel_name = "python-sandbox"
    support_iopub_welcome = True


def test_suite_is_the_real_one() -> None:
    assert issubclass(TestKernel, unittest.TestCase)
    assert len([name for name in dir(TestKernel) if name.startswith("test_")]) >= 12


def test_jupyter_run_runs_a_script(tmp_path: Path) -> None:
    source = f"import os\nprint({INTERFACES}, os.getcwd())"
    (tmp_path / "script.py").write_text(source)
    command: list[str | Path] = [BIN / "jupyter", "run", "--kernel", "python-sandbox", tmp_path / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['lo'] /mnt/data\n", done.stderr
    assert kernels_left() == 0


def test_jupyter_console_attaches_to_a_session(tmp_path: Path) -> None:
    from kernel_sandbox import Session

    with Session(engine="docker", image="python") as session:
        session.execute("x = 41")
        command: list[str | Path] = [
            BIN / "jupyter",
            "console",
            "--simple-prompt",
            "--existing",
            session.connection_file,
        ]
        done = subprocess.run(
            command, input="x + 1\nx = 7\nexit\n", capture_output=True, text=True, timeout=60, check=False
        )
        assert "42" in done.stdout, done.stderr
        assert session.execute("x").text == "7"


def test_exit_leaves_jupyter_console() -> None:
    command: list[str | Path] = [BIN / "jupyter", "console", "--simple-prompt", "--kernel", "python-sandbox"]
    typed = "print('be' + 'fore')\nexit\nprint('af' + 'ter')\n"
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=False)
    assert "before" in done.stdout, done.stderr
    assert "after" not in done.stdout
    assert done.returncode == 0
    deadline = time.monotonic() + 20
    while kernels_left():  # the console closes nothing: the sandbox ends because its owner has
        assert time.monotonic() < deadline
        time.sleep(0.05)


def heard_by_two(kernel: str) -> list[list[tuple[str, str, str]]]:
    """What each of two clients hears on iopub while both run cells: the type, whose it is, and the text."""
    manager = KernelManager(kernel_name=kernel)
    manager.start_kernel(stderr=subprocess.DEVNULL)
    clients = [BlockingKernelClient(connection_file=manager.connection_file) for _ in range(2)]
    try:
        for client in clients:
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=60)
        sent = {clients[0].execute("import time; print('a1', flush=True); time.sleep(0.5); print('a2')"): "a"}
        sent[clients[1].execute("print('b'); 1 / 0", stop_on_error=False)] = "b"
        sent[clients[0].execute("'a' + '3'")] = "c"
        return [listen(client, sent) for client in clients]
    finally:
        for client in clients:
            client.stop_channels()
        manager.shutdown_kernel(now=True)


def listen(client: Any, sent: dict[str, str]) -> list[tuple[str, str, str]]:
    heard: list[tuple[str, str, str]] = []
    while sum(kind == "idle" for kind, _, _ in heard) < len(sent):
        message = client.get_iopub_msg(timeout=30)
        whose = sent.get(message["parent_header"].get("msg_id"))
        if whose is not None:
            content = message["content"]
            said = content.get("text") or content.get("ename") or str(content.get("data", ""))
            heard.append((content.get("execution_state", message["msg_type"]), whose, said))
    return heard


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_clients_hear_what_they_hear_of_a_stock_kernel() -> None:
    ours, stock = heard_by_two("python-sandbox"), heard_by_two("python3")
    assert [sorted(heard) for heard in ours] == [sorted(heard) for heard in stock]
    for whose in "abc":  # each request's messages in their order; another's may come between
        assert [each for each in ours[1] if each[1] == whose] == [each for each in stock[1] if each[1] == whose]


@pytest.mark.anyio
async def test_kernel_manager_interrupts_restarts_and_shuts_down() -> None:
    from jupyter_client.manager import AsyncKernelManager

    manager = AsyncKernelManager(kernel_name="python-sandbox")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=20)
        identifier = client.execute("while True: pass")
        await asyncio.sleep(0.5)
        await manager.interrupt_kernel()
        reply = await client.get_shell_msg(timeout=5)
        assert reply["parent_header"]["msg_id"] == identifier
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        await manager.restart_kernel()
        await client.wait_for_ready(timeout=20)
        assert await manager.is_alive()
        client.execute("import os; os._exit(1)")
        while await manager.is_alive():
            await asyncio.sleep(0.05)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()
    assert kernels_left() == 0


def test_encryption_that_is_required_is_refused() -> None:
    code = (
        "import asyncio\nfrom jupyter_client.manager import AsyncKernelManager\n"
        "km = AsyncKernelManager(kernel_name='python-sandbox', transport_encryption='required')\n"
        "asyncio.run(km.start_kernel())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "encryption" in done.stderr


SERVER = """
import sys
from jupyterlab.labapp import main
main(["--no-browser", "--allow-root", "--ServerApp.token=secret", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0",
      "--ServerApp.port_retries=0", "--ServerApp.root_dir=" + sys.argv[1]])
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a running JupyterLab whose directory is tmp_path."""
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path)}
    errors = (tmp_path / "lab.log").open("w+")
    server = subprocess.Popen([sys.executable, "-c", SERVER, tmp_path], env=environment, stderr=errors)
    try:
        deadline = 60.0
        while not (found := list((tmp_path / "runtime").glob("jpserver-*.json"))) and deadline > 0:
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            deadline -= 0.1
            subprocess.run(["sleep", "0.1"], check=True)
        yield json.loads(found[0].read_text())["url"]
    finally:
        server.terminate()
        server.wait(20)
        errors.close()


@pytest.mark.anyio
async def test_jupyterlab_opens_the_notebook_and_runs_the_kernel(lab: str, tmp_path: Path) -> None:
    from tornado.httpclient import AsyncHTTPClient, HTTPRequest
    from tornado.websocket import websocket_connect

    from kernel_sandbox import AsyncSession

    async with AsyncSession(engine="docker", image="python", save=tmp_path / "made.ipynb") as session:
        await session.execute("'made in a sandbox'")
    authorization = {"Authorization": "token secret"}
    client = AsyncHTTPClient()

    async def ask(path: str, method: str = "GET", body: object = None) -> object:
        data = None if body is None else json.dumps(body)
        request = HTTPRequest(lab + path, method, headers=authorization, body=data, allow_nonstandard_methods=True)
        answer = await client.fetch(request)
        return json.loads(answer.body) if answer.body[:1] in (b"{", b"[") else answer.body

    assert b"JupyterLab" in await ask("lab/tree/made.ipynb")  # type: ignore[operator]
    opened = await ask("api/contents/made.ipynb?type=notebook")
    cell = opened["content"]["cells"][0]  # type: ignore[index]
    assert cell["outputs"][0]["data"]["text/plain"] == "'made in a sandbox'"
    assert not cell["metadata"].get("trusted")
    kernel = await ask("api/kernels", "POST", {"name": "python-sandbox"})
    address = f"{lab.replace('http', 'ws', 1)}api/kernels/{kernel['id']}/channels"  # type: ignore[index]
    socket = await websocket_connect(HTTPRequest(address, headers=authorization))
    header = {
        "msg_id": "m1",
        "session": "s",
        "username": "u",
        "msg_type": "execute_request",
        "version": "5.3",
        "date": "",
    }
    source = INTERFACES
    content = {"code": source, "silent": False, "store_history": True}
    content |= {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    message = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
    await socket.write_message(json.dumps(message))
    async with asyncio.timeout(30):
        while True:
            told = json.loads(await socket.read_message() or "{}")
            if told["header"]["msg_type"] == "execute_result":
                break
    assert told["content"]["data"]["text/plain"] == "['lo']"
    await ask(f"api/kernels/{kernel['id']}/interrupt", "POST", {})  # type: ignore[index]
    await ask(f"api/kernels/{kernel['id']}/restart", "POST", {})  # type: ignore[index]
    socket.close()
    await ask(f"api/kernels/{kernel['id']}", "DELETE")  # type: ignore[index]
    assert kernels_left() == 0
