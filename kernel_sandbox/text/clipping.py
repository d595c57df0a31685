"""Texts cut to a size, each cut said where it is. Pure.

`shorten` and `one_line` are for names and titles, `keep_end` for what is watched while it grows; the others keep both
ends, since the reason of a failure stands at the end: `clip_text` to bytes, for what is stored, `clip_within` to
characters that a client asked for, `clip_lines` for a model, which pays for each and may ask for the rest.
"""

from __future__ import annotations

from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.utf8 import text_size


def shorten(text: str, width: int) -> str:
    """Cut a text to `width` characters, of which an ellipsis is the last where anything is missing."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def one_line(text: str, width: int) -> str:
    """Write a text on one line of at most `width` characters. It is not made visible here."""
    return shorten(" ".join(text.split()), width)


def keep_end(text: str, limit: int) -> str:
    """Keep the last `limit` characters of a text, and say above them how many are missing."""
    return text if len(text) <= limit else f"[{len(text) - limit:,} characters above are not shown]\n{text[-limit:]}"


def clip_text(text: str, limit: int) -> str:
    """Keep the head and the tail of a clean text longer than `limit` bytes, and say what was cut."""
    size = text_size(text)
    if size <= limit:
        return text
    raw, half = text.encode(), limit // 2
    head, tail = raw[:half].decode("utf-8", "ignore"), raw[-half:].decode("utf-8", "ignore")
    return f"{head}\n[kernel-sandbox: {format_size(size - 2 * half)} cut here]\n{tail}"


def clip_within(text: str, longest: int) -> str:
    """Keep a text's head and tail within `longest` characters, in which what is said of the cut counts, too."""
    if len(text) <= longest:
        return text
    marker = f"\n[kernel-sandbox: {len(text) - longest:,} of {len(text):,} characters and more cut here]\n"
    room = max(longest - len(marker), 0)
    return text[: room - room // 2] + marker + (text[-(room // 2) :] if room // 2 else "")


def clip_lines(text: str, line: int, total: int, rest: str) -> str:
    """Cap every line and the whole, in characters, and keep both ends of each; `rest` says how to see what is cut."""
    if len(text) > line:
        text = "\n".join(_clip_line(each, line) for each in text.split("\n"))
    if len(text) <= total:
        return text
    head = text[: total * 2 // 3]
    tail = text[-(total // 3) :]
    if "\n" in head[len(head) // 2 :]:
        head = head[: head.rindex("\n")]
    if "\n" in tail[: len(tail) // 2]:
        tail = tail[tail.index("\n") + 1 :]
    cut = len(text) - len(head) - len(tail)
    return f"{head}\n[… {cut:,} of {len(text):,} characters cut here. To see the rest, {rest} …]\n{tail}"


def _clip_line(line: str, limit: int) -> str:
    if len(line) <= limit:
        return line
    head, tail = limit * 3 // 4, limit // 4
    return f"{line[:head]}[… {len(line) - head - tail:,} characters of this line cut …]{line[-tail:]}"
