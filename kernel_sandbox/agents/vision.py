"""What a model may be shown: which models take pictures, which pictures, and how many. Pure."""

from __future__ import annotations

import re

from kernel_sandbox.session.outputs import RASTERS, Picture

MAX_PICTURES = 4
"""In one message, and in all of a conversation: each is paid for again with every request."""
MAX_ENCODED = 4 * 1024 * 1024
"""Bytes of one picture in base64."""

# Families that take pictures, by how their names begin, and the members that do not.
_SEEING = re.compile(r"(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|o1|o3|o4-mini|claude|gemini)(?![a-z0-9])")
_BLIND = re.compile(
    r"o1-(?:mini|preview)|o3-mini|gpt-4o(?:-mini)?-(?:audio|realtime|transcribe|tts|search)"
    r"|claude-(?:instant|v?[12])(?![a-z0-9])|gemini-embedding"
)


def takes_pictures(model_name: str) -> bool:
    """Return whether a model takes pictures, by its name; False for a name that is not known.

    A provider's prefix ("openai/gpt-4o") and that of a fine-tuned model ("ft:gpt-4o:…") make no difference.
    """
    name = model_name.strip().lower().rpartition("/")[2].removeprefix("ft:")
    return _SEEING.match(name) is not None and _BLIND.match(name) is None


def is_showable(picture: Picture) -> bool:
    """Return whether a model can be shown a picture: of a kind that servers take, and not too large. Never svg."""
    return picture.kind in RASTERS and -(-len(picture.data) // 3) * 4 <= MAX_ENCODED
