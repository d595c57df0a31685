"""A sandbox from a template, as asyncio shows a process: its monitor stands for bubblewrap. Runs in the reactor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
from typing import Any

from kernel_sandbox.host.forks import making, own
from kernel_sandbox.sandbox.engines.base import in_thread
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import Newborn
from kernel_sandbox.sandbox.engines.bubblewrap_template import LINE, Template
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup

KILLED = 137
ENDS_WITHIN = 5000
"""Milliseconds that killed processes may take."""
CHUNK = 256 * 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ForkedProcess:
    """The sandbox, from its start to its end."""

    def __init__(self, newborn: Newborn, stdout: Stream, stderr: Stream) -> None:
        self.pid, self.first_pid, self.sockets = newborn.monitor, newborn.first, newborn.sockets
        self.stdout, self.stderr = stdout[0], stderr[0]
        self._open = stdout[1], stderr[1]
        self.returncode: int | None = None
        self._newborn = newborn
        newborn.word.setblocking(False)
        self._ending = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        """Hear how it ended, and see that it has: whoever else had the other end of this socket could say so, too."""
        status, handles = b"", (self._newborn.first_handle, self._newborn.monitor_handle)
        with contextlib.suppress(OSError):
            status = await asyncio.get_running_loop().sock_recv(self._newborn.word, LINE)
        for handle in handles:
            self._signal(handle)
        await in_thread(_wait_for, handles)
        self.returncode = _status(status)
        self._newborn.word.close()
        for stream in self._open:
            stream.close()  # what was written is still read
        for handle in handles:
            os.close(handle)

    async def wait(self) -> int:
        await asyncio.shield(self._ending)
        assert self.returncode is not None
        return self.returncode

    def end(self) -> None:
        """Kill PID 1, with which the kernel ends all others."""
        self._signal(self._newborn.first_handle)

    def kill(self) -> None:
        """Kill the monitor, and PID 1 with it."""
        self._signal(self._newborn.monitor_handle)

    def _signal(self, handle: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


def _wait_for(handles: tuple[int, ...]) -> None:
    """Wait until these processes have ended, but not for ever for one that the kernel does not let go."""
    for handle in handles:
        asked = select.poll()
        asked.register(handle, select.POLLIN)
        asked.poll(ENDS_WITHIN)


def _status(told: bytes) -> int:
    """Read what a monitor says, which may be anything."""
    digits = told.removeprefix(b'{"status": ').removesuffix(b"}")
    return int(digits) if digits.isdigit() and len(digits) < 4 else KILLED


async def forked(
    template: Template, preparation: dict[str, Any], group: ControlGroup
) -> tuple[ForkedProcess, socket.socket, list[str]]:
    """Have a template fork a sandbox; return it, its standard input, and what it shares. Raises TemplateFailed."""
    with making():
        pairs = [tuple(map(own, socket.socketpair())) for _ in range(3)]
    try:
        newborn = await in_thread(template.bear, preparation, group, tuple(theirs for _, theirs in pairs))
    except BaseException:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for _, theirs in pairs:
            theirs.close()
    stdin, *outputs = (ours for ours, _ in pairs)
    streams = []
    for output in outputs:
        output.setblocking(False)
        streams.append(await asyncio.open_unix_connection(sock=output, limit=CHUNK))
    return ForkedProcess(newborn, *streams), stdin, newborn.shared
