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

Message = dict[str, Any]
"""channel-independent: msg_type, parent (the id of the request, or ""), content, date (a datetime, or None)."""

DELIMITER = b"<IDS|MSG>"
MOST_IDENTITIES = 4
SMALL_PART = 64 * 1024
"""Bytes of a header, a parent header, or a signature: an honest one has a few hundred."""
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
_NOT_READ = "comm_open comm_msg comm_close debug_event debug_reply usage_reply comm_info_reply"
IGNORED = frozenset(_NOT_READ.split())
"""What an honest kernel may send and nobody here reads."""


class InvalidMessage(ValueError):
    """What no honest kernel sends. The text says why, in words of ours."""


def read_message(channel: str, frames: Sequence[bytes], key: bytes) -> Message | None:
    """Read a message of a channel; None for an honest one that is not for us. Raises InvalidMessage."""
    signature, *parts = _signed_parts(frames)
    expected = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts[:4]:
        expected.update(part)
    if not hmac.compare_digest(expected.hexdigest().encode(), signature):
        raise InvalidMessage("a signature that is not its own")
    header, parent, content = (_object(part) for part in (parts[0], parts[1], parts[3]))
    kind, request = header.get("msg_type"), parent.get("msg_id")
    if not isinstance(kind, str):
        raise InvalidMessage("a message without a type")
    if kind in IGNORED:
        return None
    if kind not in TYPES[channel]:
        raise InvalidMessage(f"a message of an unknown type on {channel}")
    parent_id = request if isinstance(request, str) else ""
    return {"msg_type": kind, "parent": parent_id, "content": content, "date": _date(header.get("date"))}


def _signed_parts(frames: Sequence[bytes]) -> Sequence[bytes]:
    """Return the signature and what follows it."""
    for place, frame in enumerate(frames[: MOST_IDENTITIES + 1]):
        if frame == DELIMITER:
            parts = frames[place + 1 :]
            if len(parts) < 5:
                raise InvalidMessage("a message of too few parts")
            if any(len(part) > SMALL_PART for part in parts[:3]):
                raise InvalidMessage("a header of more than 64 KB")
            return parts
    raise InvalidMessage("a message without the delimiter")


def _object(part: bytes) -> dict[str, Any]:
    try:
        value = json.loads(part)
    except (ValueError, RecursionError) as exc:
        raise InvalidMessage("a part that is not JSON") from exc
    if not isinstance(value, dict):
        raise InvalidMessage("a part that is not a JSON object")
    return value


def _date(value: Any) -> datetime | None:
    if isinstance(value, str) and len(value) < 100:
        with contextlib.suppress(ValueError):
            date = datetime.fromisoformat(value)
            return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return None
