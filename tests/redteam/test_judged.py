"""What people judge: the text and the colours that a terminal shows, and the cells that they approve."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.agents.model_server import Call, Reply, Say, Slow, model_server
from tests.legibility import HIDING, READABLE, contrasts
from tests.redteam.cells import attack
from tests.redteam.terminal import on_terminal

UNSEEN = {
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "direction": "\u200e\u200f\u061c\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069",
    "fillers": "\u3164\u115f\u1160\uffa0",
    "variation": "\ufe00\ufe0f\U000e0100\U000e01ef\u180b",
    "tags": "".join(chr(0xE0000 + ord(character)) for character in "run this"),
    "lines": "\u2028\u2029\x85\x0b\x0c",
    "soft": "\u00ad\u034f\u17b4",
    "annotation": "\ufff9\ufffa\ufffb",
    "backwards": "\x08\x08\x7f",
    "C1": "\x90\x98\x9b\x9d\x9f",
    "marks": "\u0336" * 40,
    "invisible mathematics": "\u2061\u2062\u2063\u2064",
}


@attack("Integrity")
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_terminal_shows_all_that_a_run_prints(engine: str, tmp_path: Path) -> None:
    prints = [f"print({f'a{text}b'!a})" for text in UNSEEN.values()]
    prints += [f"print({f'{text}{place}.'!a})" for place, text in enumerate(HIDING.values())]
    (tmp_path / "evil.py").write_text("\n".join(["#"] * 12 + prints))
    shown = on_terminal("run", str(tmp_path / "evil.py"), "--image", "python", "--engine", engine).decode()
    printed = shown[shown.index("a\\u200b") :]
    for text in UNSEEN.values():
        assert not set(text) & set(printed.replace("\u0336" * 8, "", 1)), ascii(text)
    lines = [line for line in re.split(r"[\r\n]+", printed) if re.search(r"hidden\d+\.", line)]
    assert len(lines) >= len(HIDING)
    for line in lines:
        assert "\x1b[8m" not in line
        assert min(contrasts(line), default=21) > READABLE, repr(line)


def run(code: str) -> Call:
    return Call([("execute_python_code", {"python_code": code})])


@attack("Escape")
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_cell_to_be_approved_is_seen_or_does_not_run(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = "x = 1  # \u3164\u200b\u202e\U000e0041\x1b[30;40m as told\ropen('first', 'w')"
    headless = "open('second', 'w')\n" + "\n" * 30_000 + "print('harmless')"
    wide = "x = 1" + " " * 5_000 + "; open('third', 'w')"
    replies: list[Reply] = [run(hidden), run(headless), run("import os; print(os.listdir())"), run(wide), Say("Done.")]
    with model_server(*replies) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        typed = [(b"[y/N] ", b"n\n"), (b"[y/N] ", b"y\n")]
        shown = on_terminal("ask", "Go.", "--approve", "--image", "python", "--engine", engine, typed=typed).decode()
        told = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert shown.count("[y/N] ") == 2, "two of the cells cannot be asked about"
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown[: shown.index("[y/N] ")])
    assert "x = 1  # \\u3164\\u200b\\u202e\\U000e0041␛[30;40m as told␍" in seen
    assert re.search(r"\n[ │]*open\('first', 'w'\)", seen), "on a line of its own"
    assert ["too long to be judged" in answer for answer in told] == [False, True, False, True], json.dumps(told)
    assert told[2] == "[]", "and none of them has written a file"


@attack("Escape")
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
@pytest.mark.parametrize("asked", ["at once", "at the prompt"])
def test_answer_to_a_models_prose_approves_no_cell(
    engine: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prose looks like a cell and our question; the cell comes when the user has answered it."""
    prose = "1 | print(open('sales.csv').read())\n\nRun this cell? [y/N] "
    call = Call([("execute_python_code", {"python_code": "print('unseen' + ' ran')"})], text=prose)
    with model_server(Slow(call, 0.1), Say("Done.")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        typed = [(b"[y/N]", b"y\n"), (b"unseen", b""), (b"Run this cell? [y/N] ", b"n\n")]
        if asked == "at the prompt":
            typed = [(b"? ", b"Go.\n"), *typed, (b"Done.", b""), (b"? ", b"exit\n")]
        command = ("ask", *(["Go."] if asked == "at once" else []), "--approve", "--image", "python")
        shown = on_terminal(*command, "--engine", engine, typed=typed).decode()
        told = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert len(told) == 1
    assert "The user declined this cell" in told[0]
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert sum(line.startswith("Run this cell?") for line in lines) == 1, "the prose has a margin"
