"""The framing of ZMTP 3, read without holding it: what comes out of a sandbox must keep to it, and to bounds.

Pure. The gate shows every byte that a sandbox sends to a FrameCheck before libzmq in this or another process sees it:
no option of ZeroMQ bounds the parts of a message, its size as a whole, or the time of a handshake. Source of the
layout: RFC 23 of rfc.zeromq.org (ZMTP 3.0), sections "Greeting" and "Framing".
"""

from __future__ import annotations

from dataclasses import dataclass

GREETING = 64
SIGNATURE_END = 10
MORE, LONG, COMMAND = 1, 2, 4
MECHANISM = b"NULL".ljust(20, b"\0")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may send."""

    frame: int
    """Bytes of one part of a message."""
    message: int
    """Bytes of all its parts together."""
    least: int = 100
    """Bytes of the smallest: of Jupyter's, a signature and a header are more. Smaller ones would only cost time."""
    parts: int = 64
    """Jupyter's messages have 7, and one more for every buffer."""
    command: int = 4096
    """Bytes of a command: READY, PING, SUBSCRIBE."""
    commands: int = 10_000
    """Commands of one connection: a client of ours gets one, and answers to its pings."""


class FrameCheck:
    """Reads the bytes of one direction of one connection as they pass."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._head = bytearray()
        """What has come of the greeting, or of a frame's flags and length."""
        self._greeted = False
        self._body_left = 0
        self._parts = 0
        self._message = 0
        self._commands = 0
        self.messages = 0
        """How many were complete."""

    def feed(self, data: bytes) -> str:
        """Look at the next bytes. Returns an empty text, or what rule they break; nothing is read after that."""
        view, place = memoryview(data), 0
        while place < len(view):
            if self._body_left:
                step = min(self._body_left, len(view) - place)
                self._body_left -= step
                place += step
                continue
            wanted = self._head_length()
            step = min(wanted - len(self._head), len(view) - place)
            self._head += view[place : place + step]
            place += step
            if len(self._head) == self._head_length() and (broken := self._take_head()):
                return broken
        return ""

    def _head_length(self) -> int:
        if not self._greeted:
            return GREETING
        if not self._head:
            return 1
        return 9 if self._head[0] & LONG else 2

    def _take_head(self) -> str:
        head = bytes(self._head)
        if not self._greeted:
            self._head.clear()
            self._greeted = True
            return _check_greeting(head)
        self._head.clear()
        flags, size = head[0], int.from_bytes(head[1:], "big")
        if flags & ~(MORE | LONG | COMMAND):
            return f"a frame with unknown flags ({flags:#x})"
        self._body_left = size
        return self._take_command(flags, size) if flags & COMMAND else self._take_part(flags, size)

    def _take_command(self, flags: int, size: int) -> str:
        self._commands += 1
        if flags & MORE:
            return "a command of several parts"
        if size > self._bounds.command:
            return f"a command of {size:,} bytes, of which {self._bounds.command:,} are allowed"
        if self._commands > self._bounds.commands:
            return f"more than {self._bounds.commands:,} commands"
        return ""

    def _take_part(self, flags: int, size: int) -> str:
        bounds = self._bounds
        if not self._commands:
            return "a message before the handshake"
        self._parts += 1
        self._message += size
        if size > bounds.frame:
            return f"a part of {size:,} bytes, of which {bounds.frame:,} are allowed"
        if self._message > bounds.message:
            return f"a message of more than {bounds.message:,} bytes"
        if self._parts > bounds.parts:
            return f"a message of more than {bounds.parts} parts"
        if not flags & MORE:
            if self._message < bounds.least:
                return f"a message of fewer than {bounds.least} bytes"
            self._parts = self._message = 0
            self.messages += 1
        return ""


def _check_greeting(greeting: bytes) -> str:
    if greeting[0] != 0xFF or greeting[9] & 1 != 1 or greeting[SIGNATURE_END] < 3:
        return "a greeting that is not ZMTP 3"
    return "" if greeting[12:32] == MECHANISM else "a greeting with another security mechanism than NULL"
