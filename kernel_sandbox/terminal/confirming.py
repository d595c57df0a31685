"""Questions that decide something: what was typed before one was shown is no answer to it.

Somebody else may have written what stood on the screen before: a model's prose can look like a question of ours, and
the answer to it would wait in the terminal for the real one. `tests/test_architecture.py` has all doors ask here.
"""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def put(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Forget what was typed so far, and ask: `input`, or what else shows a question and reads its answer."""
    _forget_typed()
    return ask(*args, **kwargs)


def _forget_typed() -> None:
    """Empty the terminal's input (termios(3), tcflush); where none is typed on, there is nothing to forget."""
    with contextlib.suppress(AttributeError, OSError, ValueError, termios.error):  # no stdin, closed, no file
        if sys.stdin.isatty():
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
