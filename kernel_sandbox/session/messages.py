"""Kernel messages as they come off the wire: hostile frames in, bounded well-formed messages out, or a refusal. Pure.

The layout is the Jupyter messaging protocol's wire protocol (jupyter-client.readthedocs.io, "Messaging in Jupyter"):
identities, `<IDS|MSG>`, a signature, then header, parent header, metadata and content as JSON, then buffers. Only what
this package uses is let through: unknown types, comms, buffers and metadata stay out. `outputs` cleans what is shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kernel_sandbox.sandbox.zmtp import Part

Message = dict[str, Any]
"""channel-independent: msg_type, parent (the id of the request, or ""), content, date (a datetime, or None)."""

DELIMITER = b"<IDS|MSG>"
MOST_IDENTITIES = 4
SMALL_PART = 64 * 1024
"""Bytes of a header, a parent header, or a signature: an honest one has a few hundred."""
MOST_VALUES = 400_000
"""Values of a content, a text counting as four and a list or an object as eight: `[],` is 3 bytes, and takes 64 and a
microsecond here."""
LARGE_PART = 256 * 1024
MOST_HOPS = 2000
"""Texts of a large content, past which its bytes are counted instead."""
BACKSLASH = ord("\\")
MOST_PAYLOADS = 100
"""Pages that one execute_reply may show."""
_SHOWN = """
status stream display_data update_display_data execute_result execute_input error clear_output iopub_welcome
"""
_REPLIES = "execute_reply complete_reply inspect_reply is_complete_reply kernel_info_reply history_reply"
TYPES = {
    "iopub": frozenset(_SHOWN.split()),
    "shell": frozenset(_REPLIES.split()),
    "control": frozenset(["interrupt_reply", "shutdown_reply", "kernel_info_reply"]),
    "stdin": frozenset(["input_request"]),
}
_DISPLAYS = frozenset(["display_data", "execute_result", "update_display_data"])
_NOT_READ = """
comm_open comm_msg comm_close debug_event debug_reply usage_reply comm_info_reply connect_reply shutdown_reply
create_subshell_reply delete_subshell_reply list_subshell_reply
"""
IGNORED = frozenset(_NOT_READ.split())
"""What an honest kernel may send and nobody here reads."""


class InvalidMessage(ValueError):
    """What no honest kernel sends. The text says why, in words of ours."""

    parent = ""
    """The id of the request that it belongs to, where that can be read."""


class _Unreadable(InvalidMessage):
    """A part that is too deep or too long for this process. Honest kernels write such displays, errors and replies."""


def read_message(channel: str, frames: Sequence[Part], key: bytes) -> Message | None:
    """Read a message of a channel; None for an honest one that is not for us. Raises InvalidMessage."""
    signature, *parts = _signed_parts(frames)
    request = _object(parts[1]).get("msg_id")
    parent = request if isinstance(request, str) else ""
    try:
        return _read_signed(channel, signature, parts, parent, key)
    except InvalidMessage as exc:
        exc.parent = parent
        raise


def refused_reply(refused: InvalidMessage) -> Message:
    """Make what stands for a reply that was refused: nothing better will come."""
    why = f"The kernel's reply to the cell could not be read ({refused}). The cell ran; its variables are kept."
    content = {"status": "error", "ename": "ProtocolViolation", "evalue": why, "traceback": []}
    return {"msg_type": "execute_reply", "parent": refused.parent, "content": content, "date": None}


def _read_signed(channel: str, signature: Part, parts: Sequence[Part], parent: str, key: bytes) -> Message | None:
    if not hmac.compare_digest(_signature(key, parts[:4]), signature):
        raise InvalidMessage("a signature that is not its own")
    header = _object(parts[0])
    kind = header.get("msg_type")
    if not isinstance(kind, str):
        raise InvalidMessage("a message without a type")
    if kind not in TYPES[channel]:
        if kind in IGNORED:
            return None
        raise InvalidMessage(f"a message of an unknown type on {channel}")
    content, date = _content(kind, parts[3]), _date(header.get("date"))
    return {"msg_type": kind, "parent": parent, "content": content, "date": date}


def _signature(key: bytes, parts: Sequence[Part]) -> bytes:
    if len(parts[3]) < LARGE_PART:
        return hmac.digest(key, b"".join(parts), "sha256").hex().encode()  # in one call; a large part is not copied
    expected = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        expected.update(part)
    return expected.hexdigest().encode()


def _content(kind: str, part: Part) -> dict[str, Any]:
    try:
        if _values(part) > MOST_VALUES:
            raise _Unreadable(f"more than {MOST_VALUES:,} values")
        content = _object(part)
    except _Unreadable as exc:
        return _notice(kind, exc)
    if isinstance(content.get("payload"), list):
        del content["payload"][MOST_PAYLOADS:]
    return content


def _notice(kind: str, unreadable: _Unreadable) -> dict[str, Any]:
    """Return what stands for an unreadable content. Raises InvalidMessage where no honest one is like that."""
    if kind in _DISPLAYS:
        return {"data": {"text/plain": f"[kernel-sandbox: an output of {unreadable} is not shown]"}}
    if kind != "error" and not kind.endswith("_reply"):
        raise unreadable
    text = f"[kernel-sandbox: {'an error' if kind == 'error' else 'a reply'} of {unreadable} is not shown]"
    return {"status": "error", "ename": "Error", "evalue": text, "traceback": []}


def _values(part: Part) -> int:
    """Count about how many values a JSON text has, before any is made; what stands in its texts does not count."""
    if len(part) > LARGE_PART and (outside := _count_outside_texts(part)) is not None:
        return outside
    if (count := _count(part)) <= MOST_VALUES:
        return count
    texts = part.replace(b"\\\\", b"").replace(b'\\"', b"")
    if (quotes := texts.count(b'"')) > MOST_VALUES:
        return count
    return 2 * quotes + _count(b"".join(texts.split(b'"')[::2]))


def _count_outside_texts(part: Part) -> int | None:
    """Count so by going from quote to quote: a picture of 27 MB in 2 ms, not 27. None where there are too many."""
    count = place = 0
    for _ in range(MOST_HOPS):
        start = part.find(b'"', place)
        if start < 0:
            return count + _count(part[place:])
        count += _count(part[place:start]) + 4
        end = part.find(b'"', start + 1)
        if end < 0 or part[end - 1] == BACKSLASH:  # no JSON, or an escape, whose kind the slower way tells
            return None
        place = end + 1
    return None


def _count(part: Part) -> int:
    return part.count(b",") + 2 * part.count(b'"') + 8 * (part.count(b"[") + part.count(b"{"))


def _signed_parts(frames: Sequence[Part]) -> Sequence[Part]:
    """Return the signature and what follows it."""
    for place, frame in enumerate(frames[: MOST_IDENTITIES + 1]):
        if frame == DELIMITER:
            parts = frames[place + 1 :]
            if len(parts) < 5:
                raise InvalidMessage("a message of too few parts")
            if max(map(len, parts[:3])) > SMALL_PART:
                raise InvalidMessage("a header of more than 64 KB")
            return parts
    raise InvalidMessage("a message without the delimiter")


def _object(part: Part) -> dict[str, Any]:
    try:
        # As jupyter_client reads: its packer writes what a file name could not decode as the bytes that it was.
        value = json.loads(part.decode("utf-8", "replace"))
    except json.JSONDecodeError as exc:
        raise InvalidMessage("a part that is not JSON") from exc
    except RecursionError as exc:
        raise _Unreadable("JSON that nests too deeply") from exc
    except ValueError as exc:  # sys.set_int_max_str_digits
        raise _Unreadable("an integer of more than 4,300 digits") from exc
    if not isinstance(value, dict):
        raise InvalidMessage("a part that is not a JSON object")
    return value


def _date(value: Any) -> datetime | None:
    if isinstance(value, str) and len(value) < 100:
        with contextlib.suppress(ValueError):
            date = datetime.fromisoformat(value)
            return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return None
