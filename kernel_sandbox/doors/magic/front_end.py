"""Where a magic shows things: the front end of the shell that it runs in.

Knows the shell by its `display_pub` alone. A notebook (ipykernel) takes MIME bundles and updates them in place; plain
IPython has a terminal, which shows text and cannot take it back.
"""

from __future__ import annotations

import sys
from typing import Any

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""A MIME bundle and its metadata."""


class Front:
    """The front end of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.rich = hasattr(shell, "kernel")
        """Whether MIME bundles are shown, and can be updated."""

    def write(self, text: str, name: str = "stdout") -> None:
        """Write to one of the cell's streams, at once: ipykernel would gather for 0.2 s."""
        stream = sys.stderr if name == "stderr" else sys.stdout
        stream.write(text)
        stream.flush()

    def say(self, text: str) -> None:
        """Write a line of our own."""
        self.write(f"{text}\n")

    def publish(self, bundle: Bundle, display_id: str | None = None, *, update: bool = False) -> None:
        """Show a bundle, or change the one that was shown under `display_id`. Whoever calls has made it safe."""
        data, metadata = bundle
        transient = {"display_id": display_id} if display_id else {}
        self._shell.display_pub.publish(data, metadata, transient=transient, update=update)

    def clear(self, *, wait: bool) -> None:
        """Take back what the cell has shown; `wait`: only when the next output comes."""
        if self.rich:
            self._shell.display_pub.clear_output(wait)
