"""The outputs of a cell as one MIME bundle that a notebook on the host may show. Pure.

A notebook trusts what its own kernel shows, so nothing of the sandbox's goes into the page as it came: text is escaped
and has nothing hidden in it, pictures stand within <img> (no scripts, no loading), and HTML and JavaScript are left
out in favour of their text. What is shown stays small, for it is saved with the user's own notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kernel_sandbox.session.outputs.pictures import Picture, data_url
from kernel_sandbox.text.ansi import clean_terminal_text, plain_text
from kernel_sandbox.text.clipping import clip_text
from kernel_sandbox.text.lines import last_states

MAX_TEXT = 32 * 1024
"""Bytes of text, of all outputs together; head and tail stay."""
MAX_PICTURES = 8 * 1024 * 1024
"""Bytes of pictures; those beyond are named."""
MAX_BLOCKS = 100
"""Texts and pictures that alternate; those beyond are counted."""
LEAST_TEXT = 256
"""Bytes that a text gets where those before it have used the room up."""


def image_element(kind: str, data: bytes, alt: str) -> str:
    """Write a picture as HTML; within <img> SVG too runs no script and loads nothing.

    https://svgwg.org/svg2-draft/conform.html#secure-static-mode
    """
    return f'<img alt="{alt}" style="max-width:100%" src="{data_url(kind, data)}">'


def shown_bundle(text: str, blocks: Sequence[str | Picture]) -> dict[str, str]:
    """Make the bundle of all that a cell showed, as text and as `blocks` in order. Only pictures need HTML."""
    bundle = {"text/plain": clean_terminal_text(last_states(clip_text(text, MAX_TEXT)))}
    if any(isinstance(block, Picture) for block in blocks):
        bundle["text/html"] = _page(blocks)
    return bundle


def _page(blocks: Sequence[str | Picture]) -> str:
    made, text_left, pictures_left = [], MAX_TEXT, MAX_PICTURES
    for block in blocks[:MAX_BLOCKS]:
        if isinstance(block, Picture) and len(block.data) <= pictures_left:
            pictures_left -= len(block.data)
            made.append(f"<div>{image_element(block.kind, block.data, 'Picture of the sandbox')}</div>")
        else:
            said = f"[{block}: not shown here]" if isinstance(block, Picture) else block
            clipped = clip_text(said, max(text_left, LEAST_TEXT))
            text_left -= len(clipped)
            made.append(f"<pre>{escape(plain_text(clipped))}</pre>")
    if len(blocks) > MAX_BLOCKS:
        made.append(f"<pre>[{len(blocks) - MAX_BLOCKS} more: not shown here]</pre>")
    return "\n".join(made)
