"""Cells that a person is to approve: shown as a whole, with all visible that hides something, or not run.

The doors show an `Approval` and set its answer; what they show is `Approval.shown`, and nothing of it may be left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from kernel_sandbox.agents.safety import SafetyCheck, Verdict
from kernel_sandbox.text.characters import pictured, visible_source

MAX_CHARACTERS, MAX_LINES, MAX_LINE = 20_000, 400, 2_000
"""Of a cell as it is shown. Terminals keep as many lines as this, and nobody reads more, or finds the end of a line."""
QUESTION = "Run this cell? [y/N] "
MARGIN = "▌ "
"""Stands left of what a model says before its calls: no line of it can be taken for a cell or a question of ours."""


@dataclass
class Approval:
    """A cell that waits for the user's word."""

    source: str
    answer: Future[bool] = field(default_factory=Future)
    """Whether it may run."""

    @property
    def shown(self) -> str:
        """The whole of the cell as the user is to see it: printing characters, tabs and line ends."""
        return visible_source(self.source, pictured)

    @property
    def refusal(self) -> str:
        """Why nobody can be asked; empty where somebody can."""
        lines = self.shown.split("\n")
        longest = max(map(len, lines))
        if len(self.shown) <= MAX_CHARACTERS and len(lines) <= MAX_LINES and longest <= MAX_LINE:
            return ""
        return (
            f"The cell is too long to be judged: {len(self.shown):,} characters in {len(lines):,} lines of up to "
            f"{longest:,}. At most {MAX_CHARACTERS:,} characters, {MAX_LINES} lines and {MAX_LINE:,} characters of a "
            "line can be approved."
        )

    def decide(self, word: str) -> None:
        """Take the user's word: anything but yes is no, and so is yes to what cannot be shown."""
        self.answer.set_result(not self.refusal and word.strip().lower() in ("y", "yes"))


def beside_margin(text: str, width: int | None = None) -> str:
    """Put the margin before each line of a text, folded so that no terminal of this width begins a line without it."""
    return "\n".join(MARGIN + piece for line in text.split("\n") for piece in _folded(line, width))


def _folded(line: str, width: int | None) -> Iterator[str]:
    """Cut a line into pieces; what is not ASCII may take two columns."""
    if width is None:
        yield line
        return
    line, start, used = line.expandtabs(4), 0, 0
    for place, character in enumerate(line):
        used += 1 if character.isascii() else 2
        if used > max(width - len(MARGIN) - 1, 2):
            yield line[start:place]
            start, used = place, 1 if character.isascii() else 2
    yield line[start:]


def ask_user(show: Callable[[Approval], object]) -> SafetyCheck:
    """Return a check that asks the user. `show` is given each cell, from the reactor, and a door answers."""

    async def check(source: str) -> Verdict:
        approval = Approval(source)
        show(approval)
        if await asyncio.wrap_future(approval.answer):
            return Verdict(True)
        if approval.refusal:
            return Verdict(False, f"{approval.refusal} Send it in shorter cells.")
        return Verdict(False, "The user declined this cell. Ask what they want instead.")

    return check
