"""Colours in which a text can be read: whatever is asked for, a terminal of any theme shows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.text.ansi import SGR, clean_terminal_text, visible_terminal_text
from kernel_sandbox.text.colours import Colours
from tests.legibility import HIDING, READABLE, contrasts


@pytest.mark.parametrize("way", HIDING)
def test_text_in_the_colour_of_its_background_is_readable(way: str) -> None:
    for clean in (visible_terminal_text, clean_terminal_text):
        shown = clean(HIDING[way])
        assert "hidden" in shown
        assert not re.search(r"\x1b\[(?:[0-9;]*;)?8(?:;[0-9;]*)?m", shown)
        assert min(contrasts(shown), default=21) > READABLE, repr(shown)


@pytest.mark.parametrize(
    "honest",
    [
        "\x1b[1;31mred\x1b[0m \x1b[32mgreen\x1b[39m \x1b[94mblue\x1b[0m",
        "\x1b[38;5;241mgrey\x1b[48;2;1;2;3m",
        "\x1b[30;42m PASS \x1b[0m \x1b[97;41m FAIL \x1b[0m",
        "\x1b[43;30mwarning\x1b[0m",
        "\x1b[31;40mred on black\x1b[0m \x1b[34;47mblue on white",
        "\x1b[3;4;9;7mall\x1b[27;29m",
    ],
)
def test_honest_colours_stay_as_they_are(honest: str) -> None:
    assert visible_terminal_text(honest) == clean_terminal_text(honest) == honest


channel = st.integers(0, 255)
colours = st.one_of(
    st.integers(30, 37),
    st.integers(40, 47),
    st.integers(90, 97),
    st.integers(100, 107),
    st.sampled_from([0, 1, 2, 3, 4, 7, 9, 21, 22, 27, 39, 49, 5, 8, 25, 28]),
    st.tuples(st.sampled_from([38, 48]), st.just(5), channel),
    st.tuples(st.sampled_from([38, 48]), st.just(2), channel, channel, channel),
)
sequences = st.lists(colours, min_size=1, max_size=4).map(
    lambda codes: ";".join(str(c) if isinstance(c, int) else ";".join(map(str, c)) for c in codes)
)


@given(st.lists(sequences, min_size=1, max_size=6))
def test_no_sequences_hide_a_text(made: list[str]) -> None:
    text = "".join(f"\x1b[{parameters}mtext" for parameters in made)
    shown = visible_terminal_text(text)
    assert min(contrasts(shown), default=21) >= 1.05
    assert visible_terminal_text(shown) == shown
    assert SGR.sub("", clean_terminal_text(text)) == "text" * len(made)


def test_state_goes_on_from_one_piece_to_the_next() -> None:
    colours = Colours()
    first, second = visible_terminal_text("\x1b[44mblue", colours), visible_terminal_text("\x1b[34mhidden", colours)
    assert min(contrasts(first + second)) > READABLE
