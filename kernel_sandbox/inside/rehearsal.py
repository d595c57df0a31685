"""A cell that a kernel runs before it is ready, for itself, so that the first of its user is as fast as the second.

A first cell takes a third longer than a later one: it copies the pages that a fork has left shared, and walks code that
the interpreter has not seen yet. Where nobody waits for a start (a pool's), that is done with ahead of it. Nothing is
left that a cell could find, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import linecache
from collections.abc import Iterator
from typing import Any

CELL = "1 + 1"
"""Shows a result: a silent cell would leave half of the way out."""


class _Nowhere:
    """Takes what is published."""

    def send_multipart(self, *args: Any, **named: Any) -> None:
        pass


def rehearse(app: Any) -> None:
    """Run a cell in a kernel whose event loop does not run yet. What fails then is the user's own cell to show."""
    with contextlib.suppress(Exception), _without_a_trace(app):
        asyncio.get_event_loop().run_until_complete(app.kernel.do_execute(CELL, silent=False, store_history=False))


@contextlib.contextmanager
def _without_a_trace(app: Any) -> Iterator[None]:
    """Run no hook in the block, and put back what a cell changes: names, results, texts of cells, numbers."""
    shell, session = app.shell, app.session
    history, hook, hooks = shell.history_manager, shell.displayhook, shell.events.callbacks
    tables = [shell.user_ns, shell.user_ns_hidden, shell.user_ns["_oh"], history.outputs, history.output_hist_reprs]
    tables += [vars(hook), hook._trait_values, shell.compile._filename_map, linecache.cache, hooks]
    copies = [(table, table.copy()) for table in tables]
    count, succeeded, result = session.message_count, shell.last_execution_succeeded, shell.last_execution_result
    hooks.update({event: [] for event in hooks})
    hook.pub_socket = _Nowhere()
    try:
        yield
    finally:
        for table, copy in copies:
            table.clear()
            table.update(copy)
        session.message_count, shell.last_execution_succeeded, shell.last_execution_result = count, succeeded, result
