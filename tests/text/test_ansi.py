"""What is left of a text with a terminal's commands in it: the same for every door."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox import Execution
from kernel_sandbox.doors.http.cell_views import view_cell
from kernel_sandbox.doors.magic.bundles import safe_bundle
from kernel_sandbox.session.outputs import ErrorOutput, StreamOutput
from kernel_sandbox.show.model_text import read_output
from kernel_sandbox.text.ansi import clean_terminal_text, plain_text, remove_ansi, visible_terminal_text

PICTURE = "\x1b]1337;File=inline=1;size=9000:" + "QUJD" * 3000 + "\x07"
"""How iTerm2 is given a picture: https://iterm2.com/documentation-images.html"""
SIXELS = "\x1bPq#0;2;0;0;0" + "#0~~@@vv@@~~$" * 1000 + "\x1b\\"
"""How a VT340 is."""
COMMANDS = {
    "a picture of iTerm2's": PICTURE,
    "sixels": SIXELS,
    "what tput sgr0 writes": "\x1b(B\x1b[m",
    "a link": "\x1b]8;;https://x.example\x1b\\",
    "a title": "\x1b]0;title\x07",
    "an erased line": "\x1b[2K",
    "a saved cursor": "\x1b7",
}


def on_the_page(output: dict[str, object]) -> str:
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": [output]}
    (shown,) = view_cell(cell)["outputs"]
    return str(shown.get("text", shown.get("error")))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_command_is_nothing_to_read_at_any_door(command: str) -> None:
    written = f"before{command}after"
    stream = StreamOutput("stdout", written)
    error = ErrorOutput("E", "", (written,))
    ended = Execution("", "error", (error,), 1, datetime(2026, 1, 1, tzinfo=UTC), 0.1)
    readings = [
        read_output(stream),
        read_output(error),
        ended.text,
        on_the_page({"output_type": "stream", "name": "stdout", "text": written}),
        on_the_page({"output_type": "error", "ename": "E", "evalue": "", "traceback": [written]}),
        safe_bundle({"text/plain": written}, {}, "isolated")[0]["text/plain"].replace("\x1b[m", ""),
    ]
    assert readings == ["beforeafter"] * len(readings)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_command_is_seen_on_a_terminal(command: str) -> None:
    shown = visible_terminal_text(f"before{command}after")
    assert shown.replace("\x1b[m", "") == f"before{command}after".replace("\x1b[m", "").translate({27: "␛", 7: "␇"})


def test_line_that_was_erased_is_empty_to_a_model_too() -> None:
    bar = "\r 50 %|█████     |\r\x1b[2K\ndone\n"
    assert read_output(StreamOutput("stderr", bar)) == "[stderr]\n\ndone\n"
    assert on_the_page({"output_type": "stream", "name": "stderr", "text": bar}) == "\ndone\n"


fragments = st.lists(
    st.sampled_from(["\x1b", "[", "]", "P", "31", ";", "m", "\x07", "\\", "K", "(", "B", "é", "x", "\n"])
)


@given(fragments.map("".join))
def test_what_is_left_has_no_command_in_it(text: str) -> None:
    assert "\x1b" not in remove_ansi(text)
    assert remove_ansi(clean_terminal_text(text)) == plain_text(text)


@pytest.mark.parametrize("start", ["\x1b]", "\x1bP", "\x1b[", "\x1b[1;", "\x1b"])
def test_commands_that_do_not_end_take_no_time(start: str) -> None:
    began = time.monotonic()
    for text in (start * 200_000, start + "0" * 1_000_000, (start + "0" * 1000) * 1000):
        remove_ansi(text)
    assert time.monotonic() - began < 5
