"""The texts of a WebSocket's messages, none longer than clients take: many refuse more than 1 MiB. Pure.

A long stream becomes several outputs, as streams come in pieces anyway. Any other long message is sent as parts, one
after the other and with nothing between them:

    {"type": "part", "id": "1", "part": 1, "parts": 3, "text": "…"}

The texts of all parts, joined, are the JSON of the message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 1024**2 - 1024
"""Bytes of a message. The default of Python's `websockets`, and of others, is 1 MiB."""
PIECE = LONGEST // 2 - 512
"""Characters of a part's text: each may need a backslash before it. What is around it has less than 1 KB."""
STREAM_PIECE = LONGEST // 12 - 128
"""Characters of a stream's text: each may need 12 bytes, as those beyond U+FFFF do."""


def texts_of(message: Mapping[str, Any]) -> Iterator[str]:
    """Write a message as one text or more, each within LONGEST bytes."""
    whole = _dumps(message)
    if len(whole) <= LONGEST:
        yield whole
    elif (output := message.get("output", {})).get("output_type") == "stream":
        text = output["text"]
        for start in range(0, len(text), STREAM_PIECE):
            piece = text[start : start + STREAM_PIECE]
            yield _dumps({**message, "output": {**output, "text": piece}})
    else:
        pieces = [whole[start : start + PIECE] for start in range(0, len(whole), PIECE)]
        for number, piece in enumerate(pieces, 1):
            yield _dumps({"type": "part", "id": message["id"], "part": number, "parts": len(pieces), "text": piece})


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))  # ASCII only: as many bytes as characters
