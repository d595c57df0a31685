"""What a page, or a frame in one, may do because of a sandbox's HTML: nothing. The wall behind what cleans it."""

from __future__ import annotations

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)
"""No script, no plug-in, no frame, no request (https://www.w3.org/TR/CSP3/)."""
POLICY_TAGS = (
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="referrer" content="no-referrer">\n'
)
"""How a document says so itself: before all that is a sandbox's."""
