"""What the command line makes of bundles: tables, pictures, and where pictures are kept. No sandbox needed."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from kernel_sandbox.cli.console import fold
from kernel_sandbox.cli.pictures import PictureFolder, picture_of
from kernel_sandbox.cli.prompt import is_complete
from kernel_sandbox.cli.tables import fitting_table, read_table

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x06"
GIF = b"GIF89a" + struct.pack("<HH", 3, 2) + b"\0\0"
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 20, 30) + b"\x01"
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="12pt" height="7" viewBox="0 0 1 1"/>'


def table(*rows: dict[str, Any], key: list[str] | None = None) -> dict[str, Any]:
    fields = [{"name": name, "type": "any"} for name in rows[0]]
    return {"schema": {"fields": fields, "primaryKey": key or []}, "data": list(rows)}


def test_table_columns_are_written_as_pandas_writes_them() -> None:
    rows: list[dict[str, Any]] = [
        {"index": 0, "x": 0.5, "when": "2026-01-02T00:00:00.000"},
        {"index": 1, "x": 12, "when": None},
    ]
    columns = read_table(table(*rows, key=["index"]))
    assert columns is not None
    assert [(column.name, column.values, column.is_number, column.is_index) for column in columns] == [
        ("", ("0", "1"), True, True),
        ("x", ("0.5", "12.0"), True, False),
        ("when", ("2026-01-02", "NaN"), False, False),
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1 / 3, 2.0], ("0.333333", "2.000000")),
        ([1e-7, 1.0], ("1e-07", "1")),
        ([None, 2.5], ("NaN", "2.5")),
        ([True, False], ("True", "False")),
        ([2**1023, 0.5], (str(2**1023), "0.5")),
        (["a\x1b[2J", "b\nc"], ("a␛[2J", "b\\nc")),
    ],
)
def test_table_values_are_short_and_harmless(values: list[Any], shown: tuple[str, ...]) -> None:
    columns = read_table(table(*({"x": value} for value in values)))
    if len(max(shown, key=len)) > 60:
        assert columns is None
    else:
        assert columns is not None
        assert columns[0].values == shown


@given(json_values)
def test_table_of_anything_is_none_or_sound(value: Any) -> None:
    columns = read_table({"schema": {"fields": value, "primaryKey": value}, "data": value})
    assert columns is None or all(isinstance(text, str) for column in columns for text in column.values)
    assert read_table(value) is None


def test_table_is_drawn_only_where_it_fits() -> None:
    resource = table({"a long name of a column": "value", "another one": "value"})
    assert fitting_table(resource, Console(width=60, file=io.StringIO())) is not None
    assert fitting_table(resource, Console(width=30, file=io.StringIO())) is None
    assert read_table(table(*({"x": n} for n in range(100)))) is None


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


def test_pictures_are_named_by_cell_and_replaced_by_updates(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "figures")
    picture = picture_of({"image/gif": base64.b64encode(GIF).decode()})
    assert picture is not None
    folder.start_cell(3)
    paths = [folder.keep(picture), folder.keep(picture, "live"), folder.keep(picture)]
    folder.start_cell(12)
    paths += [folder.keep(picture, "live"), folder.keep(picture)]
    names = [path.name for path in paths if path is not None]
    assert names == ["cell-03-1.gif", "cell-03-2.gif", "cell-03-3.gif", "cell-03-2.gif", "cell-12-1.gif"]
    assert PictureFolder(None).keep(picture) is None


@given(st.text(alphabet="ab c日", max_size=80), st.integers(2, 20))
def test_fold_loses_nothing_and_fits(text: str, width: int) -> None:
    pieces = list(fold(Text(text), width))
    assert "".join(piece.plain for piece in pieces) == text
    assert all(piece.cell_len <= width for piece in pieces)


@pytest.mark.parametrize(
    ("source", "complete"),
    [
        ("x = 1", True),
        ("x = (1,", False),
        ("def f():", False),
        ("def f():\n    return 1", False),
        ("def f():\n    return 1\n", True),
        ("'''text", False),
        ("!ls -l", True),
        ("%%time", False),
        ("%%time\nx = 1\n", True),
        ("x ===", True),
        ("await f()", True),
        ("async with a as b:\n    x = 1", False),
        ("async with a as b:\n    x = 1\n", True),
        ("a = 1\nb = 2", True),
        ("\0", True),
    ],
)
def test_prompt_knows_when_a_cell_is_complete(source: str, complete: bool) -> None:
    assert is_complete(source) is complete
