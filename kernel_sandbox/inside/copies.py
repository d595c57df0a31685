"""Copies of kernels, as PID 1 sees to them: ordered, known for what they are, ended where they do not answer in time.

What a kernel and its copy say comes from a process in which cells have run. It is believed as far as it can be seen: a
copy is a child of PID 1 that is nothing else here. The kernel's side is copying.py.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from typing import Any

from kernel_sandbox.inside import common_memory, leaving

PATIENCE = 5.0
"""Seconds in which a copy must stand: 20 times what one of 2 GB takes, whose page tables are copied."""
AGAIN = 0.001


class NoCopy(RuntimeError):
    """Why there is none."""


async def copy(kernels: Any, source: Any, kernel: Any, request: dict[str, Any]) -> None:
    """Have `source` fork, put its copy into the table as `kernel`, and return when it answers. Raises NoCopy.

    All three are those of kernels.py.
    """
    if not _takes_orders(source.pid):
        raise NoCopy("a cell has changed what the kernel does with signals, or it has ended")
    kernel.end_signal = signal.SIGKILL if request["park"] else leaving.END  # a copy that waits takes no other
    if not request["park"]:
        os.makedirs(request["sockets"], mode=0o700, exist_ok=True)
    kernels.exits.clear()  # process ids come round again: only what ends from here on can be this copy
    token = secrets.token_hex(16)
    told = {name: request[name] for name in ("kernel", "park", "sockets", "connection")}
    common_memory.order({**told, "token": token, "slot": kernel.slot, "source": source.pid})
    try:
        os.kill(source.pid, common_memory.COPY)
        await asyncio.wait_for(_answered(kernels, source, kernel, token), PATIENCE)
    except asyncio.TimeoutError:  # another than the builtin before Python 3.11
        raise NoCopy(f"it did not answer within {PATIENCE:g} s") from None
    finally:
        common_memory.order(None)


async def _answered(kernels: Any, source: Any, kernel: Any, token: str) -> None:
    """Wait for the copy's process, then for its own word."""
    while True:
        forked, itself = (told if told.get("token") == token else {} for told in map(common_memory.told, (0, 1)))
        if "refused" in forked:
            raise NoCopy(str(forked["refused"])[:100])
        if not kernel.pid:
            _find(kernels, kernel, forked.get("pid", itself.get("pid")))
        if kernel.exit_code is not None or source.exit_code is not None:
            raise NoCopy("it has ended")
        if kernel.pid and itself.get("pid") == kernel.pid:
            kernel.words.also(kernel.pid, str(itself.get("words"))[:16])
            return
        await asyncio.sleep(AGAIN)


def _find(kernels: Any, kernel: Any, pid: Any) -> None:
    """Take a process for the copy, where it is one: a child of this process, and no other kernel nor the zygote."""
    taken = {known.pid for known in (*kernels.kernels.values(), *kernels.ending)} | {kernels.zygote_pid}
    if isinstance(pid, int) and pid not in taken and (pid in kernels.exits or _parent(pid) == os.getpid()):
        kernel.pid = pid
        kernels.add(kernel)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0


def _takes_orders(pid: int) -> bool:
    """Return whether a process handles the signal: it ends those that do not."""
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(line.split()[1] for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration, ValueError):
        return False
    return bool(int(caught, 16) >> (common_memory.COPY - 1) & 1)


def end(kernel: Any) -> None:
    """Kill a kernel beside which others live, and remove its sockets as far as they are the sandbox's own."""
    if kernel.pid:
        for kill in (os.killpg, os.kill):
            try:
                kill(kernel.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it leads no group yet, or has ended
    for port in range(1, 6):
        try:
            os.unlink(f"{kernel.sockets}/s-{port}")
        except OSError:
            pass
    try:
        os.rmdir(kernel.sockets)
    except OSError:
        pass  # the host's own
