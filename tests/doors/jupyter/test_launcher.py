"""The sandboxed kernel as front ends start it that know no provisioners: they run the kernelspec's argv."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.manager import KernelManager

from kernel_sandbox.setup.kernelspec import install, prefix_directory
from kernel_sandbox.spec.values import SandboxSpec
from tests.inside.test_inside import INTERFACES
from tests.shadowing import shadow

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def plain_kernelspec(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernelspec as such a front end sees it: without what names the provisioner."""
    target = install(prefix_directory(tmp_path), engine=engine, spec=SandboxSpec(image="python"))
    document = json.loads((target / "kernel.json").read_text())
    del document["metadata"]["kernel_provisioner"]
    (target / "kernel.json").write_text(json.dumps(document))
    monkeypatch.setenv("JUPYTER_PATH", str(target.parent.parent))
    return target


@pytest.fixture(params=["tcp", "ipc"])
def manager(plain_kernelspec: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KernelManager]:
    made = KernelManager(kernel_name=plain_kernelspec.name, transport=request.param)
    if request.param == "ipc":
        made.ip = str(tmp_path / "s")
    made.start_kernel(cwd=str(tmp_path))
    try:
        yield made
    finally:
        made.shutdown_kernel(now=True)


def connect(manager: KernelManager) -> BlockingKernelClient:
    client: Any = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    return client  # type: ignore[no-any-return]


def run(
    client: BlockingKernelClient, source: str, hook: Callable[[dict[str, Any]], None] | None = None
) -> tuple[str, str]:
    """Run a cell: its status, and what it printed or the error's name."""
    shown: list[str] = []

    def take(message: dict[str, Any]) -> None:
        shown.append(message["content"].get("text", "") or message["content"].get("ename", ""))
        if hook is not None:
            hook(message)

    reply = client.execute_interactive(source, timeout=60, output_hook=take)
    return reply["content"]["status"], "".join(shown)


def test_front_end_without_provisioners_gets_a_sandbox(manager: KernelManager) -> None:
    client = connect(manager)
    network = f"import os; print({INTERFACES}, os.getcwd()); x = 1"
    assert run(client, network) == ("ok", "['lo'] /mnt/data\n")

    def interrupt(message: dict[str, Any]) -> None:
        if message["content"].get("text") == "on\n":
            manager.interrupt_kernel()

    endless = "print('on', flush=True)\nwhile True: pass"
    assert run(client, endless, interrupt) == ("error", "on\nKeyboardInterrupt")
    assert run(client, "print(x)") == ("ok", "1\n")
    client.stop_channels()
    manager.restart_kernel()
    client = connect(manager)
    assert run(client, "print('x' in globals())") == ("ok", "False\n")
    assert run(client, "print('y' * 3_000_000)") == ("ok", "y" * 3_000_000 + "\n")
    client.stop_channels()


@contextmanager
def launch(target: Path, file: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    argv = [
        part.replace("{connection_file}", str(file))
        for part in json.loads((target / "kernel.json").read_text())["argv"]
    ]
    with subprocess.Popen([*argv, *more], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def connection_file(directory: Path, **changes: Any) -> Path:
    """Write a connection file as front ends do."""
    file = directory / "kernel.json"
    write_connection_file(str(file), transport="ipc", ip=str(directory / "s"), key=b"secret")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return file


def client_of(file: Path) -> BlockingKernelClient:
    deadline = time.monotonic() + 30
    while not file.with_name("s-5").exists():  # a client of its own takes a heart that does not beat yet for a dead one
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    return client


def test_launcher_ends_as_its_kernel_does(plain_kernelspec: Path, tmp_path: Path) -> None:
    file = connection_file(tmp_path)
    with launch(plain_kernelspec, file) as process:
        client = client_of(file)
        client.execute("import os; os._exit(7)")
        assert process.wait(30) == 7
        assert process.stderr is not None
        assert "exited with status 7" in process.stderr.read()
        client.stop_channels()


def test_launcher_ignores_what_ipykernel_is_told(plain_kernelspec: Path, tmp_path: Path) -> None:
    file = connection_file(tmp_path)
    told = (
        "--HistoryManager.hist_file=:memory:",
        "--IPKernelApp.log_level=10",
        "--matplotlib",
        "inline",
        "-x",
        "--con=1",
    )
    with launch(plain_kernelspec, Path("of-nobody.json"), *told, f"--f={file}") as process:  # as VS Code writes it
        client = client_of(file)
        assert run(client, "import os; print(os.getcwd())") == ("ok", "/mnt/data\n")
        client.stop_channels()
        assert process.poll() is None


@pytest.mark.parametrize("word", ["exit", "quit()"])
def test_exit_ends_the_kernel_as_jupyters_does(plain_kernelspec: Path, tmp_path: Path, word: str) -> None:
    file = connection_file(tmp_path)
    with launch(plain_kernelspec, file) as process:
        client = client_of(file)
        reply = client.execute_interactive(word, timeout=60)["content"]
        assert (reply["status"], reply["payload"]) == ("ok", [{"source": "ask_exit", "keepkernel": False}])
        assert process.wait(30) == 0
        client.stop_channels()


def test_input_without_a_user_is_refused_in_jupyters_words(plain_kernelspec: Path, tmp_path: Path) -> None:
    file = connection_file(tmp_path)
    with launch(plain_kernelspec, file):
        client = client_of(file)
        reply = client.execute_interactive("input()", allow_stdin=False, output_hook=lambda _: None, timeout=60)
        said = reply["content"]["evalue"]
        assert said == "raw_input was called, but this frontend does not support input requests."
        client.stop_channels()


def test_launcher_takes_the_signals_of_front_ends(plain_kernelspec: Path, tmp_path: Path) -> None:
    file = connection_file(tmp_path)
    with launch(plain_kernelspec, file) as process:
        client = client_of(file)

        def interrupt(message: dict[str, Any]) -> None:
            if message["content"].get("text") == "on\n":
                process.send_signal(signal.SIGINT)

        endless = "print('on', flush=True)\nwhile True: pass"
        assert run(client, endless, interrupt) == ("error", "on\nKeyboardInterrupt")
        process.terminate()
        assert process.wait(30) == 0
        client.stop_channels()


def test_launcher_ends_with_the_process_that_started_it(plain_kernelspec: Path, tmp_path: Path) -> None:
    file = connection_file(tmp_path)
    argv = [
        part.replace("{connection_file}", str(file))
        for part in json.loads((plain_kernelspec / "kernel.json").read_text())["argv"]
    ]
    starter = (
        "import os, subprocess, sys; os.environ['JPY_PARENT_PID'] = str(os.getpid()); "
        "child = subprocess.Popen(sys.argv[1:]); print(child.pid, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", starter, *argv], stdin=-1, stdout=-1, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        client_of(file).stop_channels()
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/status").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("changes", [{"shell_port": 0}, {"key": None}, {"transport": "smoke"}])
def test_connection_file_that_is_none_is_told_in_a_line(
    plain_kernelspec: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with launch(plain_kernelspec, connection_file(tmp_path, **changes)) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "kernel.json" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("entry", ["/nowhere", "", "."])
def test_launcher_imports_nothing_that_lies_beside_the_notebook(tmp_path: Path, entry: str) -> None:
    """Neither as Python's own first place, nor for a PYTHONPATH with an empty or a relative entry."""
    canary = shadow(tmp_path)
    target = install(prefix_directory(tmp_path), engine="bubblewrap", spec=SandboxSpec(image="python"))
    argv = json.loads((target / "kernel.json").read_text())["argv"]
    environment = os.environ | {"PYTHONPATH": f"{entry}{os.pathsep}/nowhere"}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert "is no connection file" in done.stderr
    assert not canary.exists()


def test_installed_kernelspec_never_runs_an_unsandboxed_kernel(tmp_path: Path) -> None:
    target = install(prefix_directory(tmp_path), engine="bubblewrap", spec=SandboxSpec(image="python"))
    document = json.loads((target / "kernel.json").read_text())
    assert document["argv"][1:4] == ["-I", "-m", "kernel_sandbox.doors.jupyter.launcher"]
    assert json.loads(document["argv"][-1]) == document["metadata"]["kernel_provisioner"]["config"]
    assert shutil.which(document["argv"][0]) == sys.executable
