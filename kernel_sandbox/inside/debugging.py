"""The debugger of a kernel, made at its first debug request: debugpy is as large as all else that a kernel imports."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

NAME = "debugpy"


@contextlib.contextmanager
def kept_out() -> Iterator[None]:
    """Hide debugpy from what is imported in the block."""
    sys.modules[NAME] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[NAME]


def is_there() -> bool:
    """Return whether the image has debugpy."""
    return importlib.util.find_spec(NAME) is not None


def of_kernel(kernel: Any) -> Any:
    """Return the debugger of a kernel, made now where it has none yet; a copy of a kernel has one of its own."""
    made = getattr(kernel, "debugger", None)
    if made is not None and made.debugpy_client.debugpy_stream is kernel.debugpy_stream:
        return made
    from ipykernel import debugger

    if not debugger._is_debugpy_available:  # it was imported without, whatever cells have imported since
        importlib.reload(debugger)
    given = kernel.log, kernel.debugpy_stream, kernel._publish_debug_event, kernel.debug_shell_socket, kernel.session
    more = kernel._kernel_modules, kernel.debug_just_my_code, kernel.filter_internal_frames
    kernel.debugger = debugger.Debugger(*given, *more)  # type: ignore[no-untyped-call]
    asyncio.get_running_loop().create_task(kernel.poll_stopped_queue())
    return kernel.debugger
