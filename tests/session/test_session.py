from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kernel_sandbox import (
    AsyncSession,
    CellError,
    CellTimeout,
    KernelDied,
    Limits,
    OutOfMemory,
    PolicyError,
    SandboxLost,
    Session,
    SessionClosed,
)
from kernel_sandbox.sandbox.engines.docker_client import connect


def test_session_keeps_state_between_cells(session: Session) -> None:
    assert session.execute("x = 20").status == "ok"
    execution = session.execute("print('so', x)\nx + 1")
    assert [output.output_type for output in execution.outputs] == ["stream", "execute_result"]
    assert execution.text == "so 20\n21"
    assert execution.result == {"text/plain": "21"}
    assert execution.execution_count == 2
    assert 0 < execution.duration < 5


def test_session_streams_outputs_before_the_cell_ends(session: Session) -> None:
    arrivals = []
    stream = session.stream("import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.3)")
    for event in stream:
        arrivals.append((event.text, time.perf_counter()))  # type: ignore[union-attr]
    assert [text for text, _ in arrivals] == ["0\n", "1\n", "2\n"]
    assert arrivals[2][1] - arrivals[0][1] > 0.4
    assert stream.execution is not None
    assert stream.execution.text == "0\n1\n2\n"


def test_session_error_keeps_what_was_printed_before(session: Session) -> None:
    execution = session.execute("print('before')\n1/0")
    assert execution.status == "error"
    assert execution.text.startswith("before\n")
    assert execution.error is not None
    assert (execution.error.ename, execution.error.evalue) == ("ZeroDivisionError", "division by zero")
    with pytest.raises(CellError, match="ZeroDivisionError: division by zero") as caught:
        execution.raise_for_error()
    assert caught.value.execution is execution


def test_session_error_without_an_error_message_is_still_one(session: Session) -> None:
    execution = session.execute("%no_such_magic")
    assert execution.status == "error"
    assert execution.error is not None
    assert "no_such_magic" in execution.error.evalue


def test_cell_times_out_on_time_with_its_output_and_the_next_is_ok(session: Session) -> None:
    started = time.perf_counter()
    drip = "import time\nfor i in range(6):\n    print(i, flush=True)\n    time.sleep(1)"
    execution = session.execute(drip, timeout=3.5)
    assert 3.5 <= time.perf_counter() - started < 4
    assert execution.status == "timeout"
    assert execution.text.startswith("0\n1\n2\n3\n")
    assert execution.error is not None
    assert execution.error.ename == "CellTimeout"
    assert "variables are kept" in execution.error.evalue
    with pytest.raises(CellTimeout):
        execution.raise_for_error()
    assert session.execute("i").text == "3"


@pytest.mark.parametrize(
    "endless",
    [
        "while True: pass",
        "import asyncio; await asyncio.sleep(60)",
        "import subprocess; subprocess.run(['sleep', '60'])",
    ],
    ids=["busy", "await", "subprocess"],
)
def test_cell_can_be_interrupted_whatever_it_waits_for(session: Session, endless: str) -> None:
    timer = threading.Timer(0.5, session.interrupt)
    timer.start()
    started = time.perf_counter()
    execution = session.execute(f"kept = 1\n{endless}")
    assert time.perf_counter() - started < 2
    assert execution.status == "error"
    assert execution.error is not None
    assert execution.error.ename in ("KeyboardInterrupt", "CancelledError")
    assert session.execute("kept").text == "1"


def raise_value_error(prompt: str, password: bool) -> str:
    raise ValueError("no terminal")


@pytest.mark.parametrize(
    ("handler", "why"), [(raise_value_error, "ValueError: no terminal"), (lambda *_: None, "returned NoneType")]
)
def test_input_handler_that_fails_ends_its_cell(engine: str, handler: Any, why: str) -> None:
    with Session(engine=engine, image="python", input_handler=handler) as session:
        execution = session.execute("kept = 1; kept = input()", timeout=60)
        assert (execution.status, execution.ran, execution.kept) == ("error", "began", "all")
        assert execution.error is not None
        assert execution.error.ename == "InputHandlerFailed"
        assert why in str(execution.cause)
        assert execution.duration < 20
        assert session.execute("kept").text == "1"


@pytest.mark.anyio
async def test_input_handler_may_return_what_is_awaited(engine: str) -> None:
    async def later(prompt: str) -> str:
        return prompt + "!"

    async with AsyncSession(engine=engine, image="python", input_handler=lambda prompt, _: later(prompt)) as session:
        assert (await session.execute("input('who')")).text == "'who!'"


def test_cell_that_refuses_to_stop_ends_with_a_restart_that_is_told(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(interrupt_grace=0.5)) as session:
        session.files.write("kept.txt", "here")
        stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
        execution = session.execute(stubborn, timeout=1)
        assert execution.status == "timeout"
        assert execution.error is not None
        assert "the kernel was restarted. Variables are lost, files" in execution.error.evalue
        assert (execution.ran, execution.kept) == ("began", "files")
        assert session.execute("open('kept.txt').read()").text == "'here'"


DEATHS = {
    "exit": (
        "import os; print('last words', flush=True); time.sleep(0.1); os._exit(1)",
        KernelDied,
        "exited with status 1",
    ),
    "segfault": ("import ctypes; ctypes.string_at(0)", KernelDied, "SIGSEGV"),
    "memory": ("hoard = []\nwhile True: hoard.append(bytearray(20_000_000))", OutOfMemory, "1 GB of memory"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_kernel_death_is_named_at_once_and_restart_mends_it(engine: str, death: str) -> None:
    source, kind, words = DEATHS[death]
    limits = Limits(memory="1g")
    with Session(engine=engine, image="python", limits=limits) as session:
        session.files.write("kept.txt", "here")
        died = session.execute(f"import time, faulthandler\n{source}")
        assert died.status == "dead"
        assert died.error is not None
        assert died.error.ename == kind.__name__
        assert words in died.error.evalue
        assert "files under /mnt/data are kept" in died.error.evalue
        with pytest.raises(kind):
            died.raise_for_error()
        assert session.execute("1").status == "dead"
        session.restart()
        assert session.execute("open('kept.txt').read()").text == "'here'"


@pytest.mark.parametrize("source", [DEATHS["exit"][0], DEATHS["segfault"][0]], ids=["exit", "segfault"])
def test_kernel_death_is_detected_within_a_second(session: Session, source: str) -> None:
    session.execute("import os, ctypes, time")
    assert session.execute(source).duration < 1


def test_kernel_death_keeps_its_last_words(session: Session) -> None:
    session.execute("import time")
    assert session.execute(DEATHS["exit"][0]).text.startswith("last words\n")


def test_sandbox_killed_from_outside_is_told_as_lost() -> None:
    with Session(engine="docker", image="python") as session:
        (container,) = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={session.id}"})
        killed: list[float] = []

        def kill() -> None:
            killed.append(time.perf_counter())
            container.kill()

        threading.Timer(0.3, kill).start()
        execution = session.execute("import time; time.sleep(60)")
        assert time.perf_counter() - killed[0] < 1
        assert execution.status == "dead"
        assert execution.error is not None
        assert execution.error.ename == "SandboxLost"
        with pytest.raises(SandboxLost, match=r"files are lost"):
            session.files.list()
        session.restart()
        assert session.execute("1 + 1").text == "2"


def test_restart_forgets_variables_keeps_files_and_leaves_no_process(session: Session) -> None:
    session.files.write("kept.txt", "here")
    before = session.usage().processes
    session.execute("import subprocess, os\nsecret = 1\nopen('/tmp/trace', 'w').close()")
    session.execute("for _ in range(5): subprocess.Popen(['sleep', '600'], start_new_session=True)")
    assert session.usage().processes == before + 5
    session.restart()
    assert session.usage().processes == before
    assert session.execute("secret").status == "error"
    assert (
        session.execute("import os; sorted(os.listdir('/mnt/data')), os.listdir('/tmp')").text == "(['kept.txt'], [])"
    )


def test_restart_outruns_a_fork_bomb(session: Session) -> None:
    session.stream("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    deadline = time.monotonic() + 20
    while session.usage().processes < 100 and time.monotonic() < deadline:
        pass
    session.restart()
    assert session.usage().processes <= 4
    assert session.execute("1 + 1").text == "2"


def test_restart_aborts_the_cells_that_run_or_wait(session: Session) -> None:
    running = session.stream("import time; time.sleep(60)")
    waiting = session.stream("1")
    session.restart()
    assert [list(stream) and stream.execution and stream.execution.status for stream in (running, waiting)] == [
        "aborted",
        "aborted",
    ]
    assert session.execute("'fresh'").text == "'fresh'"


def test_zygote_that_a_cell_killed_is_replaced(session: Session) -> None:
    others = "[int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]"
    assert session.execute(f"import os, signal\nfor p in {others}: os.kill(p, signal.SIGKILL)").status == "ok"
    session.restart()
    assert session.execute("1 + 1").text == "2"


def test_input_is_refused_with_the_way_out(session: Session) -> None:
    execution = session.execute("input('name? ')")
    assert execution.error is not None
    assert "input() is refused" in execution.error.evalue
    assert "input handler" in execution.error.evalue


def test_input_goes_to_the_handler(engine: str) -> None:
    asked = []

    def answer(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return "Ada"

    with Session(engine=engine, image="python", input_handler=answer) as session:
        assert session.execute("'Hello ' + input('name? ')").text == "'Hello Ada'"
        assert session.execute("import getpass; getpass.getpass('key? ')").text == "'Ada'"
    assert asked == [("name? ", False), ("key? ", True)]


def test_exit_does_not_end_the_kernel(session: Session) -> None:
    session.execute("kept = 1")
    assert session.execute("exit()").status == "error"
    assert session.execute("kept").text == "1"


def test_display_updates_reach_earlier_cells(session: Session) -> None:
    session.execute("from IPython.display import display\nhandle = display('first', display_id='d')")
    session.execute("handle.update('second')")
    cells = session.transcript.notebook.cells
    assert cells[0].outputs[0].data["text/plain"] == "'second'"


def test_output_of_a_task_joins_the_cell_that_started_it(session: Session) -> None:
    task = "import asyncio\nasync def later():\n    await asyncio.sleep(0.2)\n    print('late')\n"
    session.execute(task + "t = asyncio.create_task(later())")
    session.execute("await asyncio.sleep(0.6)")
    first, second = session.transcript.notebook.cells
    assert [output.text for output in first.outputs] == ["late\n"]
    assert second.outputs == []


def test_output_past_the_cap_is_cut_with_a_marker_and_the_code_runs_on(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(output_bytes="10k")) as session:
        execution = session.execute("for i in range(10_000): print('line', i)\ndone = True")
        assert execution.status == "ok"
        assert len(execution.text) < 12_000
        assert "output cut here" in execution.text
        assert session.execute("done").text == "True"


def test_output_past_the_cap_interrupts_where_the_limits_say_so(engine: str) -> None:
    limits = Limits(output_bytes="10k", on_output_limit="interrupt")
    with Session(engine=engine, image="python", limits=limits) as session:
        execution = session.execute("i = 0\nwhile True:\n    i += 1\n    print('line', i)")
        assert execution.status == "error"
        assert execution.error is not None
        assert execution.error.ename == "OutputLimit"
        assert session.execute("i > 0").text == "True"


def test_two_hundred_thousand_lines_arrive_whole(session: Session) -> None:
    execution = session.execute("for i in range(200_000): print(i)")
    assert execution.text == "".join(f"{i}\n" for i in range(200_000))


def test_source_that_is_not_unicode_is_sent_repaired(session: Session) -> None:
    assert session.execute("'\udc80'").text == "'?'"


def test_message_ids_cannot_be_predicted(session: Session) -> None:
    look = "get_ipython().kernel.get_parent()['header']['msg_id']"
    first, second = (session.execute(look).text.strip("'") for _ in range(2))
    assert len(first) == len(second) == 32
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 16


@pytest.mark.anyio
async def test_dead_kernel_is_restarted_once_for_all_who_find_it_dead(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        await session.execute("kept = 1")
        await session.restart_if_dead()
        assert (await session.execute("kept")).text == "1"
        assert (await session.execute("import os; os._exit(3)")).status == "dead"
        await asyncio.gather(*(session.restart_if_dead() for _ in range(5)))
        assert session.generation == 2
        assert session.restarted_because == "The kernel exited with status 3."
        assert (await session.execute("'kept' in globals()")).text == "False"


@pytest.mark.anyio
async def test_cancelled_execute_interrupts_its_cell(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        running = asyncio.ensure_future(session.execute("import time\nfor i in range(100): time.sleep(0.1)"))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await session.execute("i < 50")).text == "True"


@pytest.mark.anyio
async def test_cells_run_in_the_order_of_their_calls(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        await session.execute("seen = []")
        await asyncio.gather(*(session.execute(f"seen.append({n})") for n in range(20)))
        assert (await session.execute("seen == list(range(20))")).text == "True"


def test_session_that_is_not_open_raises(engine: str) -> None:
    session = Session(engine=engine, image="python")
    uses: dict[str, Callable[[], object]] = {
        "execute": lambda: session.execute("1"),
        "empty": lambda: session.execute(""),
        "stream": lambda: session.stream("1"),
        "interrupt": lambda: session.interrupt(),
        "restart": lambda: session.restart(),
        "restart_if_dead": lambda: session.restart_if_dead(),
        "list": lambda: session.files.list(),
        "usage": lambda: session.usage(),
        "request": lambda: session.request("kernel_info_request", {}),
        "connection_file": lambda: session.connection_file,
    }
    for use in uses.values():
        with pytest.raises(SessionClosed, match="not open"):
            use()
    with session:
        session.execute("1").raise_for_error()
    for use in uses.values():
        with pytest.raises(SessionClosed, match="closed"):
            use()
    assert session.transcript.sources == ("1",)


def test_session_refuses_spec_and_fields_together() -> None:
    from kernel_sandbox import SandboxSpec

    with pytest.raises(PolicyError, match="either spec or image"):
        Session(spec=SandboxSpec(), image="python")
