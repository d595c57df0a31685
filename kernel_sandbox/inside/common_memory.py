"""Memory that PID 1 has in common with the kernels that are forked from it: last words, and orders to fork a copy.

A kernel holds no descriptor whose other end is PID 1's, and nothing of this is a file: no cell can put anything in its
way. What stands here is the cells' as soon as one has run: PID 1 reads it as what anybody may have written.
"""

from __future__ import annotations

import json
import mmap
import signal
from typing import Any

COPY = signal.SIGRTMAX - 4
"""The signal that tells a kernel to read its order: one that no library uses for itself."""
KEPT, READ = 4096, 16 * 1024
MOST_KERNELS = 64
"""At a time, those included that wait as copies."""
_SLOT = KEPT + READ + 4096 - (KEPT + READ) % 4096
_ORDER, _TOLD = 16 * 1024, 256
_WORDS = MOST_KERNELS * _SLOT
"""Bytes of all slots. Behind them is one for each kernel: what it has still to do."""
_OVER, _ENDING = 1, 2
_words: Any = mmap.mmap(-1, _WORDS + MOST_KERNELS)
_orders: Any = mmap.mmap(-1, _ORDER + 2 * _TOLD)
_own_slot = 0


def forget() -> None:
    """Have none, in a process from which whole sandboxes are forked: they would have it in common."""
    global _words, _orders
    _words.close()
    _orders.close()
    _words = _orders = None


def renew() -> None:
    """Make it for the sandbox whose PID 1 this process is now."""
    global _words, _orders
    _words, _orders = mmap.mmap(-1, _WORDS + MOST_KERNELS), mmap.mmap(-1, _ORDER + 2 * _TOLD)


def words(slot: int) -> memoryview:
    """Return the last that a kernel read of its standard error, and behind it what it has read just now."""
    return memoryview(_words)[slot * _SLOT : slot * _SLOT + KEPT + READ]


def set_over(over: bool, slot: int | None = None) -> None:
    """Note whether this kernel has nothing more to do; PID 1 names the slot of one that is to begin."""
    _words[_WORDS + (_own_slot if slot is None else slot)] = _OVER if over else 0


def is_over(slot: int) -> bool:
    """Return whether a kernel has said that it has nothing more to do."""
    return int(_words[_WORDS + slot]) == _OVER


def set_ending() -> None:
    """Note that this kernel's interpreter is being taken apart, for which PID 1 waits longer."""
    _words[_WORDS + _own_slot] = _ENDING


def is_ending(slot: int) -> bool:
    """Return whether a kernel has said that it is being taken apart."""
    return int(_words[_WORDS + slot]) == _ENDING


def use(slot: int) -> None:
    """Keep the words of this process in this slot from now on."""
    global _own_slot
    _own_slot = slot


def own_words() -> memoryview:
    """Return this kernel's own."""
    return words(_own_slot)


def keep_words(said: bytes) -> None:
    """Add to the last words of this kernel."""
    kept = own_words()[:KEPT]
    kept[:] = (bytes(kept).rstrip(b"\0") + said)[-KEPT:].ljust(KEPT, b"\0")


def order(value: dict[str, Any] | None) -> None:
    """Leave an order for a kernel, which a signal tells it to read; None takes it back. By PID 1."""
    text = json.dumps(value).encode() if value is not None else b""
    if len(text) > _ORDER:
        raise ValueError("an order that is too long")
    _orders[_ORDER:] = bytes(2 * _TOLD)
    _orders[:_ORDER] = text.ljust(_ORDER, b"\0")


def ordered(pid: int) -> dict[str, Any] | None:
    """Return the order for the kernel with this id, if there is one. By that kernel."""
    value = _read(0, _ORDER)
    return value if value.get("source") == pid else None


def tell(which: int, **told: Any) -> None:
    """Answer an order: 0 is for how the fork went, 1 for what the copy says itself; each once. By kernels."""
    start = _ORDER + which * _TOLD
    _orders[start : start + _TOLD] = json.dumps(told).encode()[:_TOLD].ljust(_TOLD, b"\0")


def told(which: int) -> dict[str, Any]:
    """Return an answer, or nothing while there is none."""
    return _read(_ORDER + which * _TOLD, _TOLD)


def _read(start: int, size: int) -> dict[str, Any]:
    try:
        value = json.loads(_orders[start : start + size].rstrip(b"\0"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
