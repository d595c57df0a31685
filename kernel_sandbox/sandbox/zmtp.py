"""The framing of ZMTP 3: what comes out of a sandbox must keep to it, and to bounds. Pure.

Every byte that a sandbox sends passes a FrameReader before anything else sees it: no option of ZeroMQ bounds the parts
of a message, its size as a whole, or the time of a handshake. Source of the layout: RFC 23 of rfc.zeromq.org (ZMTP
3.0), sections "Greeting", "Framing" and "The NULL Security Mechanism"; PING and PONG are of RFC 37 (ZMTP 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GREETING = 64
SIGNATURE_END = 10
MORE, LONG, COMMAND = 1, 2, 4
MECHANISM = b"NULL".ljust(20, b"\0")
OUR_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + MECHANISM + bytes(32)
SUBSCRIBE_TO_ALL = b"\x01"
"""A message of ZMTP 3.0, the version that we greet with."""

Part = bytes | bytearray
"""Of a message: a large one is not copied once more only to be immutable."""


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


class FrameReader:
    """Reads the bytes of one direction of one connection, in pieces of any size.

    With `keeps`, `messages` and `commands` gather what was whole, for who takes them from there; without, nothing is
    held but the head of a frame.
    """

    def __init__(self, bounds: Bounds, *, keeps: bool = False) -> None:
        self._bounds = bounds
        self._keeps = keeps
        self._head = b""
        """What has come of the greeting, or of a frame's flags and length."""
        self._greeted = False
        self._flags = 0
        self._body_left = 0
        self._begun = bytearray()
        """What has come of a body that is not whole yet."""
        self._parts: list[Part] = []
        self._number = 0
        """Of the message's parts so far, and of their bytes."""
        self._size = 0
        self._commands = 0
        self.count = 0
        """How many messages were complete."""
        self.messages: list[list[Part]] = []
        self.commands: list[Part] = []

    def feed(self, data: bytes) -> str:
        """Look at the next bytes. Returns an empty text, or what rule they break; nothing is read after that.

        Each cell's messages have some forty frames: what is usual is in this loop, without a call.
        """
        if self._head:
            data, self._head = self._head + data, b""
        place, end, bounds = 0, len(data), self._bounds
        if not self._greeted:
            if end < GREETING:
                self._head = data
                return ""
            self._greeted, place = True, GREETING
            if broken := _check_greeting(data):
                return broken
        while place < end:
            if self._body_left:
                place = self._continue(data, place, end)
                continue
            flags = data[place]
            start = place + (9 if flags & LONG else 2)
            if start > end:
                self._head = data[place:]
                break
            size = int.from_bytes(data[place + 1 : start], "big") if flags & LONG else data[place + 1]
            if flags & ~(MORE | LONG):
                if broken := self._begin_command(flags, size):
                    return broken
            else:
                self._number += 1
                self._size += size
                if size > bounds.frame or self._size > bounds.message or self._number > bounds.parts:
                    return self._too_much(size)
                if not self._commands:
                    return "a message before the handshake"
                if not flags & MORE and self._size < bounds.least:
                    return f"a message of fewer than {bounds.least} bytes"
            place = start + size
            if place > end:
                self._flags, self._body_left = flags, place - end
                if self._keeps:
                    self._begun += data[start:]
                break
            if self._keeps:
                (self.commands if flags & COMMAND else self._parts).append(data[start:place])
            if not flags & (MORE | COMMAND):
                self._end_message()
        return ""

    def _continue(self, data: bytes, place: int, end: int) -> int:
        """Take what there is of a body that has begun, and return where it ends."""
        stop = min(end, place + self._body_left)
        self._body_left -= stop - place
        if self._keeps:
            self._begun += data[place:stop] if stop - place < len(data) else data
        if not self._body_left:
            if self._keeps:
                (self.commands if self._flags & COMMAND else self._parts).append(self._begun)
                self._begun = bytearray()
            if not self._flags & (MORE | COMMAND):
                self._end_message()
        return stop

    def _end_message(self) -> None:
        self._number = self._size = 0
        self.count += 1
        if self._keeps:
            self.messages.append(self._parts)
            self._parts = []

    def _too_much(self, size: int) -> str:
        bounds = self._bounds
        if size > bounds.frame:
            return f"a part of {size:,} bytes, of which {bounds.frame:,} are allowed"
        if self._size > bounds.message:
            return f"a message of more than {bounds.message:,} bytes"
        return f"a message of more than {bounds.parts} parts"

    def _begin_command(self, flags: int, size: int) -> str:
        self._commands += 1
        if flags & ~(MORE | LONG | COMMAND):
            return f"a frame with unknown flags ({flags:#x})"
        if flags & MORE:
            return "a command of several parts"
        if size > self._bounds.command:
            return f"a command of {size:,} bytes, of which {self._bounds.command:,} are allowed"
        if self._commands > self._bounds.commands:
            return f"more than {self._bounds.commands:,} commands"
        return ""


def _check_greeting(greeting: bytes) -> str:
    if greeting[0] != 0xFF or greeting[9] & 1 != 1 or greeting[SIGNATURE_END] < 3:
        return "a greeting that is not ZMTP 3"
    return "" if greeting[12:32] == MECHANISM else "a greeting with another security mechanism than NULL"


def message(parts: Sequence[bytes]) -> bytes:
    """Return a message as it goes over the wire."""
    out = bytearray()
    last = len(parts) - 1
    for number, part in enumerate(parts):
        out += _head(MORE if number < last else 0, len(part))
        out += part
    return bytes(out)


def _head(flags: int, size: int) -> bytes:
    return bytes((flags, size)) if size < 256 else bytes((flags | LONG,)) + size.to_bytes(8, "big")


def command(name: bytes, data: bytes = b"") -> bytes:
    """Return a command as it goes over the wire."""
    body = bytes((len(name),)) + name + data
    return _head(COMMAND, len(body)) + body


def ready(properties: Mapping[bytes, bytes]) -> bytes:
    """Return the command that ends our half of a NULL handshake."""
    pairs = (bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value for name, value in properties.items())
    return command(b"READY", b"".join(pairs))


def read_command(body: Part) -> tuple[bytes, bytes]:
    """Return a command's name and its data. Raises ValueError where it has none."""
    end = 1 + body[0] if body else 0
    if not 1 < end <= len(body):
        raise ValueError("a command without a name")
    return bytes(body[1:end]), bytes(body[end:])


def read_properties(data: bytes) -> dict[bytes, bytes]:
    """Return the properties of a READY, their names in lower case. Raises ValueError where they are cut off."""
    properties, place = {}, 0
    while place < len(data):
        name_end = place + 1 + data[place]
        value_start = name_end + 4
        value_end = value_start + int.from_bytes(data[name_end:value_start], "big")
        if value_end > len(data) or name_end == place + 1:
            raise ValueError("properties that are cut off")
        properties[data[place + 1 : name_end].lower()] = data[value_start:value_end]
        place = value_end
    return properties
