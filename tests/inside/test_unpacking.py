"""What is made of bytes that came as a value: no more than a few times as much, and what would be more is refused."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kernel_sandbox.inside.variables.packing import pack
from kernel_sandbox.inside.variables.plain import NotCarried, TooLarge
from kernel_sandbox.inside.variables.unpacking import unpack
from tests.inside.test_packing import ARRAY, LIMIT, RANGE, hostile, npy, round_trip, tagged

CELLS = 100_000
LONG = {"range": [0, CELLS, 1], "names": [None]}
FLOAT = {"kind": "plain", "part": 0}
SMALL_INTS, TRUTHS = npy("'|i1'", f"({CELLS},)", bytes(CELLS)), npy("'|b1'", f"({CELLS},)", bytes(CELLS))


def frame_of(*columns: dict[str, Any], index: dict[str, Any] = LONG) -> dict[str, Any]:
    names = {"range": [0, len(columns), 1], "names": [None]}
    return {"kind": "frame", "columns": list(columns), "names": names, "index": index}


@pytest.mark.parametrize(
    "data",
    [
        hostile(frame_of(FLOAT, FLOAT), SMALL_INTS),
        hostile({"kind": "json", "value": [{"!": "other", "v": ARRAY}] * 2}, SMALL_INTS),
        hostile({"kind": "json", "value": 1}, *[b""] * 30_000),
        hostile(frame_of(*[{"kind": "objects", "values": [1]}] * 10_001, index={"range": [0, 1, 1], "names": [None]})),
        hostile({"kind": "json", "value": [{"!": "other", "v": frame_of(*[FLOAT] * 6000)}] * 2}, SMALL_INTS),
        hostile({"kind": "index", "index": {"levels": [{"kind": "objects", "values": []}] * 10_001, "names": []}}),
        hostile(frame_of({"kind": "masked", "dtype": "Int64", "part": 0, "mask": 1}), SMALL_INTS, TRUTHS),
        hostile(frame_of({"kind": "period", "freq": "D", "part": 0}), SMALL_INTS),
        hostile(frame_of(FLOAT), npy("'|S1'", f"({CELLS},)", b"x" * CELLS)),
        hostile(frame_of({"kind": "texts", "dtype": "str", "text": 0, "lengths": 1}), b"", SMALL_INTS),
        hostile(
            frame_of(
                {
                    "kind": "category",
                    "codes": 0,
                    "ordered": False,
                    "categories": {"range": [0, 2**60, 1], "names": [None]},
                }
            ),
            SMALL_INTS,
        ),
        hostile(
            {"kind": "frame", "block": 0, "index": RANGE, "names": {"range": [0, 2**39, 1], "names": [None]}},
            npy("'|i1'", "(0, 549755813888)", b""),
        ),
        tagged("tuple", "x" * 100),
    ],
    ids=range(13),
)
def test_what_would_be_many_times_what_came_is_refused(data: bytes) -> None:
    with pytest.raises(NotCarried):
        unpack(data, LIMIT)


def test_texts_that_take_many_times_the_limit_are_refused_at_both_ends() -> None:
    frame = pd.DataFrame({"text": pd.Series(["ab"] * CELLS, dtype="str")})
    packed = pack(frame, LIMIT)
    pd.testing.assert_frame_equal(unpack(packed, len(packed) * 3), frame)
    with pytest.raises(TooLarge, match="in memory"):
        unpack(packed, len(packed))
    with pytest.raises(TooLarge, match="in memory"):
        pack(frame, len(packed))


def test_wide_frame_of_one_dtype_comes_back_equal() -> None:
    for dtype in ("int8", "float64", "bool", "complex128", "M8[s]", "m8[ns]"):
        frame = pd.DataFrame(np.zeros((2, 20_000)).astype("int8").astype(dtype))
        pd.testing.assert_frame_equal(round_trip(frame), frame)
        pd.testing.assert_frame_equal(round_trip(frame[:0]), frame[:0])
    back = round_trip(frame)
    back.iloc[0, 0] = pd.Timedelta(5)
    assert back.iloc[0, 0] == pd.Timedelta(5)


def test_wide_frame_of_several_dtypes_is_refused_with_a_way_out() -> None:
    frame = pd.DataFrame(np.zeros((1, 20_000))).assign(name="x")
    with pytest.raises(TooLarge, match=r"20,00. columns .* take those of one dtype by themselves"):
        pack(frame, LIMIT)
    pd.testing.assert_frame_equal(round_trip(frame.iloc[:, 15_000:]), frame.iloc[:, 15_000:])


def test_dates_of_a_calendar_keep_no_frequency_that_takes_long_to_check() -> None:
    days = np.arange(1_000_000, dtype="int64").tobytes()
    level = {"kind": "plain", "part": 0}
    data = hostile(
        {"kind": "index", "index": {"levels": [level], "names": [None], "freq": "B"}},
        npy("'<M8[s]'", "(1000000,)", days),
    )
    started = time.process_time()
    assert unpack(data).freq is None
    assert time.process_time() - started < 1
    hours = pd.date_range("2000-01-01", periods=200_000, freq="h")
    pd.testing.assert_index_equal(round_trip(hours), hours)
    assert round_trip(hours).freq == hours.freq
