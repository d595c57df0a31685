"""What the sandbox asks the user, in words of its own: one prompt at a time, and none of a cell that is over.

The session's event loop calls; a handler that blocks waits for the user in a thread of a pool that all sessions
share, so that a cell that asks a thousand times must not get a thousand of them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import anyio.to_thread

Ask = Callable[[str, bool], "str | Awaitable[str]"]
"""An input handler: gets the sandbox's prompt and whether the answer is a password; returns the answer."""
LONGEST = 10_000
"""Characters of a prompt that are shown."""


class Prompts:
    """One session's. Without a handler nothing is ever asked."""

    def __init__(self, handler: Ask | None) -> None:
        self.handler = handler
        self._asking: asyncio.Task[None] | None = None

    def ask(self, prompt: str, password: bool, answer: Callable[[str], None]) -> None:
        """Show a prompt, and call `answer` with what the user says; an honest kernel waits for that before the next."""
        if self.handler is not None and (self._asking is None or self._asking.done()):
            work = self._ask(self.handler, prompt[:LONGEST], password, answer)
            self._asking = asyncio.get_running_loop().create_task(work)

    async def _ask(self, handler: Ask, prompt: str, password: bool, answer: Callable[[str], None]) -> None:
        if inspect.iscoroutinefunction(handler):
            value = await handler(prompt, password)
        else:
            value = await anyio.to_thread.run_sync(handler, prompt, password, abandon_on_cancel=True)
        answer(str(value))

    def withdraw(self) -> None:
        """Ask no longer: the cell that asked is over, and the next one is not to get its answer."""
        if self._asking is not None:
            self._asking.cancel()
