"""A place for files that is full: the error says which, what it holds, and what raises that, at each door."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import Execution, Limits, SandboxFull, Session
from tests.conftest import missing
from tests.doors.http.conftest import server_engine as server_engine
from tests.doors.http.running import running

SMALL = Limits(memory="256m", data_size="9m", tmp_size="8m", home_size="7m", shm_size="6m", inodes=300)
COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
SPARSE = "open('/mnt/data/sparse', 'wb').truncate(800 * 2**20)"


@pytest.fixture(scope="module", params=["docker", "bubblewrap"])
def cramped(request: pytest.FixtureRequest) -> Iterator[Session]:
    if reason := missing(request.param):
        pytest.skip(reason)
    with Session(engine=request.param, image="python", limits=SMALL) as session:
        yield session


def last_line(execution: Execution) -> str:
    assert execution.error is not None, execution.text
    return execution.error.traceback[-1].splitlines()[-1]


@pytest.mark.parametrize(
    ("place", "holds", "limit"),
    [
        ("/mnt/data", "9 MB", "data_size"),
        ("/tmp", "8 MB", "tmp_size"),
        ("/home/sandbox", "7 MB", "home_size"),
        ("/dev/shm", "6 MB", "shm_size"),
    ],
)
def test_full_place_names_its_limit(cramped: Session, place: str, holds: str, limit: str) -> None:
    said = last_line(cramped.execute(f"with open('{place}/fill', 'wb') as file: file.write(bytes(20 * 2**20))"))
    assert all(word in said for word in (place, holds, f"Limits({limit}=…)"))
    made = cramped.execute(f"import sqlite3; sqlite3.connect('{place}/db').execute('create table t(a)')")
    assert limit in last_line(made), "an error of a library's own"
    cramped.execute(f"import os; os.remove('{place}/fill')\ntry: os.remove('{place}/db')\nexcept OSError: pass")
    assert "Limits(" not in last_line(cramped.execute("1 / 0")), "there is room again"


def test_file_that_is_too_large_names_its_limit(cramped: Session) -> None:
    said = last_line(cramped.execute(SPARSE))
    assert all(word in said for word in ("9 MB", "/mnt/data", "Limits(data_size=…)"))
    asked = "with open('/tmp/whole', 'wb') as file: os.posix_fallocate(file.fileno(), 0, 2**23 + 4096)"
    assert "/tmp 8 MB" in last_line(cramped.execute(f"import os\n{asked}"))


def test_place_without_names_left_names_its_limit(cramped: Session) -> None:
    flood = "import os; os.mkdir('/tmp/d')\nfor n in range(400): open(f'/tmp/d/{n}', 'w').close()"
    said = last_line(cramped.execute(flood))
    assert all(word in said for word in ("/tmp", "300 files", "Limits(inodes=…)"))
    cramped.execute("import shutil; shutil.rmtree('/tmp/d')")


def test_upload_that_does_not_fit_names_its_limit(cramped: Session) -> None:
    for size in (8 * 2**20, 20 * 2**20):  # beside what is there; and more than any file may have
        cramped.execute("open('there', 'wb').write(bytes(2 * 2**20))")
        with pytest.raises(SandboxFull, match=r"9 MB.*Limits\(data_size=…\)"):
            cramped.files.write("large", bytes(size))
    cramped.execute("import os; os.mkdir('d')\nfor n in range(400): open(f'd/{n}', 'w').close()")
    with pytest.raises(SandboxFull, match=r"300 files.*Limits\(inodes=…\)"):
        cramped.files.write("small", b"")
    cramped.execute("import shutil; shutil.rmtree('d'); os.remove('there')")


def test_memory_file_that_cannot_grow_names_its_limit(engine: str) -> None:
    take = "import mmap, os; held = os.open('/dev/shm/m', os.O_RDWR | os.O_CREAT); os.truncate(held, 2**23)\n"
    with Session(engine=engine, image="python", limits=SMALL) as session:
        dead = session.execute(f"{take}mmap.mmap(held, 2**23)[:] = bytes(2**23)")
    assert dead.status == "dead"
    assert dead.error is not None
    assert "/dev/shm holds 6 MB; Limits(shm_size=…)" in dead.error.evalue


def test_command_line_names_its_option(tmp_path: Path, server_engine: str) -> None:
    (tmp_path / "cell.py").write_text(SPARSE)
    command = [COMMAND, "run", "cell.py", "--engine", server_engine, "--image", "python", "--memory", "256m"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    said = " ".join((ran.stdout + ran.stderr).split())
    assert "64 MB" in said
    assert "--memory" in said
    assert "Limits(" not in said


def test_service_names_its_setting(tmp_path: Path, server_engine: str) -> None:
    with running(tmp_path, engine=server_engine, limits=SMALL) as started, started.client() as client:
        query = {"identifier": "full", "api-version": "2024-02-02-preview"}
        body = {"properties": {"code": SPARSE, "codeInputType": "inline", "executionType": "synchronous"}}
        told = client.post("/code/execute", params=query, json=body).json()["properties"]["stderr"]
        assert "limits.data_size" in told
        refused = client.post("/files/upload", params=query, files={"file": ("x", bytes(20 * 2**20))})
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "SessionStorageFull")
        assert "limits.data_size" in refused.json()["error"]["message"]
        assert "Limits(" not in told + refused.text
