"""`run_command`: a shell command in a session, with its output, its exit status and its time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kernel_sandbox import (
    AsyncSession,
    CommandResult,
    Limits,
    PoolSettings,
    SandboxSpec,
    Session,
    SessionClosed,
    SessionPool,
)


def test_command_gives_both_streams_and_its_exit_status(session: Session) -> None:
    result = session.run_command("echo out; echo err >&2; exit 3")
    assert isinstance(result, CommandResult)
    assert (result.stdout, result.stderr, result.exit_status) == ("out\n", "err\n", 3)
    assert (result.ran, result.kept) == ("whole", "all")
    assert 0 < result.duration < 20
    assert session.run_command("kill -9 $$").exit_status == 128 + 9
    assert session.run_command(["no-such-program"]).exit_status == 127


def test_repr_of_a_result_is_short_and_hides_nothing(session: Session) -> None:
    result = session.run_command("printf 'a\\u202eb\\n'; yes x | head -c 1000; echo err >&2; exit 3")
    assert repr(result).startswith(r"<CommandResult: exit status 3, stdout 'a\u202eb\nx\nx\nx")
    assert repr(result).endswith(r"…', stderr 'err\n'>")
    assert len(repr(result)) < 300
    assert repr(session.run_command("true")) == "<CommandResult: exit status 0>"


def test_command_as_words_has_no_shell(session: Session) -> None:
    assert session.run_command(["printf", "%s|", "a b", "$HOME", "`id`"]).stdout == "a b|$HOME|`id`|"


def test_command_is_for_bash_or_for_sh(session: Session) -> None:
    assert session.run_command("[[ a == a ]] && echo bash").stdout == "bash\n"
    assert session.run_command("[[ a == a ]] && echo bash", posix=True).stdout == ""


def test_command_shares_files_directory_and_environment_with_the_cells(session: Session) -> None:
    session.execute("import os; os.environ['NAME'] = 'ada'; os.chdir('/tmp'); open('/mnt/data/a.txt', 'w').write('1')")
    assert session.run_command("pwd; echo $NAME; cat /mnt/data/a.txt").stdout == "/tmp\nada\n1"


def test_command_past_its_time_is_killed_with_what_it_started(session: Session) -> None:
    began = time.monotonic()
    result = session.run_command("sleep 60 & echo began; wait", timeout=0.5)
    assert (result.stdout, result.exit_status) == ("began\n", 124)
    assert "0.5 s" in result.stderr
    assert time.monotonic() - began < 20
    assert session.run_command("grep -lx sleep /proc/[0-9]*/comm").stdout == ""


def test_command_has_the_time_of_a_cell_by_default(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(cell_timeout=0.5)) as session:
        assert session.run_command("sleep 60").exit_status == 124
        assert session.run_command("sleep 1", timeout=None).exit_status == 0


def test_command_stands_in_the_transcript(session: Session) -> None:
    session.run_command("echo hello")
    (cell,) = session.transcript.notebook.cells
    assert cell.source.endswith("\necho hello")
    assert cell.outputs[0].text == "hello\n"


@pytest.mark.parametrize("command", ["", " \n", [], [""], ["ls", "a\0b"], "echo \0"])
def test_command_that_cannot_be_run_is_refused(command: Any, session: Session) -> None:
    with pytest.raises(ValueError, match="give a command"):
        session.run_command(command)
    assert session.transcript.cells == ()


@pytest.mark.parametrize("command", [None, 1, b"ls", ["ls", 1], {"ls"}])
def test_command_of_another_type_is_refused(command: Any, session: Session) -> None:
    with pytest.raises(TypeError, match="a text for the shell, or a list of words"):
        session.run_command(command)


def test_command_in_a_dead_kernel_was_not_seen(session: Session) -> None:
    result = session.run_command("kill -9 $PPID; sleep 60")
    assert (result.exit_status, result.kept) == (255, "files")
    assert "the command's end was not seen" in result.stderr
    result = session.run_command("echo on")
    assert (result.stdout, result.exit_status, result.ran) == ("", 255, "no")
    with pytest.raises(SessionClosed):
        Session(image="python").run_command("true")


@pytest.mark.anyio
async def test_command_that_is_cancelled_is_killed(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        running = asyncio.create_task(session.run_command("sleep 60"))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await session.run_command("grep -lx sleep /proc/[0-9]*/comm")).stdout == ""


@pytest.mark.anyio
async def test_command_in_a_pool_counts_as_a_cell(engine: str) -> None:
    pool = SessionPool(PoolSettings(ready=0, sessions=1), spec=SandboxSpec(image="python"), engine=engine)
    async with pool, pool.acquire("ada") as session:
        running = asyncio.create_task(session.run_command("echo on; sleep 0.5"))
        await asyncio.sleep(0.1)
        assert session.state == "busy"
        assert (await running).stdout == "on\n"
        assert (session.state, session.cells) == ("idle", 1)
