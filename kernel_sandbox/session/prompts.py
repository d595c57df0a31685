"""What the sandbox asks the user, in words of its own: one prompt at a time, and none of a cell that is over.

The session's event loop calls; a handler that blocks waits for the user in a thread of a pool that all sessions
share, so that a cell that asks a thousand times must not get a thousand of them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread

InputHandler = Callable[[str, bool], "str | Awaitable[str]"]
"""What answers input(): gets the sandbox's prompt and whether the answer is a password; returns the answer."""
LONGEST = 10_000
"""Characters of a prompt that are shown."""


class Prompts:
    """One session's. Without a handler nothing is ever asked."""

    def __init__(self, handler: InputHandler | None) -> None:
        self.handler = handler
        self._asking: asyncio.Task[None] | None = None

    def ask(
        self, prompt: str, password: bool, answer: Callable[[str], None], failed: Callable[[Exception], None]
    ) -> None:
        """Show a prompt, and call `answer` with what the user says; an honest kernel waits for that before the next.

        Calls `failed` instead where the handler raises, or returns no text: the cell would wait for ever.
        """
        if self.handler is not None and (self._asking is None or self._asking.done()):
            work = self._ask(self.handler, prompt[:LONGEST], password, answer, failed)
            self._asking = asyncio.get_running_loop().create_task(work)

    async def _ask(
        self,
        handler: InputHandler,
        prompt: str,
        password: bool,
        answer: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            answer(await _answer_of(handler, prompt, password))
        except Exception as exc:  # noqa: BLE001 - the handler is the user's own
            failed(exc)

    def withdraw(self) -> None:
        """Ask no longer: the cell that asked is over, and the next one is not to get its answer."""
        if self._asking is not None:
            self._asking.cancel()


async def _answer_of(handler: InputHandler, prompt: str, password: bool) -> str:
    """Return what a handler of either kind answers. Raises what it raises, and TypeError."""
    if inspect.iscoroutinefunction(handler):
        value: Any = handler(prompt, password)
    else:
        value = await anyio.to_thread.run_sync(handler, prompt, password, abandon_on_cancel=True)
    if inspect.isawaitable(value):
        value = await value
    if not isinstance(value, str):
        raise TypeError(f"it returned {type(value).__name__}, not text")
    return value
