"""How kernels begin and end: what a cell finds at its first moment, and what is left of it after the last."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from kernel_sandbox import KernelDied, KernelNotReady, Limits, Mount, SandboxSpec, Session
from kernel_sandbox.inside import loaded_libraries
from kernel_sandbox.setup.kernelspec import install

OPEN_FILES = """import atexit, gzip, zipfile
text = open('text.txt', 'w'); text.write('kept')
packed = gzip.open('packed.gz', 'wt'); packed.write('kept')
archive = zipfile.ZipFile('a.zip', 'w'); archive.writestr('member', 'kept')
open('atexit.txt', 'w').close()
atexit.register(lambda: open('atexit.txt', 'a').write('kept'))"""
READ_THEM = """import gzip, zipfile
texts = open('text.txt').read(), gzip.open('packed.gz', 'rt').read(), open('atexit.txt').read()
print(*texts, zipfile.ZipFile('a.zip').read('member').decode())"""
HELD = {
    "cycle": "held.file = open('kept.txt', 'w'); held.file.write('kept')",
    "wrapped": "held.file = gzip.open('kept.txt', 'wt'); held.file.write('kept')",
    "module": "sys.modules['own'] = types.ModuleType('own'); sys.modules['own'].file = open('kept.txt', 'w')\n"
    "sys.modules['own'].file.write('kept')",
    "own": "class Own:\n    def __del__(self, open=open): open('kept.txt', 'w').write('kept')\nheld.own = Own()",
    "slow": "class Slow:\n    def __del__(self, open=open, sleep=__import__('time').sleep):\n"
    "        sleep(0.6); open('kept.txt', 'w').write('kept')\nheld.slow = Slow()",
    "frame": "def wait(open=open):\n    try: yield\n    finally: open('kept.txt', 'w').write('kept')\n"
    "held.frame = wait(); next(held.frame)",
}
JOURNAL = """import sqlite3, types
held = types.SimpleNamespace(); held.me = held
held.base = sqlite3.connect('kept.sqlite')
held.base.execute('pragma journal_mode = wal')
with held.base: held.base.execute('create table kept (a)')"""
OWN_LIBRARY = """#include <fcntl.h>
#include <unistd.h>
__attribute__((destructor)) static void end(void) {
    int file = open("/mnt/data/kept.txt", O_CREAT | O_WRONLY, 0600);
    if (write(file, "kept", 4)) close(file);
}"""
LOAD = """import ctypes, os
file = os.memfd_create("own")  # nothing can be run from /mnt/data
os.write(file, open("own.so", "rb").read())
ctypes.CDLL(f"/proc/self/fd/{file}")"""
TAKE = """import fcntl, os, socket
lock = open('lock', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
servers = [socket.create_server(('127.0.0.1', port)) for port in (7101, 7102)]"""
HOLD = """import time
servers.pop(0).close()
os.held, ready = b'x' * (400 << 20), os.pipe()
if os.fork() == 0:
    more = b'y' * (400 << 20)
    server = socket.create_server(('127.0.0.1', 7101))
    os.write(ready[1], b'.')
    time.sleep(60)
os.read(ready[0], 1)"""
HOSTILE_EXITS = """import atexit, os, signal, socket, threading, time
def flood():
    with open('/tmp/flood', 'wb') as file:
        while True: file.write(bytes(1 << 20)); file.seek(0)
def fork():
    while True:
        try: os.fork()
        except OSError: time.sleep(0.01)
def lie():
    get_ipython().kernel.do_execute.__globals__['common_memory'].set_over(True)
    os.kill(1, signal.SIGCHLD)
    fork()
def listen():
    server = socket.create_server(('127.0.0.1', 7777))
    while True: time.sleep(1)
atexit.register({name})"""
CPU = """import os
def spent(pid):
    with open(f'/proc/{pid}/stat') as file: fields = file.read().rsplit(')', 1)[1].split()
    return fields[0], int(fields[11]) + int(fields[12])"""
CHILDREN = {
    "fork": "pid = os.fork()",
    "async": "import asyncio\npid = os.fork()\nawait asyncio.sleep(0.2)\nfor _ in range(5): await asyncio.sleep(0)",
    "grandchild": "import os\nr, w = os.pipe()\nif os.fork() == 0:\n    pid = os.fork()\n"
    "    if pid: os.write(w, str(pid).encode()); os._exit(0)\nelse:\n    pid = int(os.read(r, 20))",
    "thread": "import threading, time\npid = os.fork()\n"
    "if not pid: threading.Thread(target=time.sleep, args=(0.2,)).start()",
    "error": "pid = os.fork()\nif not pid: 1 / 0",
}


def test_restart_writes_files_out_and_runs_what_was_registered(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        session.execute(OPEN_FILES).raise_for_error()
        session.restart()
        assert session.execute(READ_THEM).text.split() == ["kept"] * 4


@pytest.mark.parametrize("source", HELD.values(), ids=HELD)
def test_restart_ends_what_no_variable_holds_alone(session: Session, source: str) -> None:
    """As at the end of any Python program, where objects in cycles and in modules are freed."""
    session.execute("import os; os.path.exists('kept.txt') and os.unlink('kept.txt')")
    held = f"import gzip, sys, types\nheld = types.SimpleNamespace(); held.me = held\n{source}"
    session.execute(held).raise_for_error()
    session.restart()
    read = "import gzip\nfound = open('kept.txt', 'rb').read()"
    assert session.execute(f"{read}\n(gzip.decompress(found) if found[0] == 31 else found) == b'kept'").text == "True"


def test_restart_closes_databases(session: Session) -> None:
    """What is still in the journal of one is part of its file then, which may be taken out alone."""
    session.execute(JOURNAL).raise_for_error()
    assert "kept.sqlite-wal" in session.execute("import os; os.listdir()").text
    session.restart()
    kept = "import os, sqlite3\nsqlite3.connect('file:kept.sqlite?immutable=1', uri=True).execute('select name from "
    assert session.execute(f"{kept}sqlite_master').fetchall(), os.path.exists('kept.sqlite-wal')").text == (
        "([('kept',)], False)"
    )


def test_restart_lets_libraries_in_c_write_at_the_exit(engine: str, tmp_path: Path) -> None:
    """As those of scientific files and of videos do: nothing shows it beforehand."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler makes the library: apt-get install gcc libc6-dev")
    (tmp_path / "own.c").write_text(OWN_LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "own.so", tmp_path / "own.c"], check=True)
    with Session(engine=engine, image="python") as session:
        session.files.write("own.so", (tmp_path / "own.so").read_bytes())
        session.execute(LOAD).raise_for_error()
        session.restart()
        assert session.files.read("kept.txt") == b"kept"


@pytest.mark.parametrize(
    "source", ["1", "import pandas, matplotlib.pyplot, sklearn.svm", "import openpyxl, lxml.etree"]
)
def test_library_that_has_nothing_to_write_is_known(quick: str, source: str) -> None:
    """A restart with these is fast: a list names them."""
    with Session(engine=quick, image="datascience") as session:
        told = session.execute(f"{inspect.getsource(loaded_libraries)}\n{source}\nprint(have_nothing_to_do())")
    assert told.text == "True\n"


def test_restart_frees_ports_and_locks(engine: str) -> None:
    """Those of a kernel, and of its processes, before the next one begins: their memory is given back before that."""
    with Session(engine=engine, image="python", limits=Limits(memory="2g")) as session:
        for _ in range(3):
            session.execute(TAKE).raise_for_error()
            session.execute(HOLD).raise_for_error()
            session.restart()


def test_restart_of_a_kernel_that_fills_the_memory_keeps_the_sandbox(engine: str) -> None:
    """Its memory is given back before the next kernel needs some."""
    with Session(engine=engine, image="python", limits=Limits(memory="300m")) as session:
        for _ in range(3):
            session.execute("held = b'x' * (190 << 20)").raise_for_error()
            session.restart()
            assert session.kept_by_restart == "files"
            assert session.execute("6 * 7").text == "42"


async def restart_politely(tmp_path: Path, engine: str, source: str, then: str) -> str:
    """Run a cell, restart as Jupyter's front ends do, run another, and return what it printed."""
    install(tmp_path, name="sandboxed", engine=engine, spec=SandboxSpec(image="python"))
    specs = KernelSpecManager(kernel_dirs=[str(tmp_path)])
    manager = AsyncKernelManager(kernel_name="sandboxed", kernel_spec_manager=specs)
    await manager.start_kernel()
    printed: list[str] = []
    try:
        for number, text in enumerate((source, then)):
            if number:
                await manager.restart_kernel()
            client = manager.client()
            client.start_channels()
            await client.wait_for_ready(timeout=20)
            await client.execute_interactive(
                text, output_hook=lambda m: printed.append(m["content"].get("text", "")), timeout=20
            )
            client.stop_channels()
    finally:
        await manager.shutdown_kernel(now=True)
    return "".join(printed)


@pytest.mark.anyio
async def test_restart_button_writes_files_out_and_leaves_no_process(engine: str, tmp_path: Path) -> None:
    background = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)"
    counted = (
        "import os; print(sum('sleep' in open(f'/proc/{p}/comm').read() for p in os.listdir('/proc') if p.isdigit()))"
    )
    printed = await restart_politely(tmp_path, engine, f"{OPEN_FILES}\n{background}", f"{READ_THEM}\n{counted}")
    assert printed.split() == [*["kept"] * 4, "0"]


def test_restart_interrupts_a_cell_that_runs(engine: str) -> None:
    source = "import time\ntry: time.sleep(60)\nfinally: open('last.txt', 'w').write('kept')"
    with Session(engine=engine, image="python") as session:
        session.execute(OPEN_FILES).raise_for_error()
        stream = session.stream(f"print('runs')\n{source}")
        next(iter(stream))
        session.restart()
        assert session.execute(f"{READ_THEM}\nprint(open('last.txt').read())").text.split() == ["kept"] * 5


@pytest.mark.alone
@pytest.mark.parametrize("name", ["flood", "fork", "lie", "listen", "lambda: time.sleep(60)", "threading.Event().wait"])
def test_exit_that_does_not_end_gains_nothing(engine: str, name: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(pids=64)) as session:
        session.execute("1")
        session.execute(HOSTILE_EXITS.replace("{name}", name)).raise_for_error()
        before = time.perf_counter()
        session.restart()
        assert time.perf_counter() - before < 2.0
        assert session.usage().processes <= 3  # PID 1, the zygote, the kernel
        found = session.execute("import os; os.listdir('/tmp'), sum(p.isdigit() for p in os.listdir('/proc'))").text
        assert found == "([], 3)"


@pytest.mark.parametrize("source", CHILDREN.values(), ids=CHILDREN)
def test_child_that_falls_through_its_cell_ends(session: Session, source: str) -> None:
    session.execute(CPU)
    session.execute(source)
    gone = "import time\nend = time.time() + 5\nwhile time.time() < end and os.path.exists(f'/proc/{pid}'):"
    gone += "\n    os.waitpid(-1, os.WNOHANG) if end - time.time() < 5 and spent(pid)[0] == 'Z' else time.sleep(0.01)"
    session.execute(gone)
    assert session.execute("os.path.exists(f'/proc/{pid}') and spent(pid)").text == "False"
    assert session.execute("6 * 7").text == "42"


def test_child_of_a_task_takes_nothing_from_the_kernel(session: Session) -> None:
    session.execute(CPU)
    forks = "async def forks():\n    global pid\n    await asyncio.sleep(0.05)\n    pid = os.fork()"
    session.execute(f"import asyncio, time\n{forks}\ntask = asyncio.create_task(forks())")
    while session.execute("'pid' in globals()").text != "True":
        pass
    counted = [session.execute("time.sleep(0.2); spent(pid)").text for _ in range(5)]
    assert counted[0][2] in "SZ"  # it sleeps, or has ended with a cell that was not over when it came to be
    assert counted[0] == counted[-1]


def test_child_prints_before_it_ends(session: Session) -> None:
    ran = session.execute("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nelse: print('from the child')")
    assert "from the child" in ran.text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import faulthandler, ctypes\nfaulthandler.enable()\nctypes.string_at(0)", "in string_at"),
        (
            "import os\nos.write(2, b'the disk \\x1b[31mis\\xe2\\x80\\xae gone')\nos._exit(3)",
            r"disk \x1b[31mis\u202e gone",
        ),
        (
            "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
            "libc.free.argtypes = [ctypes.c_void_p]\na = libc.malloc(16)\nlibc.free(a)\nlibc.free(a)",
            "double free",
        ),
    ],
    ids=["faulthandler", "text", "libc"],
)
def test_death_is_told_with_the_last_words(session: Session, source: str, words: str) -> None:
    ran = session.execute(source)
    assert isinstance(ran.cause, KernelDied)
    said = [line for line in str(ran.cause).splitlines() if words in line]
    assert said
    assert said[0].startswith("  | ")


def test_kernel_that_writes_without_end_costs_the_sandbox_little(session: Session) -> None:
    flood = "def flood():\n    while True: os.write(2, b'x' * 4096)"
    session.execute(f"import os, threading\n{flood}\nthreading.Thread(target=flood).start()")
    spent = "open('spent', 'w').write(open('/proc/1/stat').read())"
    counted = []
    for _ in range(2):
        session.execute(f"import time; time.sleep(1); {spent}")
        fields = session.files.read("spent").decode().rsplit(")", 1)[1].split()
        counted.append(int(fields[11]) + int(fields[12]))
    assert counted[1] - counted[0] < 20  # hundredths of a second, in more than one
    died = session.execute("os.write(2, b'y' * 100); os._exit(1)")
    assert len(str(died.cause)) < 5000


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["python3", "-c", "raise SystemExit('libR.so is missing')"], "  | libR.so is missing"),
        (["no-such-program"], "no-such-program"),
        (["sh", "-c", "echo waiting for godot >&2; sleep 60"], "  | waiting for godot"),
    ],
    ids=["fails", "missing", "late"],
)
def test_other_kernel_that_fails_says_why(engine: str, tmp_path: Path, argv: list[str], words: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kernel.json").write_text(json.dumps({"argv": argv}))
    tmp_path.chmod(0o755)
    spec = SandboxSpec(
        image="python",
        kernel="/mnt/input/kernels/other",
        mounts=(Mount(str(tmp_path), "kernels"),),
        limits=Limits(start_timeout=2.0),
    )
    with pytest.raises(KernelNotReady) as refused, Session(engine=engine, spec=spec):
        pass
    assert words in str(refused.value)
