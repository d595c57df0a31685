"""The kernel as the attacker: what a cell imports to get hold of its kernel's sockets, key and descriptors.

Runs in the sandbox, where tests put it under /mnt/data; nobody on the host imports it. Bytes go out past libzmq, on the
descriptors of its connections, or from listening sockets that were taken from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
MORE, LONG, COMMAND = 1, 2, 4
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
TYPES = {"shell": b"ROUTER", "iopub": b"XPUB", "stdin": b"ROUTER", "control": b"ROUTER", "hb": b"REP"}


def kernel() -> Any:
    from IPython import get_ipython

    return get_ipython().kernel


def request_id() -> str:
    """The message id of the cell that runs."""
    return str(kernel().get_parent()["header"]["msg_id"])


# Messages


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


def header(kind: Any, **changes: Any) -> dict[str, Any]:
    named = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": "u", "date": now()}
    return {**named, "version": "5.4", **changes}


def dumps(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def parts(
    kind: Any, content: Any, *, parent: Any = None, metadata: Any = None, buffers: Iterable[bytes] = (), key: Any = None
) -> list[bytes]:
    """The signed parts of a message to the cell that runs. Dictionaries, or bytes that stand as they are."""
    to = {"msg_id": request_id() if parent is None else parent} if not isinstance(parent, (bytes, dict)) else parent
    head = kind if isinstance(kind, (bytes, dict)) else header(kind)
    signed = [dumps(head), dumps(to), dumps(metadata or {}), dumps(content)]
    signature = hmac.new(kernel().session.key if key is None else key, b"".join(signed), hashlib.sha256)
    return [b"<IDS|MSG>", signature.hexdigest().encode(), *signed, *buffers]


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body


def message(pieces: list[bytes]) -> bytes:
    """Parts as ZMTP frames."""
    return b"".join(frame(piece, MORE if place < len(pieces) - 1 else 0) for place, piece in enumerate(pieces))


def say(channel: str, kind: Any, content: Any, **changes: Any) -> bytes:
    """The bytes of one message, as they are on the wire."""
    topic = [b"kernel.attacker"] if channel == "iopub" else []
    return message([*topic, *parts(kind, content, **changes)])


def stream(text: str, name: str = "stdout", **changes: Any) -> bytes:
    return say("iopub", "stream", {"name": name, "text": text}, **changes)


# Descriptors


def descriptors(channel: str, *, listening: bool = False) -> list[int]:
    """The descriptors of a channel's connections, or of its listening socket."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with copy_of(int(name)) as probe:
                is_listening = bool(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                if str(probe.getsockname()).endswith(f"/s-{PORTS[channel]}") and is_listening == listening:
                    found.append(int(name))
    return sorted(found)


def copy_of(number: int) -> socket.socket:
    return socket.socket(fileno=os.dup(number))


class Connection:
    """Writes to a channel's connection past libzmq; a peer that is gone, or reads no more, ends it."""

    def __init__(self, channel: str, *, patience: float = 5.0) -> None:
        sys.stdout.flush()
        settle()
        self.socket = copy_of(descriptors(channel)[-1])  # the session's own is the last
        self.patience = patience
        self.sent = 0

    def send(self, data: bytes) -> bool:
        """Send all of it; tell whether the host still takes it."""
        view = memoryview(data)
        while view:
            if not select.select([], [self.socket], [], self.patience)[1]:
                return False
            try:
                step = os.write(self.socket.fileno(), view)
            except BlockingIOError:
                continue
            except OSError:
                return False
            self.sent += step
            view = view[step:]
        return True

    def flood(self, pieces: Iterable[bytes], limit: int) -> int:
        """Send until the host takes no more, or `limit` bytes are out."""
        for piece in pieces:
            if self.sent >= limit or not self.send(piece):
                break
        return self.sent


def settle() -> None:
    """Wait until libzmq has sent what it holds, so that what follows does not come in the middle of a message."""
    time.sleep(0.05)


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


# Listening sockets


class Impostor:
    """Takes a channel's listening socket from libzmq and its connections away: the host connects to us anew."""

    def __init__(self, channel: str, serve: Callable[[socket.socket], None]) -> None:
        self.served = 0
        self._serve = serve
        (number,) = descriptors(channel, listening=True)
        self._listener = copy_of(number)
        self._listener.setblocking(True)
        decoy = socket.socket(socket.AF_UNIX)
        decoy.bind(f"/tmp/{uuid.uuid4().hex}")
        decoy.listen()
        decoy.setblocking(False)
        os.dup2(decoy.fileno(), number)
        threading.Thread(target=self._accept, daemon=True).start()
        for connection in descriptors(channel):
            with contextlib.suppress(OSError):
                copy_of(connection).shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.served += 1
            threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._serve(client)


def ready(channel: str, *properties: tuple[bytes, bytes]) -> bytes:
    """The READY command of a channel's socket (RFC 23, "The NULL Security Mechanism")."""
    named = properties or ((b"Socket-Type", TYPES[channel]), (b"Identity", b""))
    body = b"".join(bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value for name, value in named)
    return frame(b"\x05READY" + body, COMMAND)


def greet(client: socket.socket, channel: str) -> None:
    """Shake hands as libzmq does, and wait for the other side's part of it."""
    client.sendall(GREETING)
    heard = 0
    while heard < len(GREETING):
        heard += len(client.recv(len(GREETING) - heard))
    client.sendall(ready(channel))
    client.recv(2)
