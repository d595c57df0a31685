"""-i and -o between a notebook's kernel and a sandbox, and what they and a cell cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from kernel_sandbox import Session
from kernel_sandbox.errors import VariableError, VariableNotFound, VariableTooLarge
from tests.conftest import missing
from tests.doors.magic.host import Host

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
LIMIT = 2**28
ROWS = 1_000_000
SECONDS = 2
"""For them, each way."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Session]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with Session(engine="bubblewrap") as session:
        yield session


def big_frame() -> pd.DataFrame:
    """A million rows, ten columns: dtypes, categories, time zones, missing values."""
    numbers = np.random.default_rng(0)
    holes = numbers.random(ROWS) < 0.1
    return pd.DataFrame(
        {
            "int": np.arange(ROWS),
            "float": np.where(holes, np.nan, numbers.random(ROWS)),
            "small": numbers.random(ROWS).astype("float32"),
            "category": pd.Categorical(numbers.choice(["x", "y", "z", "w"], ROWS), list("xyzw"), ordered=True),
            "zone": pd.date_range("2020-01-01", periods=ROWS, freq="s", tz="Europe/Berlin"),
            "nullable": pd.Series(numbers.integers(0, 100, ROWS), dtype="Int64").mask(holes),
            "text": pd.Series([f"row {n}" for n in range(ROWS)]).mask(holes),
            "bool": ~holes,
            "string": pd.Series([f"é{n % 7}" for n in range(ROWS)], dtype="string").mask(holes),
            "duration": pd.to_timedelta(np.arange(ROWS), unit="s"),
        }
    )


@pytest.mark.alone
def test_million_rows_go_in_and_come_back_equal_in_time(sandbox: Session) -> None:
    frame = big_frame()
    sandbox.execute("import pandas, pyarrow")  # what takes seconds once
    taken = []
    for _ in range(3):  # processors that others use as well: the best of three
        started = time.perf_counter()
        sandbox.put("frame", frame, limit=LIMIT)
        sent = time.perf_counter()
        back = sandbox.get("frame", limit=LIMIT)
        taken.append((sent - started, time.perf_counter() - sent))
        if max(taken[-1]) < SECONDS:
            break
    pd.testing.assert_frame_equal(back, frame, check_freq=True)
    assert sandbox.execute("list(frame.dtypes.astype(str))[:5]").text == (
        "['int64', 'float64', 'float32', 'category', 'datetime64[us, Europe/Berlin]']"
    )
    assert min(map(max, taken)) < SECONDS, taken


def test_transfer_leaves_nothing_behind(sandbox: Session) -> None:
    cells = sandbox.transcript.sources
    before = sandbox.execute("len(dir())").text
    sandbox.put("n", 1, limit=LIMIT)
    assert sandbox.get("n", limit=LIMIT) == 1
    assert sandbox.files.list() == ()
    assert sandbox.execute("del n; len(dir())").text in (before, str(int(before) + 2))
    assert len(sandbox.transcript.sources) == len(cells) + 2


def test_refusals_name_the_variable_and_the_column(sandbox: Session) -> None:
    with pytest.raises(VariableError, match="'f' was not sent: column 'what': object objects"):
        sandbox.put("f", pd.DataFrame({"what": [object()]}), limit=LIMIT)
    sandbox.execute("import pandas as pd; f = pd.DataFrame({'ok': [1], 'types': [int]})")
    with pytest.raises(VariableError, match="'f' was not fetched: column 'types': type objects"):
        sandbox.get("f", limit=LIMIT)
    with pytest.raises(VariableNotFound, match="'nothing' was not fetched: the kernel has no variable of this name"):
        sandbox.get("nothing", limit=LIMIT)
    sandbox.execute("import numpy; big = numpy.zeros(10_000)")
    with pytest.raises(VariableTooLarge, match="'big' was not fetched: it is larger than 1,000 bytes"):
        sandbox.get("big", limit=1000)


def test_kernel_that_dies_meanwhile_ends_the_transfer() -> None:
    with Session(engine="bubblewrap") as session:
        session.execute("class Bomb(dict):\n    def items(self):\n        import os; os._exit(9)\nb = Bomb()\n")
        session.execute(
            "import os, threading; threading.Timer(0.3, lambda: os._exit(9)).start(); d = {'k': [[1] * 10] * 10**6}"
        )
        started = time.perf_counter()
        with pytest.raises(Exception, match=r"status 9|was not fetched"):
            session.get("d", limit=LIMIT)
        assert time.perf_counter() - started < 20


def test_image_without_pandas_says_so() -> None:
    with Session(engine="bubblewrap", image="python") as session:
        session.put("plain", {"a": [1, None]}, limit=LIMIT)
        assert session.execute("plain").text == "{'a': [1, None]}"
        with pytest.raises(VariableError, match="No module named 'pandas'"):
            session.put("frame", pd.DataFrame({"a": [1]}), limit=LIMIT)


def test_variables_go_in_and_out_of_a_cell(host: Host) -> None:
    host.run(
        "import pandas as pd, numpy as np\ndf = pd.DataFrame({'city': ['Oslo', 'Rome'], 'n': [3, 5]})\na = np.arange(3)"
    )
    ran = host.run("%%sandbox -i df,a -i df -o total --out scaled\ntotal = int(df['n'].sum())\nscaled = a * 2.5")
    assert ran.status == "ok", ran
    assert host.run("print(total, scaled.tolist())").stream() == "8 [0.0, 2.5, 5.0]\n"


def test_nothing_runs_where_a_variable_is_refused_and_nothing_comes_from_a_failed_cell(host: Host) -> None:
    host.run("bad = object(); total = 'before'")
    assert "'bad' was not sent" in host.run("%%sandbox -i bad\nran = True").failure
    assert "NameError" in host.run("%%sandbox\nran").failure
    assert "no variable 'absent'" in host.run("%%sandbox -i absent\n1").failure
    host.run("%%sandbox -o total\ntotal = 1\n1/0")
    assert host.run("print(total)").stream() == "before\n"


def test_limit_is_a_setting(host: Host) -> None:
    host.run("import numpy as np; a = np.zeros(10_000)\n%config KernelSandboxMagics.transfer_limit = '10k'")
    assert "transfer_limit" in host.run("%%sandbox -i a\n1").failure
    host.run("%config KernelSandboxMagics.transfer_limit = '256m'")


OVERHEAD = """
import statistics, time
session = get_ipython().magics_manager.registry["KernelSandboxMagics"].sessions.find("default").session
def timed(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000
pairs = [
    (timed(lambda: get_ipython().run_cell_magic("sandbox", "", "pass")), timed(lambda: session.execute("pass")))
    for _ in range(100)
]
print(statistics.median(magic - plain for magic, plain in pairs))
"""


def test_overhead_of_a_cell_is_below_ten_milliseconds(host: Host) -> None:
    host.run("%%sandbox\npass")
    overhead = float(host.run(OVERHEAD).stream())
    print(f"{overhead:.2f} ms")
    assert overhead < 10
