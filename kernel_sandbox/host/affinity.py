"""Where a session may be used: in the event loop that opened it, and by nobody who has a copy."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from kernel_sandbox.errors import WrongEventLoop


class Affinity:
    """The event loop of one session or pool, once it is open."""

    def __init__(self, what: str, anywhere: str) -> None:
        """`what` names it in a message, and `anywhere` what to use instead from everywhere."""
        self._what, self._anywhere = what, anywhere
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self) -> None:
        """Take the running loop."""
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Raise WrongEventLoop where another loop runs, or none: what waits here would never be woken."""
        if self._loop is not None and self._loop is not _running():
            there = "use it there (from another thread by asyncio.run_coroutine_threadsafe)"
            opener = "the event loop that opened it" + (", which is closed" if self._loop.is_closed() else "")
            advice = self._anywhere if self._loop.is_closed() else f"{there}, or {self._anywhere}"
            raise WrongEventLoop(f"The {self._what} belongs to {opener}: {advice}.")


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class NotCopied:
    """What stands for something that runs: a copy of it, or a pickle, would be a second name for it."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"{name} cannot be pickled or copied: hand over its spec, and open another where it is needed.")
