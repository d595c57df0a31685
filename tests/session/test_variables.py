"""Values in and out of a kernel: `get` and `put` bring them whole and exact, and `dataframes` never less in silence."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import math
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from kernel_sandbox import (
    AsyncSession,
    KernelDied,
    Limits,
    Session,
    SessionClosed,
    TruncatedTable,
    VariableError,
    VariableNotFound,
    VariableTooLarge,
)
from tests.conftest import missing

IMPORTS = "import datetime, decimal, numpy as np, pandas as pd"
TABLES = {
    "many rows": "pd.DataFrame({'sold': range(1000)})",
    "infinities": "pd.DataFrame({'x': [np.inf, -np.inf, np.nan, 0.1 + 0.2, -0.0, 5e-324]})",
    "decimals": "pd.DataFrame({'x': [decimal.Decimal('1.10'), decimal.Decimal('NaN')]})",
    "grouped": "pd.DataFrame({'g': [1, 1], 'v': [1, 2]}).groupby('g').agg(['sum', 'mean'])",
    "pivoted": "pd.DataFrame({'g': [1, 2], 'h': ['a', 'b'], 'v': [1, 2]}).pivot_table('v', 'g', 'h')",
    "periods": "pd.DataFrame({'p': pd.period_range('2024', periods=2, freq='Q')})",
    "no name": "pd.DataFrame({'': [1, 2], 'b': ['x', None]})",
    "nanoseconds": "pd.DataFrame({'t': pd.to_datetime([1, None], unit='ns')})",
    "zones": "pd.DataFrame({'t': pd.date_range('2024-03-31', periods=4, freq='h', tz='Europe/Berlin')})",
    "categories": "pd.DataFrame({'c': pd.Categorical(['a', None], ['b', 'a'], ordered=True)})",
    "bins": "pd.DataFrame({'c': pd.cut([1, 5], [0, 2, 9])})",
    "small floats": "pd.DataFrame({'x': np.array([0.1, 2], 'float32'), 'n': np.array([1, 2], 'uint8')})",
    "nullable": "pd.DataFrame({'i': pd.array([1, None], 'Int64'), 's': pd.array(['a', None], 'string')})",
    "mixed": "pd.DataFrame({'o': pd.Series([1, 'a', None, True], dtype=object)})",
    "objects": "pd.DataFrame({'o': pd.Series(['a', np.nan], dtype=object), 'p': pd.Series(['a', None], dtype=object)})",
    "dates": "pd.DataFrame({'d': [datetime.date(2024, 1, 1)] * 2})",
    "durations": "pd.DataFrame({'t': pd.to_timedelta([-1, 90_061], unit='s')})",
    "repeated index": "pd.DataFrame({'v': [1, 2]}, index=[5, 5])",
    "index named index": "pd.DataFrame({'v': [1]}, index=pd.Index([3], name='index'))",
    "large integers": "pd.DataFrame({'u': np.array([2**64 - 1], 'uint64'), 'o': [10**30]})",
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with Session(engine="bubblewrap", image="datascience") as opened:
        opened.execute(IMPORTS).raise_for_error()
        yield opened


def made_here(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(f"{IMPORTS}\nmade = {source}", names)
    return names["made"]


@pytest.mark.parametrize("name", TABLES)
def test_table_is_brought_exactly_or_left_out(session: Session, name: str) -> None:
    expected = made_here(TABLES[name])
    shown = session.execute(f"table = {TABLES[name]}\ntable").raise_for_error()
    pd.testing.assert_frame_equal(session.get("table"), expected)
    with contextlib.suppress(TruncatedTable):
        for frame in shown.dataframes:
            pd.testing.assert_frame_equal(frame, expected, check_freq=False, check_index_type=False)


def test_dataframes_of_plain_columns_come_with_the_cell(session: Session) -> None:
    for name in ("infinities", "no name", "pivoted", "zones", "categories", "nullable", "small floats", "mixed"):
        assert len(session.execute(TABLES[name]).dataframes) == 1, name


def test_rows_that_are_missing_are_an_error_that_counts_them(session: Session) -> None:
    shown = session.execute("sales = pd.DataFrame({'sold': range(1000)})\nsales")
    with pytest.raises(TruncatedTable, match=r"1,000 rows, and the first 200 .* session\.get") as caught:
        _ = shown.dataframes
    assert (caught.value.rows, caught.value.shown) == (1000, 200)
    assert session.get("sales")["sold"].sum() == 499_500


@pytest.mark.parametrize(
    "source",
    [
        "7 ** 9000",
        "complex(1, -2)",
        "float('inf')",
        "'caf\\udce9'",
        "decimal.Decimal('1.10')",
        "datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.timezone.utc)",
        "{'a': (1, [None, True]), 2: {3}, datetime.date(2024, 1, 1): b'x'}",
        "list(range(100_000))",
    ],
)
def test_plain_value_goes_there_and_back(session: Session, source: str) -> None:
    session.execute(f"value = {source}")
    back = session.get("value")
    assert back == made_here(source)
    assert type(back) is type(made_here(source))
    session.put("again", back)
    assert session.execute("again == value and type(again) is type(value)").text == "True"


def test_series_and_arrays_come_as_they_are(session: Session) -> None:
    session.execute("series = pd.Series([1.5, np.nan], ['a', 'b'], name='s'); array = np.eye(2, dtype='int8')")
    pd.testing.assert_series_equal(session.get("series"), pd.Series([1.5, math.nan], ["a", "b"], name="s"))
    assert (session.get("array").dtype, session.get("array").tolist()) == ("int8", [[1, 0], [0, 1]])


def test_what_cannot_be_brought_is_said_by_name(session: Session) -> None:
    session.execute("class Own: pass\nown = [Own()]\nbig = np.zeros(10_000)")
    with pytest.raises(VariableNotFound, match="'absent' was not fetched: the kernel has no variable of this name"):
        session.get("absent")
    with pytest.raises(VariableError, match="'own' was not fetched: Own objects cannot be carried without pickling"):
        session.get("own")
    with pytest.raises(VariableTooLarge, match="'big' was not fetched: it is larger than 1,000 bytes"):
        session.get("big", limit=1000)
    with pytest.raises(ValueError, match="not the name of a variable"):
        session.get("big.sum()")
    with pytest.raises(VariableTooLarge, match="'text' was not sent"):
        session.put("text", b"x" * 2000, limit="1k")


def test_neither_the_count_nor_the_transcript_knows_of_it(session: Session) -> None:
    count = session.execute("1").execution_count or 0
    session.put("n", 1)
    session.get("n")
    assert session.execute("1").execution_count == count + 1
    assert session.files.list() == ()


def test_get_waits_for_the_cell_that_runs() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)

    async def main() -> Any:
        async with AsyncSession(engine="bubblewrap", image="python", limits=Limits(interrupt_grace=1)) as session:
            cell = asyncio.create_task(session.execute("import time; time.sleep(0.5); late = 'set'"))
            await asyncio.sleep(0)
            found = await session.get("late")
            assert (await cell).status == "ok"
        with pytest.raises(SessionClosed):
            await session.get("late")
        return found

    assert asyncio.run(main()) == "set"


def test_kernel_that_is_slow_is_waited_for_and_one_that_dies_is_named() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with Session(engine="bubblewrap", image="python") as own:
        own.execute("import asyncio, os, time\nx = 5\nasyncio.get_running_loop().call_later(0.05, time.sleep, 1.5)")
        own.put("y", 6)
        assert (own.get("x"), own.get("y")) == (5, 6)
        last = "def end(): time.sleep(1); os._exit(3)\nasyncio.get_running_loop().call_later(0.05, end)"
        own.execute(last)
        began = time.perf_counter()
        with pytest.raises(KernelDied, match="exited with status 3"):
            while True:
                own.get("x")
        assert time.perf_counter() - began < 10


def test_local_value_is_put_as_it_is(session: Session) -> None:
    frame = pd.DataFrame({"d": [decimal.Decimal("0.1")], "day": [datetime.date(2024, 2, 29)]})
    session.put("frame", frame, file="frame.csv")
    assert session.execute("frame['d'][0] * 3, frame['day'][0].isoformat()").text == "(Decimal('0.3'), '2024-02-29')"
    assert session.files.read("frame.csv") == b"d,day\n0.1,2024-02-29\n"
    session.files.delete("frame.csv")
