"""A process that has imported what a session needs, and from which whole sandboxes are forked. It runs no user code.

The keeper has started it without any privilege. It answers nobody: the host sends an order with descriptors to it, and
what is forked for that order speaks for itself (offspring.py). What it imports is an image's, so it is trusted as that,
and no more; the host looks from outside at what a sandbox has in common with it.
"""

from __future__ import annotations

import array
import asyncio  # noqa: F401 - for PID 1, as the modules below
import ctypes
import gc
import json
import os
import signal
import socket
import threading
from typing import Any

from kernel_sandbox.inside import (  # noqa: F401
    apart,
    common_memory,
    confinement,
    file_operations,
    fresh_places,
    inspection,
    kernels,
    main,
    mux,
    offspring,
    watch,
    zygote,
)

DOOR = 4
"""Its descriptor of the socket to the host, as the keeper has left it."""
ORDER_LIMIT = 256 * 1024
PASSED = 4
"""Descriptors that come with an order."""


def run(config: dict[str, Any]) -> None:
    """Import all, say so, and fork whenever the host sends an order, until it goes away."""
    ctypes.CDLL(None).prctl(main.PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o022)
    door = socket.socket(fileno=DOOR)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    common_memory.forget()
    os.environ.update(config["env"])
    fresh_places.copy_skeleton()
    missing = zygote.load_all(config["workdir"], config["modules"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who is forked tells of its end itself
    gc.collect()
    gc.freeze()
    door.send(json.dumps({"ready": missing is None, "why": missing, "threads": threading.active_count()}).encode())
    while True:
        message, descriptors = _receive(door)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            try:
                door.close()
                offspring.run(json.loads(message), descriptors)
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(door: socket.socket) -> tuple[bytes, list[int]]:
    message, ancillary, _, _ = door.recvmsg(ORDER_LIMIT, socket.CMSG_SPACE(PASSED * array.array("i").itemsize))
    numbers = array.array("i")
    for _, _, data in ancillary:
        numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return message, list(numbers)
