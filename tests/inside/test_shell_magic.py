"""`%%shell`: a cell that is a shell command, in either engine."""

from __future__ import annotations

import threading
import time

import pytest

from kernel_sandbox import Execution, Session
from kernel_sandbox.inside import shell as inside
from kernel_sandbox.session import shell_commands as outside
from kernel_sandbox.session.shell_commands import CommandResult, shell_cell, shell_result


def run(session: Session, cell: str) -> CommandResult:
    return shell_result(session.execute(cell))


def test_shell_cell_tells_streams_and_exit_status(session: Session) -> None:
    told = run(session, "%%shell\necho out; echo err >&2; exit 3")
    assert (told.stdout, told.stderr, told.exit_status) == ("out\n", "err\n", 3)
    assert session.execute("%%shell\ntrue").status == "ok"


def test_shell_cell_takes_a_command_of_any_length(session: Session) -> None:
    told = run(session, shell_cell(f"text='{'x' * 300_000}'; echo ${{#text}}; cat", timeout=20))
    assert (told.stdout, told.exit_status) == ("300000\n", 0)


def test_shell_cell_passes_words_as_they_are(session: Session) -> None:
    words = ["printf", "%s|", "a b", "$HOME", "`id`", "é\n", "'", '"']
    assert run(session, shell_cell(words, timeout=None)).stdout == "".join(f"{word}|" for word in words[2:])


def test_shell_cell_past_its_time_is_killed_with_what_it_started(session: Session) -> None:
    told = run(session, shell_cell("sleep 50 & echo began; wait", timeout=0.5))
    assert (told.stdout, told.exit_status) == ("began\n", 124)
    assert run(session, "%%shell\ngrep -lx sleep /proc/[0-9]*/comm").stdout == ""


def test_shell_cell_that_is_interrupted_is_killed(session: Session) -> None:
    found: list[Execution] = []
    thread = threading.Thread(target=lambda: found.append(session.execute("%%shell\nsleep 50; echo never")))
    thread.start()
    deadline = time.monotonic() + 20
    while thread.is_alive():
        assert time.monotonic() < deadline
        session.interrupt()
        thread.join(0.2)
    assert shell_result(found[0]).exit_status == outside.NO_STATUS
    assert run(session, "%%shell\ngrep -lx sleep /proc/[0-9]*/comm").stdout == ""


def test_shell_cell_does_not_wait_for_what_it_leaves(session: Session) -> None:
    started = time.monotonic()
    assert run(session, "%%shell\nsleep 50 & echo on").stdout == "on\n"
    assert time.monotonic() - started < 20


def test_shell_cell_shows_bytes_that_are_no_text(session: Session) -> None:
    assert run(session, "%%shell\nprintf '\\303'; sleep 0.1; printf '\\251\\377'").stdout == "é\ufffd"


def test_shell_cell_does_not_touch_the_users_names(session: Session) -> None:
    session.execute("before = {*dir(), 'before'}")
    session.execute("%%shell\ntrue")
    # IPython itself keeps the inputs.
    assert session.execute("{name for name in dir() if not name.startswith('_i')} - before").text == "set()"


@pytest.mark.parametrize("line", ["--timeout", "--timeout x", "--timeout -1", "--other"])
def test_shell_cell_with_a_wrong_option_fails(session: Session, line: str) -> None:
    assert session.execute(f"%%shell {line}\ntrue").status == "error"


def test_both_sides_agree_on_the_type() -> None:
    assert inside.EXIT_TYPE == outside.EXIT_TYPE
