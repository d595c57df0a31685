from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kernel_sandbox.agents.approval import (
    MARGIN,
    MAX_CHARACTERS,
    MAX_LINE,
    MAX_LINES,
    QUESTION,
    Approval,
    ask_user,
    beside_margin,
)
from kernel_sandbox.agents.safety import Verdict

HIDING = {
    "head": "evil()\n" + "#" * 10 + "\n" * MAX_LINES + "print(1)",
    "middle": "x = 1\n" * 200 + "evil()\n" + "x = 1\n" * 200,
    "characters": "evil() #" + ("a" * 70 + "\n") * (MAX_CHARACTERS // 70),
    "right": "x = 1" + " " * MAX_LINE + "; evil()",
    "escapes": "x = 1 # " + "\u200b" * (MAX_CHARACTERS // 6 + 1),
    "carriage returns": "evil()\r" * (MAX_LINES + 1),
}


@pytest.mark.parametrize("form", HIDING)
def test_cell_that_is_too_long_to_be_seen_cannot_be_approved(form: str) -> None:
    approval = Approval(HIDING[form])
    assert "too long to be judged" in approval.refusal
    approval.decide("yes")
    assert approval.answer.result() is False


def test_cell_that_can_be_seen_is_asked_about() -> None:
    for source in ("print(1)\n" * (MAX_LINES - 1), "x" * MAX_LINE, ""):
        for word, may in (("y", True), (" YES ", True), ("no", False), ("", False)):
            approval = Approval(source)
            assert not approval.refusal
            approval.decide(word)
            assert approval.answer.result() is may


@given(st.text(max_size=300))
def test_every_printing_character_of_a_cell_is_shown_in_its_order(source: str) -> None:
    shown = iter(Approval(source).shown)
    assert all(character in shown for character in source if character.isprintable() and character.isascii())


@pytest.mark.parametrize("filler", ["x", "漢", "é", "\t", " ", "\u0336"])
def test_every_line_of_prose_is_beside_the_margin(filler: str) -> None:
    """On a terminal of 40 columns, however the model fills the line before what looks like our question."""
    for count in range(90):
        lines = beside_margin(f"{filler * count}{QUESTION}\n\n{QUESTION}", 40).split("\n")
        assert all(line.startswith(MARGIN) for line in lines)
        assert max(map(cell_len, lines)) < 40


def test_model_is_told_why_a_cell_did_not_run() -> None:
    def show(approval: Approval) -> None:
        approval.decide("y" if approval.source == "good" else "n")

    async def verdict(source: str) -> Verdict:
        return await ask_user(show)(source)

    assert asyncio.run(verdict("good")).safe
    assert asyncio.run(verdict("bad")).reason.startswith("The user declined")
    assert "shorter cells" in asyncio.run(verdict(HIDING["head"])).reason
