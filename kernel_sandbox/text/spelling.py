"""The known name that somebody meant by an unknown one. Pure.

Whatever refuses a name comes here first: advice that repeats a mistyped one (`docker pull datasciens`) would send
people to whoever has registered the mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LIKENESS = 0.7
"""What difflib must find of two names: a letter too many, too few or exchanged in a name of five passes."""


def nearest(name: str, known: Iterable[str], likeness: float = LIKENESS) -> str | None:
    """Return the known name that is most like `name`, upper case or lower; None where none is."""
    names = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower()[:200], names, 1, likeness)
    return names[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Write " Did you mean NAME?", with the space before it, or nothing."""
    found = nearest(name, known)
    return f" Did you mean {found}?" if found else ""
