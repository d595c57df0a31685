"""Values as bytes: what comes back equal, what is refused by name, and hostile bytes."""

from __future__ import annotations

import datetime
import decimal
import http
import json
import pickle
import random
import struct
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.inside.variables.packing import MAGIC, pack
from kernel_sandbox.inside.variables.plain import NotCarried
from kernel_sandbox.inside.variables.unpacking import unpack

LIMIT = 2**28
ROWS = 50


def round_trip(value: Any) -> Any:
    return unpack(pack(value, LIMIT))


def columns() -> dict[str, Any]:
    """One column of each kind that is carried."""
    missing = pd.Series([None if n % 7 == 0 else n for n in range(ROWS)], dtype="Int64")
    times = pd.date_range("2024-03-30", periods=ROWS, freq="h")
    return {
        "int": np.arange(ROWS),
        "small": np.arange(ROWS, dtype="int8"),
        "float": [float("nan") if n % 5 == 0 else n / 3 for n in range(ROWS)],
        "half": np.arange(ROWS, dtype="float16"),
        "complex": np.arange(ROWS) * 1j,
        "bool": np.arange(ROWS) % 2 == 0,
        "text": [f"é{n}" for n in range(ROWS)],
        "gaps": pd.Series([None if n % 3 == 0 else f"s{n}" for n in range(ROWS)], dtype="str"),
        "string": pd.Series([None if n % 3 == 0 else "" for n in range(ROWS)], dtype="string"),
        "objects": pd.Series([[None, "a", 1, 2.5, True][n % 5] for n in range(ROWS)], dtype=object),
        "texts": pd.Series([[None, "a", float("nan")][n % 3] for n in range(ROWS)], dtype=object),
        "nullable": missing,
        "nullable float": missing.astype("Float32"),
        "nullable bool": (missing > 3).astype("boolean"),
        "category": pd.Categorical([["b", None, "a"][n % 3] for n in range(ROWS)], categories=["b", "a", "z"]),
        "ordered": pd.Categorical([n % 3 for n in range(ROWS)], ordered=True),
        "time": times,
        "zone": times.tz_localize("Europe/Berlin", nonexistent="shift_forward"),
        "utc": times.tz_localize("UTC"),
        "offset": times.tz_localize("UTC+05:30"),
        "nat": pd.Series([pd.NaT if n % 2 else pd.Timestamp("1970-01-01") for n in range(ROWS)]),
        "duration": pd.to_timedelta(np.arange(ROWS), unit="ms"),
        "infinite": [[np.inf, -np.inf, np.nan, 0.1 + 0.2, -0.0][n % 5] for n in range(ROWS)],
        "decimal": pd.Series([decimal.Decimal(n) / 7 for n in range(ROWS)], dtype=object),
        "day": pd.Series([datetime.date(2024, 1, 1 + n % 31) for n in range(ROWS)], dtype=object),
        "lists": pd.Series([[n], ROWS * [None]][n % 2] for n in range(ROWS)),
        "surrogate": pd.Series(["\ud800", None] * (ROWS // 2), dtype=object),
        "period": pd.period_range("2024-01", periods=ROWS, freq="M"),
        "weeks": pd.period_range("2024-01", periods=ROWS, freq="W-SUN"),
        "interval": pd.interval_range(0, ROWS, closed="left"),
        "bins": pd.cut(np.arange(ROWS), [0, 10, 20, ROWS]),
    }


@pytest.mark.parametrize("name", columns())
def test_column_comes_back_equal(name: str) -> None:
    frame = pd.DataFrame({name: columns()[name]})
    pd.testing.assert_frame_equal(round_trip(frame), frame, check_freq=True)
    pd.testing.assert_frame_equal(round_trip(frame[:0]), frame[:0])


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3, 9, 2, name="r"),
        pd.Index(["a", "b", "c"], name=("x", 1)),
        pd.date_range("2024-01-01", periods=3, freq="MS", tz="America/New_York"),
        pd.MultiIndex.from_product([["a"], [1, 2, 3]], names=["k", None]),
        pd.CategoricalIndex(["x", "y", "x"]),
        pd.Index([1, 1, 1]),
        pd.period_range("2024Q1", periods=3, freq="Q"),
        pd.Index([0.5, np.inf, np.nan]),
        pd.Index([("a", 1), ("b", 2), "c"], tupleize_cols=False),
        pd.Index(["", "b", "c"], name=datetime.date(2024, 1, 1)),
    ],
    ids=lambda index: type(index).__name__,
)
def test_index_and_column_names_come_back_equal(index: pd.Index[Any]) -> None:
    frame = pd.DataFrame({"n": [1, 2, 3]}, index=index)
    pd.testing.assert_frame_equal(round_trip(frame), frame, check_freq=True)
    pd.testing.assert_frame_equal(round_trip(frame.T), frame.T)
    pd.testing.assert_series_equal(round_trip(frame["n"]), frame["n"])
    pd.testing.assert_index_equal(round_trip(index), index)


def test_what_comes_back_can_be_written_to() -> None:
    frame = round_trip(pd.DataFrame({"n": [1, 2], "c": pd.Categorical(["a", "b"])}))
    frame.loc[0, "n"] = 5
    array = round_trip(np.arange(3))
    array[0] = 9
    assert (frame["n"][0], array[0]) == (5, 9)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.array(["é", "bc"]),
        np.array([b"x"]),
        np.zeros((0, 3)),
        np.array(5),
        np.arange(3, dtype=">i4"),
        np.array(["2024-01-01"], dtype="M8[D]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_array_comes_back_equal(array: np.ndarray[Any, Any]) -> None:
    back = round_trip(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)
def test_plain_value_comes_back_equal(value: Any) -> None:
    assert round_trip(value) == value


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(2**63),
        complex(1, -0.0),
        decimal.Decimal("1.10"),
        decimal.Decimal("-Infinity"),
        datetime.date(1, 2, 3),
        datetime.datetime(2024, 10, 27, 2, 30, 0, 5, tzinfo=BERLIN, fold=1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))),
        datetime.time(23, 59, 59, 999_999),
        datetime.timedelta(-1, 5, 7),
        pd.Timestamp("2024-03-31 01:00:00.000000001", tz="Europe/Berlin"),
        pd.Timedelta(-5, "ns"),
        pd.Period("2024Q3"),
        (1, ["a", (None,)], {"!": 1, 2: frozenset([3])}),
        {(1, "a"): {1, 2}, None: b"\0", 1.5: range(3)},
        "\ud800",
        np.datetime64("2024-01-01"),
        [np.float32(0.1), np.int64(5), np.True_],
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_value_of_a_type_that_json_has_not_comes_back_equal(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)
    assert type(value) is int or repr(back) == repr(value)
    if isinstance(value, datetime.datetime):
        assert back.utcoffset() == value.utcoffset()


def test_tables_and_arrays_within_lists_and_dicts_come_back() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    back = round_trip({"frames": [frame, frame["a"]], "array": np.arange(3), "missing": (pd.NaT, pd.NA, float("nan"))})
    pd.testing.assert_frame_equal(back["frames"][0], frame)
    pd.testing.assert_series_equal(back["frames"][1], frame["a"])
    assert back["array"].tolist() == [0, 1, 2]
    assert back["missing"][0] is pd.NaT
    assert back["missing"][1] is pd.NA
    assert np.isnan(back["missing"][2])


def test_many_equal_values_are_no_attack() -> None:
    index = pd.MultiIndex.from_arrays([pd.Index([None, 1] * 500, dtype=object), range(1000)])
    pd.testing.assert_index_equal(round_trip(index), index)


def test_grouped_and_pivoted_tables_come_back_equal() -> None:
    sales = pd.DataFrame({"city": ["Oslo", "Rome", "Oslo"], "year": [1, 1, 2], "sold": [3.5, 5, np.inf]})
    for frame in (sales.groupby("city").agg({"sold": ["sum", "mean"]}), sales.pivot_table("sold", "city", "year")):
        pd.testing.assert_frame_equal(round_trip(frame), frame)


def test_bytes_and_scalars_come_back() -> None:
    assert round_trip(b"\0\xff") == b"\0\xff"
    assert round_trip(np.float32(1.5)) == np.float32(1.5)
    assert type(round_trip(np.int8(3))) is np.int8


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "object objects cannot be carried without pickling"),
        ({"a": [object()]}, "object objects"),
        (http.HTTPStatus.OK, "HTTPStatus objects"),
        (pd.Series(["\ud800"], dtype="str"), "it holds a lone surrogate"),
        (np.array([object()]), "dtype object"),
        (np.zeros(2, dtype=[("a", "i4")]), "cannot be carried without pickling"),
        (np.ma.masked_array([1, 2], [True, False]), "not a plain array"),
        (pd.DataFrame({"n": [1], "bad": [object()]}), "column 'bad': object objects"),
        (pd.DataFrame({"s": pd.arrays.SparseArray([0, 1])}), "column 's'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_carried_is_refused_by_name(value: Any, reason: str) -> None:
    with pytest.raises(NotCarried, match=reason):
        pack(value, LIMIT)


def test_too_much_is_refused_before_it_is_copied() -> None:
    with pytest.raises(NotCarried, match="larger than 1,000 bytes"):
        pack(np.zeros(10**6), 1000)
    with pytest.raises(NotCarried, match="16,777,216 are the limit"):
        pack(["x" * 100] * 200_000, LIMIT)


def hostile(value: Any, *parts: bytes) -> bytes:
    head = json.dumps({"value": value, "parts": [len(part) for part in parts]}).encode()
    return MAGIC + struct.pack("<I", len(head)) + head + b"".join(parts)


def tagged(kind: str, value: Any) -> bytes:
    return hostile({"kind": "json", "value": {"!": kind, "v": value}})


def npy(descr: str, shape: str, body: bytes) -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


ALIKE = [{"!": "int", "v": hex(1 + n * (2**61 - 1))} for n in range(200)]
"""Whole numbers that Python hashes to 1."""
ARRAY = {"kind": "array", "part": 0}
RANGE = {"range": [0, 3, 1], "names": [None]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"KSV2\xff\xff\xff\xff",
        pickle.dumps(print),
        hostile({"kind": "json", "value": None})[:-1],
        hostile({"kind": "eval", "value": "1"}),
        hostile(ARRAY, pickle.dumps(print)),
        hostile(ARRAY, npy("'|O'", "(1,)", pickle.dumps(print))),
        hostile(ARRAY, npy("'<f8'", "(1000000000000,)", b"12345678")),
        hostile(ARRAY, npy("'<f8'", "(-1,)", b"12345678")),
        hostile(ARRAY, npy("'|S0'", "(1000000000000,)", b"")),
        hostile(ARRAY, npy("'<f8'", "(1000000000000000000, 0)", b"")),
        hostile(ARRAY, npy("'<f8', " + "(" * 5000, "(1,)", b"12345678")),
        hostile({"kind": "array", "part": -1}, b""),
        hostile({"kind": "frame", "columns": [{"kind": "plain", "part": 0}], "names": RANGE, "index": RANGE}, b""),
        hostile(
            {"kind": "frame", "columns": [{"kind": "objects", "values": [1]}], "names": RANGE, "index": RANGE},
        ),
        hostile({"kind": "index", "index": {"levels": [], "names": []}}),
        hostile({"kind": "index", "index": {"range": [0, 10**40, 1], "names": [None]}}),
        MAGIC + struct.pack("<I", 400_000) + b"[" * 400_000,
        tagged("set", ALIKE),
        tagged("dict", [[number, 0] for number in ALIKE]),
        tagged("dict", [[[1], 2]]),
        tagged("int", "9" * 10 + "g"),
        tagged("eval", "1"),
        tagged("numpy", ["|O", "AAAAAAAAAAA="]),
        tagged("datetime.time", ["00:00", 0, "../../etc/passwd"]),
        tagged("pandas.Period", [1, "M; import os"]),
        tagged("other", {"kind": "json", "value": 1}),
        tagged("other", {"kind": "array", "part": 0}),
        hostile({"kind": "json", "value": [{"!": "tuple", "v": 7}]}),
        hostile({"kind": "index", "index": {"levels": [{"kind": "objects", "values": ALIKE}], "names": [None]}}),
    ],
    ids=range(30),
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NotCarried):
        unpack(data)


def test_flipped_bytes_give_a_value_or_a_refusal() -> None:
    packed = pack(pd.DataFrame(columns()), LIMIT)
    chance = random.Random(7)
    for _ in range(300):
        data = bytearray(packed)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(4000)] = chance.randrange(256)
        try:
            unpack(bytes(data))
        except NotCarried:
            continue


def test_zone_is_no_path() -> None:
    zoned = {"kind": "zoned", "part": 0, "zone": "../../etc/passwd"}
    names = {"range": [0, 1, 1], "names": [None]}
    data = hostile(
        {"kind": "frame", "columns": [zoned], "names": names, "index": names}, npy("'<M8[ns]'", "(1,)", b"\0" * 8)
    )
    with pytest.raises(NotCarried, match="no time zone"):
        unpack(data)
