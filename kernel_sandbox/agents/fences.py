"""Code out of the fences of Markdown that models put around it. Pure."""

from __future__ import annotations

import re

_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})[ \t]*([\w.+#-]*)[ \t]*")


def unfence(code: str) -> str:
    """Take Markdown's fences from around code, where it is fenced as a whole; all else is left as it is."""
    lines = code.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    opening = _FENCE.fullmatch(lines[filled[0]].rstrip("\r")) if filled else None
    if opening is None:
        return code
    body = lines[filled[0] + 1 :]
    closings = [number for number, line in enumerate(body) if _closes(line, opening[1])]
    if closings and not any(line.strip() for line in body[closings[-1] + 1 :]):
        return "\n".join(body[: closings[-1]])
    return "\n".join(body[: closings[0]] if closings else body)


def _closes(line: str, opening: str) -> bool:
    """Return whether a line closes a fence (CommonMark 0.31, section 4.5): as long, the same, and bare."""
    closing = _FENCE.fullmatch(line.rstrip("\r"))
    return bool(closing and not closing[2] and closing[1][0] == opening[0] and len(closing[1]) >= len(opening))
