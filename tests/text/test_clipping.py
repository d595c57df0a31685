"""Texts cut to a size: what is left, and that the cut is said."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.text.amounts import format_seconds
from kernel_sandbox.text.clipping import clip_lines, clip_text, clip_within, keep_end, one_line, shorten


@given(st.text(max_size=40), st.integers(1, 30))
def test_shortened_text_fits_and_says_that_it_is_short(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    assert short == text or (short[-1] == "…" and text.startswith(short[:-1]))


def test_one_line_is_one_line() -> None:
    assert one_line(" a\n\tb\r c ", 9) == "a b c"
    assert one_line("a\nbcdef", 5) == "a bc…"


def test_each_cut_keeps_what_it_promises() -> None:
    text = "".join(f"{n:04}\n" for n in range(1000))
    assert keep_end(text, 10) == "[4,990 characters above are not shown]\n0998\n0999\n"
    assert clip_text(text, 20) == "0000\n0001\n\n[kernel-sandbox: 4.86 KB cut here]\n0998\n0999\n"
    assert len(clip_within(text, 200)) == 200
    lines = clip_lines(text, 100, 30, "print less")
    assert (
        lines == "0000\n0001\n0002\n0003\n[… 4,976 of 5,000 characters cut here. To see the rest, print less …]\n0999\n"
    )
    assert clip_lines("x" * 50, 20, 100, "") == "x" * 15 + "[… 30 characters of this line cut …]" + "x" * 5


@pytest.mark.parametrize("text", ["", "short", "é" * 10])
def test_text_that_fits_is_left_alone(text: str) -> None:
    assert {shorten(text, 20), keep_end(text, 20), clip_text(text, 20), clip_within(text, 20)} == {text}
    assert clip_lines(text, 20, 20, "x") == text


@given(st.text(alphabet="é漢x", min_size=20, max_size=60), st.integers(2, 30))
def test_cut_in_bytes_stands_between_two_characters(text: str, limit: int) -> None:
    head, tail = (
        re.split(r"\n\[kernel-sandbox: .* cut here\]\n", clip_text(text, limit))
        if len(text.encode()) > limit
        else (text, "")
    )
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.012, "12 ms"), (0.1, "0.1 s"), (59.94, "59.9 s"), (125.9, "2 min 05 s")]
)
def test_durations_are_said_alike_at_every_door(seconds: float, said: str) -> None:
    assert format_seconds(seconds) == said
