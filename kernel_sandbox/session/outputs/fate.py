"""What became of a cell, in words. Made from an execution's values, so that every door says the same.

The session sets `ran` and `kept` where they are known; nothing searches an error's text for them.
"""

from __future__ import annotations

from typing import Literal

from kernel_sandbox.errors import KEPT_WORDS, Kept

Ran = Literal["no", "began", "whole", "unknown"]
"""How far a cell came. "no": the kernel never began it. "began": it began, and was cut off from outside. "whole": it
came to its own end, by its last line or by an error of its own. "unknown": it was sent, and nothing was heard of it
before the kernel was lost."""

_RAN: dict[Ran, str] = {
    "no": "The cell did not run",
    "began": "The cell ran in part",
    "whole": "The cell ran to its end",
    "unknown": "The cell was sent, and may have run in part",
}


def what_ran(ran: Ran, *, failed: bool = False) -> str:
    """Return a sentence that says how far a cell came; one that `failed` raised an error of its own."""
    return f"{_ran(ran, failed)}."


def fresh_kernel(because: str) -> str:
    """Return what a client reads with its first cell in a kernel that it did not know; `because` is why it started."""
    return f"This cell ran in a fresh kernel, without earlier variables. {because}"


def advice_on(ran: Ran, kept: Kept) -> str:
    """Return what to do with a cell that never ran, in every door's words; empty for any other."""
    if ran != "no":
        return ""
    return f"{what_ran(ran)} Run it again." if kept == "all" else what_ran(ran)


def fate(ran: Ran, kept: Kept, *, failed: bool = False) -> str:
    """Return both in one sentence."""
    return f"{_ran(ran, failed)}; {KEPT_WORDS[kept]}."


def _ran(ran: Ran, failed: bool) -> str:
    return "The cell ran until its error" if failed and ran == "whole" else _RAN[ran]
