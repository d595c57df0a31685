"""Pictures in MIME bundles: of which kinds, what they hold and how large they are. Pure.

Nothing is believed: a picture is one by its first bytes, never by what its MIME type says.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.text.amounts import format_size

# png first: PIL offers a png and a jpeg of the same picture, and the png has lost nothing.
PICTURE_SUFFIXES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
}
SVG = "image/svg+xml"
RASTERS = tuple(kind for kind in PICTURE_SUFFIXES if kind != SVG)
"""Kinds in which nothing can run: what clients and models take, and a page shows as they are."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture and its measures."""

    kind: str
    """The media type."""
    data: bytes
    width: int
    height: int
    """Pixels; for svg, what it says of itself, or 0."""

    def __str__(self) -> str:
        """Describe it: "image/png, 640×480 pixels, 23.4 KB"."""
        return f"{self.kind}, {self.width}×{self.height} pixels, {format_size(len(self.data))}"


def data_url(kind: str, data: bytes) -> str:
    """Write a picture as an address that holds it (RFC 2397)."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_of(bundle: Mapping[str, Any]) -> Picture | None:
    """Find the picture of a MIME bundle; None where there is none, or where it is not what it says."""
    for kind in PICTURE_SUFFIXES:
        value = bundle.get(kind)
        if isinstance(value, str) and (data := picture_bytes(kind, value)) is not None and (size := _SIZES[kind](data)):
            return Picture(kind, data, *size)
    return None


def has_picture(bundle: Mapping[str, Any]) -> bool:
    """Whether a bundle says that it has a picture."""
    return any(kind in bundle for kind in PICTURE_SUFFIXES)


def read_picture(content: bytes) -> Picture | None:
    """Read a file as a picture of one of RASTERS; None where it is none."""
    found = ((kind, _SIZES[kind](content)) for kind in RASTERS)
    return next((Picture(kind, content, *size) for kind, size in found if size), None)


def picture_bytes(kind: str, value: str) -> bytes | None:
    """Decode the value of a picture in a MIME bundle, whatever it holds; None where it is not base64."""
    if kind == SVG:
        return value.encode("utf-8", "replace")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


Size = tuple[int, int]


def _png(data: bytes) -> Size | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _gif(data: bytes) -> Size | None:
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 10:
        return None
    width, height = struct.unpack("<HH", data[6:10])
    return width, height


def _jpeg(data: bytes) -> Size | None:
    """Walk the segments to the frame header (ITU T.81, B.2.2)."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        place += 2 + max(length, 2)
    return None


def _webp(data: bytes) -> Size | None:
    """Read the size from the first chunk (RFC 9649, section 2)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _svg(data: bytes) -> Size | None:
    found = re.search(rb"<svg\b[^>]{0,4000}>", data[:20_000])
    if found is None:
        return None
    sides = [re.search(rb"\s" + name + rb"\s*=\s*[\"'](\d{1,6})", found[0]) for name in (b"width", b"height")]
    box = re.search(rb"viewBox\s*=\s*[\"']\S+\s+\S+\s+(\d{1,6})\S*\s+(\d{1,6})", found[0])
    if sides[0] and sides[1]:
        return int(sides[0][1]), int(sides[1][1])
    return (int(box[1]), int(box[2])) if box else (0, 0)


_SIZES = {"image/png": _png, "image/jpeg": _jpeg, "image/gif": _gif, "image/webp": _webp, "image/svg+xml": _svg}
