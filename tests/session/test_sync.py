from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from kernel_sandbox import Session


def test_session_works_inside_a_running_event_loop(engine: str) -> None:
    async def main() -> str:
        with Session(engine=engine, image="python") as session:
            return session.execute("1 + 1").text

    assert asyncio.run(main()) == "2"


def test_session_is_usable_from_many_threads(session: Session) -> None:
    session.execute("seen = []")
    threads = [threading.Thread(target=session.execute, args=(f"seen.append({n})",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.execute("sorted(seen)").text == str(list(range(8)))


def test_stream_close_interrupts_the_cell(session: Session) -> None:
    stream = session.stream("import time\nprint('on', flush=True)\ntime.sleep(60)")
    next(stream)
    started = time.perf_counter()
    stream.close()
    assert time.perf_counter() - started < 2
    assert stream.execution is not None
    assert stream.execution.status == "error"
    assert session.execute("1 + 1").text == "2"


CTRL_C = """
from kernel_sandbox import Session
with Session(image="python") as session:
    session.execute("import time; kept = 1")
    print("ready", flush=True)
    try:
        session.execute("time.sleep(60)")
    except KeyboardInterrupt:
        print(session.execute("kept").text, session.transcript.notebook.cells[1].outputs[0].ename, flush=True)
"""


def test_ctrl_c_interrupts_the_cell_and_keeps_the_session(engine: str) -> None:
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.kill(script.pid, signal.SIGINT)
        assert script.stdout.readline() == "1 KeyboardInterrupt\n"
        assert script.wait(20) == 0


INHERITED = """
import asyncio, os, anyio
from kernel_sandbox.host.reactor import on_reactor

async def ask() -> None:
    for _ in range(3000):
        await on_reactor(anyio.sleep, 0)

async def await_end(child: int) -> int:
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        await asyncio.sleep(0.1)
    return ended[1]

loop = asyncio.new_event_loop()
loop.run_until_complete(on_reactor(anyio.sleep, 0))
if not (child := os.fork()):
    loop.run_until_complete(ask())
    os._exit(0)
print(loop.run_until_complete(await_end(child)))
"""


def test_forked_child_with_its_parents_loop_misses_no_result() -> None:
    with subprocess.Popen([sys.executable, "-c", INHERITED], stdout=-1, text=True, start_new_session=True) as process:
        try:
            assert process.communicate(timeout=30)[0] == "0\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
