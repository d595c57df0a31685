"""What Linux counts for nobody, looked at by PID 1 while the sandbox lives: too much of it ends the sandbox by name.

A connection that waits to be accepted, and the bytes in it, belong to no control group until it is (net/core/sock.c,
mem_cgroup_sk_alloc): a listener that accepts none would take the machine's memory.
"""

from __future__ import annotations

import asyncio

EVERY = 1.0
"""Seconds."""
MOST_SOCKETS = 2048
"""TCP sockets of a sandbox, whose two ends of a connection are two: at most 64 KB wait in each, 128 MB together."""
COUNTED = ("/proc/net/sockstat", "/proc/net/sockstat6")


class TooMuch(Exception):
    """Why the sandbox ends."""


async def watch() -> None:
    """Look each second. Raises TooMuch."""
    while True:
        await asyncio.sleep(EVERY)
        if (found := tcp_sockets()) > MOST_SOCKETS:
            raise TooMuch(f"it had {found:,} TCP sockets, of which {MOST_SOCKETS:,} are allowed")


def tcp_sockets() -> int:
    """Count the TCP sockets of this network namespace, those that nobody has accepted included (proc(5))."""
    found = 0
    for path in COUNTED:
        try:
            with open(path) as file:
                lines = file.read().splitlines()
        except OSError:
            continue  # a machine without the newer protocol
        for line in lines:
            words = line.split()
            if words[0] in ("TCP:", "TCP6:"):
                found += int(words[words.index("inuse") + 1])
    return found
