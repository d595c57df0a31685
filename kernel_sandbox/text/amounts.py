"""Sizes and durations as people read them. Pure."""

from __future__ import annotations


def format_size(size: float) -> str:
    """Write a number of bytes as people read it: 1536 becomes "1.5 KB" (binary units)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def format_seconds(seconds: float) -> str:
    """Write a duration as people read it: "12 ms", "1.5 s", "2 min 05 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
