"""Texts as UTF-8: what cannot be written so, sizes in bytes, and cuts between two characters. Pure."""

from __future__ import annotations

_STAND_INS = "\x00\x01\x02\ufdd0"
"""One of them takes the place of "?" while a text is cleaned; the last is no character, and nobody misses it."""


def clean_text(value: str) -> str:
    """Replace lone surrogates, which no file and no socket can take, by U+FFFD."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        # "replace" writes a "?" at the speed of memory. One by one, two million of them hold everybody up for 0.5 s.
        stand_in = next((each for each in _STAND_INS if each not in value), _STAND_INS[-1])
        marked = value.replace("?", stand_in).encode("utf-8", "replace").decode()
        return marked.replace("?", "\ufffd").replace(stand_in, "?")
    return value


def text_size(value: str) -> int:
    """Measure a clean text: its bytes as UTF-8."""
    return len(value) if value.isascii() else len(value.encode())


def text_head(value: str, size: int) -> str:
    """Cut a clean text to at most `size` bytes of UTF-8, between two characters."""
    return value.encode()[:size].decode("utf-8", "ignore")
