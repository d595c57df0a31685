"""Pictures in bundles, by their bytes."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.agents.vision import is_showable
from kernel_sandbox.doors.http.cell_views import view_cell
from kernel_sandbox.doors.magic.bundles import safe_bundle
from kernel_sandbox.doors.mcp.cell_answers import choose_pictures
from kernel_sandbox.session.outputs import DisplayData, picture_of
from kernel_sandbox.session.outputs.pictures import read_picture

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x06"
GIF = b"GIF89a" + struct.pack("<HH", 3, 2) + b"\0\0"
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 20, 30) + b"\x01"
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="12pt" height="7" viewBox="0 0 1 1"/>'


@pytest.mark.parametrize(
    ("kind", "data", "size"),
    [
        ("image/png", PNG, (640, 480)),
        ("image/gif", GIF, (3, 2)),
        ("image/jpeg", JPEG, (30, 20)),
        ("image/webp", WEBP, (100, 50)),
    ],
)
def test_picture_has_the_size_that_its_bytes_say(kind: str, data: bytes, size: tuple[int, int]) -> None:
    picture = picture_of({"text/plain": "x", kind: base64.b64encode(data).decode()})
    assert picture is not None
    assert (picture.kind, picture.data, (picture.width, picture.height)) == (kind, data, size)
    assert picture_of({kind: base64.b64encode(b"no picture at all, but long enough").decode()}) is None
    assert picture_of({kind: "é"}) is None


def test_picture_may_be_svg_text() -> None:
    picture = picture_of({"image/svg+xml": SVG.decode()})
    assert picture is not None
    assert (picture.width, picture.height) == (12, 7)


@given(st.binary(max_size=60), st.sampled_from([PNG, GIF, JPEG, WEBP]), st.integers(0, 40))
def test_picture_of_any_bytes_raises_nothing(tail: bytes, head: bytes, kept: int) -> None:
    encoded = base64.b64encode(head[:kept] + tail).decode()
    for kind in ("image/png", "image/gif", "image/jpeg", "image/webp"):
        picture_of({kind: encoded})


@pytest.mark.parametrize(
    ("kind", "data"), [("image/png", PNG), ("image/gif", GIF), ("image/jpeg", JPEG), ("image/webp", WEBP)]
)
def test_kind_of_picture_is_one_at_every_door(kind: str, data: bytes) -> None:
    bundle = {kind: base64.b64encode(data).decode(), "text/plain": "x"}
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1}
    outputs = [{"output_type": "display_data", "data": bundle, "metadata": {}}]
    picture = read_picture(data)
    assert picture is not None
    assert picture == picture_of(bundle)
    assert is_showable(picture)
    assert safe_bundle(bundle, {}, "text")[0] == bundle
    assert choose_pictures([DisplayData(bundle, {})])[1] == {0: picture}
    assert view_cell(cell | {"outputs": outputs})["outputs"][0]["picture"] == f"data:{kind};base64,{bundle[kind]}"


def test_svg_is_a_picture_but_none_that_clients_and_models_are_sent() -> None:
    picture = picture_of({"image/svg+xml": SVG.decode()})
    assert picture is not None
    assert read_picture(SVG) is None
    assert not is_showable(picture)
    assert choose_pictures([DisplayData({"image/svg+xml": SVG.decode()}, {})])[1] == {0: None}
