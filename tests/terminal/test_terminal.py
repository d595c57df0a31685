"""What a sandbox may write on the user's terminal: colours and lines, and nothing that a terminal obeys."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.terminal.safe import LineBuffer, one_line, plain, visible_source
from kernel_sandbox.text.ansi import visible_terminal_text

FRAGMENTS = [
    "\x1b",
    "\x1b[",
    "\x1b]",
    "\x9b",
    "0;",
    "31",
    "38;5;",
    "8",
    ";",
    "m",
    "H",
    "\x07",
    "\r",
    "\n",
    "\t",
    "é",
    "\u202e",
]
hostile = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join))
SGR = re.compile(r"\x1b\[[0-9;]*m")
BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(hostile)
def test_visible_lets_only_colours_lines_and_tabs_through(text: str) -> None:
    shown = SGR.sub("", visible_terminal_text(text))
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Zl", "Zp")} <= {"\n", "\t"}
    assert not {unicodedata.bidirectional(c) for c in shown} & BIDIRECTIONAL


@given(hostile)
def test_visible_changes_nothing_the_second_time(text: str) -> None:
    assert visible_terminal_text(visible_terminal_text(text)) == visible_terminal_text(text)


@given(hostile)
def test_plain_has_no_escape_at_all(text: str) -> None:
    assert "\x1b" not in plain(text)
    assert "\n" not in one_line(text, 40)
    assert len(one_line(text, 40)) <= 40


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[38;5;241mgrey\x1b[48;2;1;2;3m", "\x1b[38;5;241mgrey\x1b[48;2;1;2;3m"),
        ("\x1b[2J", "␛[2J"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b]8;;http://x\x1b\\words", "␛]8;;http://x␛\\words"),
        ("\x1b[8mhidden", "␛[8mhidden"),
        ("\x1b[5mblink", "␛[5mblink"),
        ("\x1b[38;5mcut", "␛[38;5mcut"),
        ("\x1b[38;2;1;2;300m", "␛[38;2;1;2;300m"),
        ("\x9b2J\x7f\x00", "\\x9b2J␡␀"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("a\r\nb\rc", "a\nb␍c"),
    ],
)
def test_visible_shows_what_was_there(written: str, shown: str) -> None:
    assert visible_terminal_text(written) == shown


@given(hostile)
def test_source_is_shown_without_any_colour(text: str) -> None:
    assert "\x1b" not in visible_source(text)
    assert all(character in "\n\t" or character.isprintable() for character in visible_source(text))


@given(st.lists(st.text(alphabet="ab\r\n", max_size=5), max_size=20))
def test_line_buffer_does_not_care_how_text_is_cut(chunks: list[str]) -> None:
    pieces, whole = LineBuffer(), LineBuffer()
    lines = [line for chunk in chunks for line in pieces.feed(chunk)] + pieces.flush()
    assert lines == whole.feed("".join(chunks)) + whole.flush()


def test_line_buffer_keeps_the_last_state_of_a_progress_bar() -> None:
    buffer = LineBuffer()
    assert [buffer.feed(f"\r{n} %") for n in range(100)] == [[]] * 100
    assert buffer.pending == "99 %"
    assert buffer.feed("\n") == ["99 %"]
    assert buffer.flush() == []


def test_line_buffer_gives_an_endless_line_in_parts() -> None:
    buffer = LineBuffer()
    lines = [line for _ in range(100) for line in buffer.feed("x" * 1000)]
    assert len(lines) == 5
    assert len("".join(lines) + buffer.pending) == 100_000
