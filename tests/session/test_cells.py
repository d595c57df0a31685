"""What became of a cell: given up, restarted, cut off, empty; beside another client of the same kernel."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_sandbox import (
    AsyncSession,
    CellError,
    ErrorOutput,
    Execution,
    KernelDied,
    Limits,
    SandboxError,
    SandboxLost,
    Session,
    SessionClosed,
    VariableError,
)
from kernel_sandbox.session.messages import Message

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def open_session(engine: str, **limits: Any) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine=engine, image="python", limits=Limits(**limits)) as session:
        await session.execute("import time; ran = []")
        yield session


def saved_cells(session: Session | AsyncSession) -> list[dict[str, Any]]:
    return list(json.loads(session.transcript.to_bytes())["cells"])


async def heard(session: AsyncSession, text: str, source: str, **options: Any) -> asyncio.Task[Execution]:
    """Begin a cell, and return when it has printed `text`."""
    printed = asyncio.Event()

    async def drain() -> Execution:
        stream = session.stream(source, **options)
        async for event in stream:
            if text in getattr(event, "text", ""):
                printed.set()
        assert stream.execution is not None
        return stream.execution

    task = asyncio.create_task(drain())
    await printed.wait()
    return task


async def test_cell_given_up_while_it_waits_never_runs(engine: str) -> None:
    async with open_session(engine) as session:
        running = await heard(session, "go", "print('go', flush=True); time.sleep(1); ran.append('A')")
        waiting = asyncio.create_task(session.execute("ran.append('B')"))
        await asyncio.sleep(0)
        began = time.perf_counter()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.perf_counter() - began < 0.5  # not after the other one's end
        assert (await running).status == "ok"
        after = await session.execute("ran")
        assert after.text == "['A']"
        assert after.duration < 0.5
        cells = saved_cells(session)[1:]
        assert ["".join(cell["source"]).rpartition(".")[2] for cell in cells] == ["append('A')", "append('B')", "ran"]
        assert "before it ran" in str(cells[1]["outputs"])


async def test_waiting_cell_that_is_closed_has_an_execution_that_says_no(engine: str) -> None:
    async with open_session(engine) as session:
        running = await heard(session, "go", "print('go', flush=True); time.sleep(0.5)")
        stream = session.stream("ran.append('C')")
        assert stream.is_waiting
        await stream.aclose()
        assert stream.execution is not None
        assert (stream.execution.status, stream.execution.ran, stream.execution.kept) == ("aborted", "no", "all")
        await running
        assert (await session.execute("ran")).text == "[]"


async def test_result_of_a_cell_is_there_when_it_has_ended(engine: str) -> None:
    async with open_session(engine) as session:
        stream = session.stream("6 * 7")
        with pytest.raises(SandboxError, match="not ended yet"):
            stream.result()
        async for _ in stream:
            pass
        assert (stream.result().text, stream.result()) == ("42", stream.execution)


async def test_running_cell_that_is_cancelled_is_interrupted(engine: str) -> None:
    async with open_session(engine) as session:
        source = "ran.append(1); open('/mnt/data/begun', 'w').close(); time.sleep(60); ran.append(2)"
        task = asyncio.create_task(session.execute(source))
        while not await session.files.list():
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = session.stream("print('go', flush=True); time.sleep(60); ran.append(3)")
        assert await anext(stream)
        await stream.aclose()
        assert stream.execution is not None
        assert (stream.execution.status, stream.execution.ran, stream.execution.kept) == ("error", "began", "all")
        assert (await session.execute("ran")).text == "[1]"


async def test_request_that_is_cancelled_as_its_reply_comes_is_cancelled(engine: str) -> None:
    async with open_session(engine) as session:
        asking = asyncio.create_task(session.request("kernel_info_request", {}))
        channels = session._kernel.channels
        assert channels is not None
        while not channels._asked:
            await asyncio.sleep(0)
        identifier, answered = list(channels._handlers.items())[-1]

        def answered_and_cancelled(channel: str, message: Message) -> None:
            answered(channel, message)
            if channel == "shell":
                asking.cancel()

        channels._handlers[identifier] = answered_and_cancelled
        with pytest.raises(asyncio.CancelledError):
            await asking


# Two clients of one kernel


@pytest.fixture
def other(engine: str) -> Iterator[tuple[Session, BlockingKernelClient]]:
    with Session(engine=engine, image="python", limits=Limits(interrupt_grace=0.5)) as session:
        session.execute("import time; ran = []")
        client = BlockingKernelClient(connection_file=str(session.connection_file))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=20)
            yield session, client
        finally:
            client.stop_channels()


def begun(client: BlockingKernelClient, source: str) -> str:
    """Send another client's cell, and return its id when it has printed its first line."""
    request = client.execute(source)
    while True:
        message = client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            return str(request)


def test_output_of_another_client_stays_out_of_the_session(other: tuple[Session, BlockingKernelClient]) -> None:
    session, client = other
    begun(client, "for i in range(4): print('theirs', i, flush=True); time.sleep(0.1)")
    assert session.execute("print('mine')").text == "mine\n"
    client.execute_interactive("print('theirs again')", timeout=20, output_hook=lambda message: None)
    assert "theirs" not in session.transcript.to_bytes().decode()


def test_cell_behind_another_client_keeps_its_time(other: tuple[Session, BlockingKernelClient]) -> None:
    session, client = other
    request = begun(client, "print('go', flush=True); time.sleep(2); ran.append('theirs')")
    execution = session.execute("ran.append('mine'); ran", timeout=1)
    assert (execution.status, execution.ran, execution.text) == ("ok", "whole", "['theirs', 'mine']")
    assert execution.duration < 1
    assert client.get_shell_msg(timeout=20)["parent_header"]["msg_id"] == request


def test_cell_given_up_behind_another_client_never_comes_to_its_effect(
    other: tuple[Session, BlockingKernelClient],
) -> None:
    session, client = other
    begun(client, "print('go', flush=True); time.sleep(1); ran.append('theirs')")
    stream = session.stream("time.sleep(5); ran.append('mine')")
    stream.close()
    assert stream.execution is not None
    assert stream.execution.ran in ("no", "began")  # "began" where it was sent in the race
    assert client.get_shell_msg(timeout=20)["content"]["status"] == "ok"  # nobody interrupted it
    assert session.execute("ran").text == "['theirs']"


def test_interrupt_behind_another_client_leaves_that_one_alone(other: tuple[Session, BlockingKernelClient]) -> None:
    session, client = other
    begun(client, "print('go', flush=True); time.sleep(1); ran.append('theirs')")
    stream = session.stream("time.sleep(5); ran.append('mine')")
    session.interrupt()
    assert client.get_shell_msg(timeout=20)["content"]["status"] == "ok"
    list(stream)
    assert stream.execution is not None
    assert stream.execution.status in ("aborted", "error")
    assert session.execute("ran").text == "['theirs']"


def test_cell_in_the_race_is_interrupted_at_its_own_beginning(other: tuple[Session, BlockingKernelClient]) -> None:
    """Both of another client's cells wait in the kernel already when the session's is sent between them."""
    session, client = other
    begun(client, "print('go', flush=True); time.sleep(1); ran.append(1)")
    client.execute("time.sleep(1); ran.append(2)")
    stream = session.stream("ran.append(3); time.sleep(60); ran.append(4)", timeout=1)
    events = list(stream)
    assert events
    assert stream.execution is not None
    assert (stream.execution.status, stream.execution.ran) == ("timeout", "began")
    assert 0.9 < stream.execution.duration < 2
    assert [client.get_shell_msg(timeout=20)["content"]["status"] for _ in range(2)] == ["ok", "ok"]
    assert session.execute("ran").text == "[1, 2, 3]"


def test_kernel_that_names_a_client_that_is_not_there_is_not_believed(engine: str) -> None:
    """Otherwise no cell would be sent any more, nor run out of its time."""
    forge = (
        "session, socket = get_ipython().kernel.session, get_ipython().kernel.iopub_socket\n"
        "parent = {'header': {'msg_id': 'f' * 32, 'msg_type': 'execute_request'}}\n"
        "session.send(socket, 'status', {'execution_state': 'busy'}, parent=parent)"
    )
    with Session(engine=engine, image="python") as session:
        session.execute(forge).raise_for_error()
        assert session.execute("6 * 7", timeout=5).text == "42"


def test_kernel_that_cuts_its_own_client_off_has_no_other_one(engine: str) -> None:
    """The session's client connects again: that counts as no second one, which the kernel could be busy for."""
    cut = """
import os, socket, threading
def cut():
    for name in os.listdir("/proc/self/fd"):
        try:
            one = socket.socket(fileno=os.dup(int(name)))
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if one.family == socket.AF_UNIX and str(one.getsockname()).endswith("s-1") and not listens:
                one.shutdown(2)
        except OSError:
            pass
threading.Timer(0.3, cut).start()
"""
    forge = (
        "kernel, parent = get_ipython().kernel, {'header': {'msg_id': 'f' * 32, 'msg_type': 'execute_request'}}\n"
        "kernel.session.send(kernel.iopub_socket, 'status', {'execution_state': 'busy'}, parent=parent)"
    )
    with Session(engine=engine, image="python") as session:
        session.execute(cut).raise_for_error()
        session.execute("import time; time.sleep(1)", timeout=5)  # its reply may be lost with the connection
        session.execute(forge, timeout=5).raise_for_error()
        assert session.execute("6 * 7", timeout=5).text == "42"


def test_states_of_clients_that_are_not_there_put_no_time_limit_off(engine: str) -> None:
    quiet = """
import threading, time
kernel = get_ipython().kernel
socket, send = kernel.iopub_socket, kernel.session.send
def forge():
    for i in range(60):
        parent = {"header": {"msg_id": f"f{i}", "msg_type": "execute_request"}}
        send(socket, "status", {"execution_state": "idle"}, parent=parent)
        time.sleep(0.25)
threading.Thread(target=forge).start()
def without_states(stream, kind, *rest, **named):
    return None if kind == "status" else send(stream, kind, *rest, **named)
kernel.session.send = without_states
"""
    with Session(engine=engine, image="python") as session:
        session.execute(quiet)
        started = time.monotonic()
        assert session.execute("time.sleep(30)", timeout=1).status == "timeout"
        assert time.monotonic() - started < 10


# Restarts, deaths and limits


async def test_restart_tells_what_ran_and_what_is_kept(engine: str) -> None:
    async with open_session(engine) as session:
        running = await heard(
            session, "go", "open('/mnt/data/a', 'w').close(); print('go', flush=True); time.sleep(60)"
        )
        waiting = asyncio.create_task(session.execute("1"))
        await asyncio.sleep(0)
        await session.restart()
        ran, never = await running, await waiting
        assert (ran.status, ran.ran, ran.kept) == ("aborted", "began", "files")
        assert (never.status, never.ran, never.kept) == ("aborted", "no", "files")
        with pytest.raises(CellError) as caught:
            ran.raise_for_error()
        assert "did not run" not in str(caught.value)
        assert "Send it again" not in str(caught.value)
        assert (session.generation, session.restarted_because) == (2, "The kernel was restarted.")
        assert [info.name for info in await session.files.list()] == ["a"]
        outcomes = [cell["metadata"].get("kernel_sandbox") for cell in saved_cells(session)]
        assert outcomes == [None, *({"status": "aborted", "ran": how, "kept": "files"} for how in ("began", "no"))]


async def stopped(session: AsyncSession) -> None:
    """Stop the kernel's process, so that it answers nothing."""
    stop = "import os, signal, threading\nthreading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()"
    (await session.execute(stop)).raise_for_error()
    while await session.request("kernel_info_request", {}, timeout=0.5) is not None:
        pass


async def test_cell_of_which_nothing_was_heard_may_have_run(engine: str) -> None:
    async with open_session(engine) as session:
        await stopped(session)
        sent = asyncio.create_task(session.execute("ran.append(1)"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(session.execute("ran.append(2)"))
        await asyncio.sleep(0)
        await session.restart()
        assert [(each.status, each.ran, each.kept) for each in (await sent, await waiting)] == [
            ("aborted", "unknown", "files"),
            ("aborted", "no", "files"),
        ]


async def test_restart_whose_call_is_cancelled_goes_on(engine: str) -> None:
    async with open_session(engine) as session:
        await session.files.write("kept.txt", "here")
        for delay in (0.0, 0.02, 0.1):
            restart = asyncio.create_task(session.restart())
            await asyncio.sleep(delay)
            restart.cancel()
            await asyncio.wait([restart])
            first = await session.execute("'ran' in globals(), open('kept.txt').read()")
            assert (first.status, first.text, session.death) == ("ok", "(False, 'here')", None)


async def test_restart_after_an_interrupt_that_changed_nothing_is_one_restart(engine: str) -> None:
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('go', flush=True)\nwhile True: pass"
    async with AsyncSession(engine=engine, image="python", limits=Limits(interrupt_grace=10)) as session:
        running = await heard(session, "go", deaf)
        await session.interrupt()
        began = time.perf_counter()
        await session.restart()
        assert time.perf_counter() - began < 8
        assert (session.generation, session.restarted_because) == (2, "The kernel was restarted.")
        ended = await running
        assert (ended.status, ended.ran, ended.kept) == ("aborted", "began", "files")


async def test_restart_and_close_do_not_wait_for_a_variable(engine: str) -> None:
    async with open_session(engine) as session:
        for end in (session.restart, session.aclose):
            (await session.execute("x = 1")).raise_for_error()
            await stopped(session)
            fetching = asyncio.create_task(session.get("x"))
            await asyncio.sleep(0.5)
            async with asyncio.timeout(15):
                await end()
                with pytest.raises((VariableError, SessionClosed)):
                    await fetching


async def test_cancelled_fetch_says_that_it_was_cancelled_also_in_a_closed_session(engine: str) -> None:
    async with open_session(engine) as session:
        await stopped(session)
        fetching = asyncio.create_task(session.get("ran"))
        await asyncio.sleep(0.3)
        fetching.cancel()
        await session.aclose()
        with pytest.raises(asyncio.CancelledError):
            await fetching


async def test_session_that_is_closed_while_it_restarts_stays_closed(engine: str) -> None:
    async with open_session(engine) as session:
        restart = asyncio.create_task(session.restart())
        await asyncio.sleep(0.01)
        await session.aclose()
        await asyncio.wait([restart])
        with pytest.raises(SessionClosed):
            await session.execute("1")


async def test_outputs_that_are_read_slowly_all_come(engine: str) -> None:
    """The reply, which overtakes them, does not end the cell before."""
    async with AsyncSession(engine=engine, image="python") as session:
        stream = session.stream("for i in range(400): display(i)")
        async for _ in stream:
            time.sleep(0.02)  # noqa: ASYNC251 - the caller's own work, in the same loop
        assert stream.execution is not None
        assert len(stream.execution.outputs) == 400


async def test_restart_tells_what_this_one_has_left_and_not_an_earlier_one() -> None:
    async with open_session("docker") as session:
        await killed(session)
        while session.death is None:
            await asyncio.sleep(0.05)
        await session.restart()
        assert session.kept_by_restart == "nothing"
        await session.files.write("kept.txt", "here")
        running = await heard(session, "go", "print('go', flush=True); import time; time.sleep(60)")
        waiting = asyncio.create_task(session.execute("1"))
        await asyncio.sleep(0)
        await session.restart()
        assert [info.name for info in await session.files.list()] == ["kept.txt"]
        assert [(each.ran, each.kept) for each in (await running, await waiting)] == [
            ("began", "files"),
            ("no", "files"),
        ]


def test_death_tells_what_ran_and_what_is_kept(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        died = session.execute("print('last', flush=True); import os; os._exit(3)")
        assert (died.status, died.ran, died.kept) == ("dead", "began", "files")
        after = session.execute("1")
        assert (after.status, after.ran, after.kept) == ("dead", "no", "files")
        with pytest.raises(KernelDied):
            after.raise_for_error()
        session.restart()
        assert "exited with status 3" in (session.restarted_because or "")


async def killed(session: AsyncSession) -> None:
    """Kill a session's container."""
    from kernel_sandbox.sandbox.engines.docker_client import connect

    label = f"org.kernel-sandbox.session={session.id}"
    (container,) = await asyncio.to_thread(lambda: connect().containers.list(filters={"label": label}))
    await asyncio.to_thread(container.kill)


async def test_sandbox_that_is_lost_keeps_nothing() -> None:
    async with open_session("docker") as session:
        running = await heard(session, "go", "print('go', flush=True); time.sleep(60)")
        await killed(session)
        lost = await running
        assert (lost.status, lost.ran, lost.kept) == ("dead", "began", "nothing")
        with pytest.raises(SandboxLost):
            lost.raise_for_error()


def test_error_ran_whole_and_interrupt_ran_in_part(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(interrupt_grace=1)) as session:
        failed = session.execute("x = 1\n1/0")
        assert (failed.status, failed.ran, failed.kept) == ("error", "whole", "all")
        late = session.execute("while True: pass", timeout=0.5)
        assert (late.status, late.ran, late.kept) == ("timeout", "began", "all")
        assert session.execute("x").text == "1"


def test_kernel_that_does_not_answer_after_an_interrupt_is_not_said_to_keep_variables(engine: str) -> None:
    """As where C code is interrupted while it holds a lock: the cell ends, and the next one would hang."""
    stuck = (
        "import asyncio, threading, time\n"
        "def hang():\n"
        "    while True:\n"
        "        try: threading.Event().wait()\n"
        "        except KeyboardInterrupt: pass\n"
        "try: time.sleep(60)\n"
        "finally: asyncio.get_running_loop().call_soon(hang)"
    )
    with Session(engine=engine, image="python", limits=Limits(interrupt_grace=0.7)) as session:
        session.files.write("kept.txt", "here")
        execution = session.execute(f"x = 1\n{stuck}", timeout=1)
        assert (execution.status, execution.ran, execution.kept) == ("timeout", "began", "files")
        assert session.execute("open('kept.txt').read(), 'x' in globals()", timeout=9).text == "('here', False)"


def error_names(execution: Execution) -> list[str]:
    return [output.ename for output in execution.outputs if isinstance(output, ErrorOutput)]


def test_interrupt_between_a_cell_and_its_reply_costs_nothing(engine: str) -> None:
    late = """
import sys, types
def flush():
    sys.stdout = out
    raise KeyboardInterrupt
out, sys.stdout, x = sys.stdout, types.SimpleNamespace(flush=flush, write=sys.stdout.write), 1
"""
    with Session(engine=engine, image="python") as session:
        execution = session.execute(late, timeout=30)
        assert (execution.status, execution.ran, execution.kept) == ("error", "began", "all")
        assert error_names(execution) == ["KeyboardInterrupt"]
        assert session.execute("x").text == "1"


def test_cell_that_gets_no_reply_ends_once_the_kernel_is_idle(engine: str) -> None:
    lost = """
session = get_ipython().kernel.session
send, x = session.send, 1
def lose(stream, kind, *rest, **named):
    if kind != "execute_reply": return send(stream, kind, *rest, **named)
    session.send = send
    return {"content": rest[0]}
session.send = lose
"""
    with Session(engine=engine, image="python") as session:
        started = time.monotonic()
        execution = session.execute(lost, timeout=60)
        assert time.monotonic() - started < 30
        assert (execution.status, execution.ran, execution.kept) == ("error", "began", "all")
        assert error_names(execution) == ["NoReply"]
        assert session.execute("x").text == "1"


def test_kernel_that_reads_no_descriptors_runs_cells(engine: str) -> None:
    """ipykernel leaves them alone where pytest runs a test, as in a session that runs a user's tests."""
    with Session(engine=engine, image="python", env={"PYTEST_CURRENT_TEST": "test_it (call)"}) as session:
        assert session.execute("print('shown'); 6 * 7").text == "shown\n42"


async def test_interrupts_at_any_time_lose_no_cell(engine: str) -> None:
    """Wherever it strikes, from a cell's sending on, an interrupt ends the cell, and variables are kept."""
    async with AsyncSession(engine=engine, image="python") as session:
        await session.execute("import time; x = 1")
        for n in range(60):
            cell = asyncio.create_task(session.execute("time.sleep(60)", timeout=50))
            await asyncio.sleep(n * 0.0001)
            while not cell.done():
                await session.interrupt()
                await asyncio.wait([cell], timeout=0.3)
            assert (await cell).status in ("error", "aborted")
        assert (await session.execute("x")).text == "1"


def test_cell_has_all_that_its_processes_wrote(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        for _ in range(60):
            assert session.execute("import os; _ = os.system('seq 3000; echo last')").text.endswith("\nlast\n")


def test_cell_error_carries_the_last_frames(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        failed = session.execute("def divide(a, b):\n    return a / b\n\ndivide(1, 0)")
        with pytest.raises(CellError) as caught:
            failed.raise_for_error()
        lines = str(caught.value).split("\n")
        assert lines[0] == "ZeroDivisionError: division by zero"
        assert any("return a / b" in line for line in lines)
        assert "\x1b" not in str(caught.value)
        session.execute("class Odd(Exception): pass\nOdd.__module__ = 'a\\x1b[31m'")
        with pytest.raises(CellError) as caught:
            session.execute("raise Odd('x' * 100_000 + '\\x1b]0;title\\x07')").raise_for_error()
        assert len(str(caught.value)) < 5000
        assert "\x1b" not in str(caught.value)


def test_empty_cell_is_not_sent_and_takes_no_number(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        numbers = [session.execute(source).execution_count for source in ("1", "", "  \n\t", "# only a comment", "2")]
        assert numbers == [1, None, None, 2, 3]
        assert [cell["execution_count"] for cell in saved_cells(session)] == numbers
        empty = session.execute("")
        assert (empty.status, empty.outputs, empty.ran, empty.kept) == ("ok", (), "whole", "all")


def test_cell_is_transformed_once_and_by_what_is_registered_now(session: Session) -> None:
    """ipykernel transforms a cell to see whether it awaits, and IPython again to run it."""
    register = "seen = []\ndef note(lines): seen.append(len(lines)); return lines\n"
    session.execute(f"{register}get_ipython().input_transformers_cleanup.append(note)").raise_for_error()
    session.execute("1\n2").raise_for_error()
    session.execute("import asyncio\n\nawait asyncio.sleep(0)").raise_for_error()
    assert session.execute("seen").text == "[2, 3, 1]"
    swap = "def swap(lines): return [line.replace('ONE', '1') for line in lines]\n"
    session.execute(f"{swap}get_ipython().input_transformers_cleanup.append(swap)").raise_for_error()
    assert session.execute("ONE + 1").text == "2"
    assert session.execute("get_ipython().transform_cell('ONE')").text == repr("1\n")
