"""What every engine must do, below any kernel: start PID 1 with its stream, say how it ended, leave nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import EngineError, ImageNotFound, Limits, Mount, Session
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.engines import get_engine
from kernel_sandbox.sandbox.engines.base import Sandbox
from kernel_sandbox.spec.values import SandboxSpec

SMALL = SandboxSpec(image="python", limits=Limits(memory="1g"))


def run(engine: str, argv: list[str], boot: bytes = b"", spec: SandboxSpec = SMALL) -> tuple[bytes, str]:
    """Run a command as PID 1 to its end and return what it wrote, and the epitaph."""

    async def main() -> tuple[bytes, str]:
        sandbox = await get_engine(engine).start(spec, argv, session_id="contract", shared=None, boot=boot)
        written = b""
        while chunk := await asyncio.wait_for(sandbox.receive(), 20):
            written += chunk
        epitaph = await sandbox.epitaph()
        await sandbox.aclose()
        return written, epitaph

    return portal().call(main)


def sandboxes(engine: str, session_id: str) -> list[str]:
    found = portal().call(get_engine(engine).sandboxes)
    return [info.id for info in found if info.session_id == session_id]


def test_sandbox_reads_its_boot_bytes_and_writes_back(engine: str) -> None:
    echo = "import sys; sys.stdout.write(sys.stdin.read(5)[::-1])"
    assert run(engine, ["python3", "-c", echo], boot=b"hello")[0] == b"olleh"


def test_sandbox_stream_carries_large_output_whole(engine: str) -> None:
    written, _ = run(engine, ["python3", "-c", "import sys; sys.stdout.write('x' * 5_000_000)"])
    assert len(written) == 5_000_000


def test_sandbox_epitaph_tells_what_pid_1_said_last(engine: str) -> None:
    written, epitaph = run(engine, ["python3", "-c", "import sys; sys.exit('no ipykernel here')"])
    assert written == b""
    assert "no ipykernel here" in epitaph


def test_sandbox_is_gone_after_its_end(engine: str) -> None:
    run(engine, ["python3", "-c", "pass"])
    assert sandboxes(engine, "contract") == []


def test_sandbox_close_ends_a_running_one_and_may_be_repeated(engine: str) -> None:
    async def main() -> None:
        argv = ["python3", "-c", "import time; time.sleep(600)"]
        sandbox: Sandbox = await get_engine(engine).start(SMALL, argv, session_id="closing", shared=None, boot=b"")
        await sandbox.aclose()
        await sandbox.aclose()

    portal().call(main)
    assert sandboxes(engine, "closing") == []


def test_engine_names_what_is_missing(engine: str) -> None:
    with pytest.raises(ImageNotFound, match=r"image list|knows bash, datascience"):
        run(engine, ["python3"], spec=SandboxSpec(image="no-such-image"))
    with pytest.raises(EngineError, match="no runtime 'no-such-runtime'"):
        run(engine, ["python3"], spec=SandboxSpec(image="python", runtime="no-such-runtime"))
    assert sandboxes(engine, "contract") == []


def test_sandbox_shows_mounts_read_only(engine: str, tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_text("from the host")
    tmp_path.chmod(0o755)
    spec = SandboxSpec(image="python", mounts=(Mount(tmp_path, "input"),))
    with Session(engine=engine, spec=spec) as session:
        assert session.execute("print(open('/mnt/input/input/large.txt').read())").text == "from the host\n"
        refused = session.execute("open('/mnt/input/input/new', 'w')")
        assert refused.error is not None
        assert refused.error.ename == "OSError"
        assert "Read-only" in refused.error.evalue


HOST = """
import json, os, sys
from kernel_sandbox import Session
session = Session(engine=sys.argv[1], image="python")
session.open()
print(json.dumps({"id": session.id, "directory": str(session.connection_file.parent)}), flush=True)
sys.stdin.read()
"""


def test_sandbox_ends_within_two_seconds_of_its_owner(engine: str) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, engine], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdin is not None
    told = json.loads(host.stdout.readline())
    assert sandboxes(engine, told["id"])
    host.kill()
    host.wait()
    host.stdout.close()
    host.stdin.close()
    census = [sys.executable, "-c", GONE, engine, told["id"]]
    assert subprocess.run(census, timeout=2, check=False).returncode == 0
    # What the dead process could not remove itself, the next one does.
    assert Path(told["directory"]).exists()
    subprocess.run(
        [sys.executable, "-c", HOST, engine], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    assert not Path(told["directory"]).exists()


GONE = """
import os, sys, time
if sys.argv[1] == "docker":
    import docker
    client = docker.from_env()
    def there():
        return client.containers.list(all=True, filters={"label": "org.kernel-sandbox.session=" + sys.argv[2]})
else:
    def there():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    if pid != str(os.getpid()) and sys.argv[2] in file.read(): return True
            except OSError: pass
while there():
    time.sleep(0.02)
"""


def test_forty_sessions_leave_nothing(engine: str) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def children() -> int:
        return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    opened, directories, counts = set(), [], []
    for number in range(40):
        with Session(engine=engine, image="python") as session:
            assert session.execute(f"{number} + 1").text == str(number + 1)
            opened.add(session.id)
            directories.append(session.connection_file.parent)
        counts.append((descriptors(), children()))
    # The first ones fill what a process keeps for good: its event loop, its pool of connections to the engine.
    assert min(counts[30:]) <= max(counts[:16])
    assert not opened & {info.session_id for info in portal().call(get_engine(engine).sandboxes)}
    assert not any(directory.exists() for directory in directories)
