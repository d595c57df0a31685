"""A note (PEP 678) beside what a shell shows of an error, where one fits: what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Finder = Callable[[BaseException], "str | None"]


def add(shell: Any, *finders: Finder) -> None:
    """Add what the finders have to say of an error to what a shell shows of it."""
    get = shell._get_exc_info  # not `showtraceback`, whose frames a traceback can show

    def get_with_notes(*args: Any, **kwargs: Any) -> Any:
        found = get(*args, **kwargs)
        for finder in finders:
            try:
                note = finder(found[1])
                noted = list(getattr(found[1], "__notes__", ()))
                if note is not None and note not in noted:
                    found[1].__notes__ = [*noted, note]
            except Exception:  # noqa: BLE001, S110 - a class of the cell's own may refuse it; the error itself is shown
                pass
        return found

    shell._get_exc_info = get_with_notes
