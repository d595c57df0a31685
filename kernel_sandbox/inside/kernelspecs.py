"""The kernels that an image has, as their kernelspecs describe them: the command, its environment, how it speaks.

Part of PID 1. What it reads lies in the image, which is read-only.
"""

from __future__ import annotations

import json
import os
import re
import string
import sys
from collections.abc import Mapping
from typing import Any

OURS = {
    "name": "python3",
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "interrupt_mode": "message",
}
"""What is told of a kernel that the zygote forks."""
WITHOUT_UNIX_SOCKETS = ("deno", "java", "evcxr_jupyter", "gonb")
"""Programs whose ZeroMQ knows TCP alone: Rust's, Go's and Java's."""
LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Kernelspec:
    """One kernel.json of the image, as jupyter_client reads them (jupyter_client.kernelspec)."""

    def __init__(self, name: str, directory: str, document: Mapping[str, Any]) -> None:
        self.name, self._directory, self._document = name, directory, document
        if not document.get("argv") or not all(isinstance(part, str) for part in document["argv"]):
            raise LookupError(f"the kernelspec {name!r} of the image names no command")

    def command(self, connection_file: str) -> list[str]:
        """Return its command for a connection file."""
        places = {"{connection_file}": connection_file, "{resource_dir}": self._directory}
        return [_filled(part, places) for part in self._document["argv"]]

    def environment(self, below: Mapping[str, str]) -> dict[str, str]:
        """Return its variables; they may name those `below` as ${NAME}."""
        told = self._document.get("env")
        variables = told if isinstance(told, dict) else {}
        places = {"{resource_dir}": self._directory}
        filled = {str(name): _filled(str(value), places) for name, value in variables.items()}
        return {name: string.Template(value).safe_substitute(below) for name, value in filled.items()}

    @property
    def speaks_tcp(self) -> bool:
        """Whether it listens on ports of the loopback, as it cannot bind unix sockets."""
        metadata = self._document.get("metadata")
        told = metadata.get("transport") if isinstance(metadata, dict) else None
        return bool(told == "tcp" or os.path.basename(self._document["argv"][0]) in WITHOUT_UNIX_SOCKETS)

    def facts(self) -> dict[str, str]:
        """Return what the host is told of it."""
        mode = "message" if self._document.get("interrupt_mode") == "message" else "signal"
        named = {key: str(self._document.get(key) or self.name)[:LONGEST] for key in ("display_name", "language")}
        return {"name": self.name, **named, "interrupt_mode": mode}


def _filled(text: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text


def _folders() -> list[str]:
    return [os.path.join(prefix, "share/jupyter/kernels") for prefix in (sys.prefix, "/usr/local", "/usr")]


def names() -> list[str]:
    """Name the kernelspecs of the image."""
    found = set()
    for folder in _folders():
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        found |= {name for name in entries if os.path.isfile(os.path.join(folder, name, "kernel.json"))}
    return sorted(found)


def find(name: str | None) -> Kernelspec:
    """Return the kernelspec of this name, or the only one that the image has. Raises LookupError.

    An absolute path is the directory of one elsewhere, in a mount say.
    """
    if name is not None and os.path.isabs(name) and _NAME.fullmatch(os.path.basename(name)):
        return _read(os.path.basename(name), name)
    there = names()
    listed = ", ".join(there)
    if name is None:
        if len(there) != 1:
            more = f"several kernels ({listed}): say which with kernel=" if there else "no Jupyter kernel"
            raise LookupError(f"the image has {more}")
        name = there[0]
    if name not in there or not _NAME.fullmatch(name):
        has = f"it has {listed}" if there else f"looked in {', '.join(_folders())}"
        raise LookupError(f"the image has no Jupyter kernel named {name!r} ({has})")
    directory = next(
        path
        for path in (os.path.join(folder, name) for folder in _folders())
        if os.path.isfile(os.path.join(path, "kernel.json"))
    )
    return _read(name, directory)


def _read(name: str, directory: str) -> Kernelspec:
    try:
        with open(os.path.join(directory, "kernel.json"), encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as exc:
        raise LookupError(f"the kernelspec {name!r} of the image cannot be read ({exc})") from None
    if not isinstance(document, dict):
        raise LookupError(f"the kernelspec {name!r} of the image is no JSON object")
    return Kernelspec(name, directory, document)
