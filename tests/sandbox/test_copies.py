"""Live kernels copied: what a copy has, what it has for itself, and that the kernel it is a copy of has not noticed."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from kernel_sandbox import KernelDied, KernelNotReady
from tests.sandbox.copies import forkable

pytestmark = pytest.mark.anyio

Transport = Literal["ipc", "forward"]
both = pytest.mark.parametrize("transport", ["ipc", "forward"])

STATE = "import os, sys\nvalues = [1]\ndef double(x): return 2 * x\nopen('/mnt/data/common', 'w').write('seen')\n41 + 1"


@both
async def test_copy_has_the_state_and_goes_its_own_way(engine: str, transport: Transport) -> None:
    async with forkable(engine, transport=transport) as (sandbox, parent):
        assert await parent.run(STATE) == "42"
        copy = await sandbox.fork(parent.kernel)
        assert await copy.run("values, double(21), _, Out[1], len(In), open('/mnt/data/common').read()") == (
            "([1], 42, 42, 42, 3, 'seen')"
        )
        assert await copy.run("values.append(2); print(values)") == "[1, 2]"
        assert await parent.run("values") == "[1]"
        assert await parent.run("os.getpid()") != await copy.run("os.getpid()")


@both
async def test_copy_shows_everything(engine: str, transport: Transport) -> None:
    async with forkable(engine, transport=transport) as (sandbox, parent):
        await parent.run("import logging, os, sys, asyncio, time")
        copy = await sandbox.fork(parent.kernel)
        for client in (copy, parent):
            assert await client.run("print('out'); print('err', file=sys.stderr)") in ("out\nerr", "err\nout")
            raw = await client.run("written = os.write(1, b'raw'), os.system('echo shell')")
            assert raw == "rawshell"
            assert await client.run("1 / 0") == "ZeroDivisionError: division by zero"
            assert await client.run("await asyncio.sleep(0.01); 'awaited'") == "'awaited'"
            assert await client.run("logging.warning('told')") == "WARNING:root:told"
            assert await client.run("%%shell\necho magic") == "magic"
            assert await client.run("print('y' * 3_000_000)") == "y" * 3_000_000


async def test_copies_of_copies_end_without_being_noticed(engine: str) -> None:
    async with forkable(engine) as (sandbox, parent):
        await parent.run("import os; name = 'parent'")
        copy = await sandbox.fork(parent.kernel)
        await copy.run("name = 'copy'")
        second = await sandbox.fork(copy.kernel)
        assert await second.run("name") == "'copy'"
        await sandbox.stop(second.kernel)
        copy.channels.request("shell", "execute_request", {"code": "os.kill(os.getpid(), 9)"}, lambda *_: None)
        death: asyncio.Future[Any] = asyncio.wrap_future(copy.kernel.death)
        assert isinstance(await death, KernelDied)
        assert await parent.run("name") == "'parent'"
        assert await (await sandbox.fork(parent.kernel)).run("name") == "'parent'"
        assert parent.kernel.exit_code is None


@both
async def test_parked_copy_is_woken_again_and_again(engine: str, transport: Transport) -> None:
    async with forkable(engine, transport=transport) as (sandbox, parent):
        await parent.run("x = 1")
        parked = await sandbox.park(parent.kernel)
        await parent.run("x = 2")
        first, second = await sandbox.fork(parked), await sandbox.fork(parked)
        assert await first.run("x += 10; x") == "11"
        assert await second.run("x") == "1"
        await sandbox.stop(parent.kernel)
        assert await (await sandbox.fork(parked)).run("x") == "1"
        await sandbox.stop(parked)
        assert await second.run("x, len(In)") == "(1, 4)"


async def test_cell_that_runs_keeps_its_kernel_from_being_copied(engine: str) -> None:
    async with forkable(engine) as (sandbox, parent):
        running = asyncio.ensure_future(parent.run("import asyncio\nawait asyncio.sleep(1)\n'whole'"))
        await asyncio.sleep(0.4)
        with pytest.raises(KernelNotReady, match="a cell runs"):
            await sandbox.fork(parent.kernel)
        assert await running == "'whole'"
        assert await (await sandbox.fork(parent.kernel)).run("1 + 1") == "2"


async def test_copy_is_interrupted_alone(engine: str) -> None:
    async with forkable(engine) as (sandbox, parent):
        copy = await sandbox.fork(parent.kernel)
        cells = [asyncio.ensure_future(one.run("import time; time.sleep(2); 'slept'")) for one in (parent, copy)]
        await asyncio.sleep(0.5)
        await copy.interrupt()
        assert await cells[1] == "KeyboardInterrupt:"
        assert await cells[0] == "'slept'"
        assert await copy.run("6 * 7") == "42"


HOSTILE = {
    "before": "import os, time\nos.register_at_fork(before=lambda: time.sleep(60))",
    "in the child": "import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(60))",
    "dies": "import os\nos.register_at_fork(after_in_child=lambda: os._exit(7))",
    "ignores": "import signal\nfor n in range(34, 64): signal.signal(n, signal.SIG_IGN)",
    "default": "import signal\nfor n in range(34, 64): signal.signal(n, signal.SIG_DFL)",
    "no fork": "import os\ndef fork(): raise OSError(11, 'none left')\nos.fork = fork",
    "lies": "import os\ndef fork(): return 1\nos.fork = fork",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
async def test_kernel_that_does_not_copy_is_given_up_in_time(engine: str, source: str) -> None:
    async with forkable(engine) as (sandbox, parent):
        honest = await sandbox.park(parent.kernel)
        await parent.run(source)
        with pytest.raises(KernelNotReady, match="could not be copied"):
            async with asyncio.timeout(10):
                await sandbox.fork(parent.kernel)
        if "before" not in source:
            assert await parent.run("6 * 7") == "42"
        assert parent.kernel.exit_code is None
        assert await (await sandbox.fork(honest)).run("6 * 7") == "42"


IN_THE_WAY = """import os, subprocess, sys
code = '''
import os, socket, time
run, made = "/opt/kernel-sandbox/run", set()
end = time.time() + 20
while time.time() < end:
    for place in (run, "/tmp"):
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if path not in made and (place == run and name != "1" or name.startswith(".kernel-sandbox")):
                try:
                    {attack}
                    made.add(path)
                except OSError: pass
'''
subprocess.Popen([sys.executable, "-c", code])"""
ATTACKS = {
    "directory": "os.mkdir(path + '/ready')",
    "link": "os.symlink('/proc/1/root', path + '/s-1')",
    "file": "open(path + '/s-2', 'x')",
    "pipe": "os.mkfifo(path + '/ready'); os.mkfifo(path + '/s-3')",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_names_put_among_the_sockets_harm_the_copy_alone(engine: str, attack: str) -> None:
    async with forkable(engine) as (sandbox, parent):
        await parent.run(IN_THE_WAY.replace("{attack}", attack))
        await asyncio.sleep(0.3)
        for _ in range(3):
            try:
                async with asyncio.timeout(20):
                    assert await (await sandbox.fork(parent.kernel)).run("1 + 1") == "2"
            except (KernelNotReady, TimeoutError):
                pass
        assert await parent.run("6 * 7") == "42"
        assert sandbox.live.lost is None


@both
async def test_many_copies_after_each_other_leave_no_names(engine: str, transport: Transport) -> None:
    async with forkable(engine, transport=transport) as (sandbox, parent):
        count = "import os; len(os.listdir('/opt/kernel-sandbox/run')), len(os.listdir('/tmp'))"
        before = await parent.run(count)
        for number in range(20):
            copy = await sandbox.fork(parent.kernel)
            assert await copy.run(f"{number}") == str(number)
            await copy.channels.close()
            await sandbox.stop(copy.kernel)
        assert await parent.run(count) == before
        assert list(sandbox.live.kernels) == [parent.kernel.name]


async def test_copies_draw_different_numbers(engine: str) -> None:
    drawn = "random.random(), np.random.rand(), secrets.token_hex(), tempfile.mktemp(), str(uuid.uuid4()), os.getpid()"
    async with forkable(engine, image="datascience") as (sandbox, parent):
        await parent.run(f"import os, random, secrets, ssl, tempfile, uuid\nimport numpy as np\n{drawn}")
        parked = await sandbox.park(parent.kernel)
        clients = [parent, *[await sandbox.fork(kernel) for kernel in (parked, parked, parent.kernel)]]
        found = [await client.run(f"for one in ({drawn}): print(one)") for client in clients]
        assert all(len(set(column)) == 4 for column in zip(*(text.split() for text in found), strict=True))


THREADS = {
    "blas": "import numpy as np\na = np.random.rand(900, 900)\n(a @ a).shape",
    "openmp": "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingClassifier as H\n"
    "X = np.random.rand(5000, 8)\nbool(H(max_iter=3).fit(X, X[:, 0] > .5).score(X, X[:, 0] > .5) > .5)",
    "kmeans": "import numpy as np\nfrom sklearn.cluster import KMeans\nX = np.random.rand(3000, 4)\n"
    "bool(KMeans(3, n_init=1).fit(X).n_iter_ > 0)",
    "pool": "import concurrent.futures as cf\npool = globals().get('pool') or cf.ThreadPoolExecutor(2)\n"
    "list(pool.map(abs, [-1, -2]))",
    "arrow": "import pyarrow as pa, pyarrow.compute as pc, numpy as np\n"
    "pa.table({'a': np.arange(200000) % 9}).group_by('a').aggregate([('a', 'sum')]).num_rows",
    "loky": "from joblib import Parallel, delayed\nParallel(2)(delayed(abs)(-i) for i in range(3))",
    "sqlite": "import sqlite3\ndb = globals().get('db') or sqlite3.connect('/tmp/x')\n"
    "db.execute('select 6 * 7').fetchall()",
    "processes": "import multiprocessing as mp\nwith mp.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))",
}


@pytest.mark.parametrize("source", THREADS.values(), ids=THREADS)
async def test_threads_of_libraries_work_in_a_copy_and_in_its_parent(engine: str, source: str) -> None:
    async with forkable(engine, image="datascience") as (sandbox, parent):
        expected = await parent.run(source, 60)
        assert "Error" not in expected
        copy = await sandbox.fork(parent.kernel)
        assert await copy.run(source, 30) == expected
        assert await parent.run(source, 30) == expected
        assert await (await sandbox.fork(copy.kernel)).run(source, 30) == expected


THREAD_OF_POLARS = """
import ctypes, threading
named = threading.Event()
def work():
    ctypes.CDLL(None).prctl(15, b"polars-0", 0, 0, 0)  # PR_SET_NAME, as polars' own are
    named.set()
    threading.Event().wait(60)
threading.Thread(target=work, daemon=True).start()
named.wait()
"""


async def test_kernel_that_has_imported_polars_is_not_copied(quick: str) -> None:
    async with forkable(quick) as (sandbox, parent):
        await parent.run(THREAD_OF_POLARS)
        with pytest.raises(KernelNotReady, match="polars is imported in it"):
            await sandbox.fork(parent.kernel)
        assert await parent.run("1 + 1") == "2"
