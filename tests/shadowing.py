"""A working directory whose modules have the names of ours and of the standard library's, and tell of their import."""

from __future__ import annotations

from pathlib import Path

NAMES = (
    "argparse",
    "asyncio",
    "compileall",
    "json",
    "kernel_sandbox",
    "nbformat",
    "pip",
    "signal",
    "socket",
    "zipfile",
)


def shadow(directory: Path) -> Path:
    """Put the modules there, and return the file in which each writes its name."""
    canary = directory / "canary"
    for name in NAMES:
        source = f"with open({str(canary)!r}, 'a') as file:\n    file.write('{name} ')\nraise ImportError('{name}')\n"
        (directory / f"{name}.py").write_text(source)
    return canary
