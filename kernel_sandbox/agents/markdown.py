"""A model's answer as Markdown that is safe to show: in a notebook, nothing in it is fetched or run by itself.

A model repeats what it has read, and a hostile file may have told it to write a picture whose address carries the
user's data away: a browser fetches pictures and frames without being asked. Links stay, for they wait for a click.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`)", re.DOTALL)
_PICTURE = re.compile(r"!(?=\[)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])(?!https?://|mailto:)")


def safe_markdown(text: str) -> str:
    """Return the text with pictures made links and HTML made text; what stands in code is left as it is."""
    parts = _CODE.split(text)
    return "".join(part if place % 2 else _TAG.sub("&lt;", _PICTURE.sub("", part)) for place, part in enumerate(parts))
