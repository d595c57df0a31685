"""A day's work of honest code under the full profile: nothing that a data scientist does is in the way of a wall."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from kernel_sandbox import Execution, Session
from tests.conftest import missing

ENGINES = ["docker", "bubblewrap"]


@pytest.fixture(scope="module", params=ENGINES)
def work(request: pytest.FixtureRequest) -> Iterator[Session]:
    if reason := missing(request.param):
        pytest.skip(reason)
    with Session(engine=request.param, image="datascience") as session:
        yield session


def run(session: Session, source: str) -> Execution:
    """Run a cell that must succeed without a word on its error stream."""
    execution = session.execute(source, timeout=60).raise_for_error()
    errors = [output for output in execution.outputs if getattr(output, "name", "") == "stderr"]
    assert errors == []
    return execution


def test_pandas_groups_joins_and_writes(work: Session) -> None:
    shown = run(
        work,
        """
import numpy as np, pandas as pd
random = np.random.default_rng(7)
n = 200_000
sales = pd.DataFrame({"shop": random.integers(0, 50, n), "day": pd.Timestamp("2026-01-01", tz="Europe/Oslo")
                      + pd.to_timedelta(random.integers(0, 365, n), "D"), "sold": np.arange(n)})
shops = pd.DataFrame({"shop": range(50), "city": pd.Categorical([f"city {k % 5}" for k in range(50)])})
joined = sales.merge(shops, on="shop").groupby("city", observed=True)["sold"].sum()
sales.to_parquet("sales.parquet")
back = pd.read_parquet("sales.parquet")
print(int(joined.sum()), len(back), str(back["day"].dtype))
joined.reset_index()
""",
    )
    total = 199_999 * 200_000 // 2
    assert shown.text.splitlines()[0].startswith(f"{total} 200000 datetime64[")
    assert int(shown.dataframes[0]["sold"].sum()) == total


def test_matplotlib_draws_every_figure(work: Session) -> None:
    shown = run(
        work,
        """
import matplotlib.pyplot as plt
for number in range(3):
    figure, axes = plt.subplots(1, 2, figsize=(6, 3))
    axes[0].plot(range(10)); axes[1].imshow([[1, 2], [3, 4]])
    figure.suptitle(f"$\\\\alpha_{number}$ – öäü")
plt.show()
""",
    )
    assert len(shown.pictures) == 3


def test_scikit_learn_works_in_two_processes(work: Session) -> None:
    shown = run(
        work,
        """
import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import cross_val_score
from sklearn.linear_model import LinearRegression
random = np.random.default_rng(0)
x = random.normal(size=(2000, 5)); y = x @ [3, -2, 0, 0, 1]
fitted = LinearRegression(n_jobs=2).fit(x, y)
scores = cross_val_score(RandomForestRegressor(n_estimators=10, n_jobs=2, random_state=0), x, y, cv=3, n_jobs=2)
print(*fitted.coef_.round(6) + 0.0, scores.min() > 0.8)
""",
    )
    *weights, good = shown.text.split()
    assert [float(weight) for weight in weights] == pytest.approx([3, -2, 0, 0, 1], abs=1e-5)
    assert good == "True"


def test_sqlite_keeps_a_database(work: Session) -> None:
    shown = run(
        work,
        """
import sqlite3
base = sqlite3.connect("numbers.db")
base.execute("pragma journal_mode=wal")
base.execute("create table numbers (n integer primary key, square integer)")
with base:
    base.executemany("insert into numbers values (?, ?)", ((n, n * n) for n in range(10_000)))
print(base.execute("select sum(square), count(*) from numbers").fetchone())
base.close()
""",
    )
    assert shown.text == f"({sum(n * n for n in range(10_000))}, 10000)\n"


def test_asyncio_serves_and_asks_itself(work: Session) -> None:
    shown = run(
        work,
        """
import asyncio
async def answer(reader, writer):
    writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
server = await asyncio.start_server(answer, "127.0.0.1", 0)
async def ask(word):
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(word.encode() + b"\\n")
    told = await reader.readline()
    writer.close()
    return told.decode().strip()
print(await asyncio.gather(*(ask(f"word {n}") for n in range(20))))
server.close(); await server.wait_closed()
""",
    )
    assert shown.text == f"{[f'WORD {n}' for n in range(20)]}\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_counts_in_every_way(work: Session, method: str) -> None:
    shown = run(
        work,
        f"""
import math, multiprocessing, concurrent.futures
context = multiprocessing.get_context("{method}")
with context.Pool(2) as pool: counted = pool.map(math.factorial, range(20), chunksize=5)
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool: roots = list(pool.map(math.isqrt, counted))
shared = context.Value("i", 5)
print(sum(counted), sum(roots), shared.value)
""",
    )
    factorials = [math.factorial(n) for n in range(20)]
    assert shown.text == f"{sum(factorials)} {sum(map(math.isqrt, factorials))} 5\n"


def test_subprocesses_threads_and_signals_work(work: Session) -> None:
    shown = run(
        work,
        """
import os, signal, subprocess, sys, tempfile, threading
done = subprocess.run([sys.executable, "-c", "print(6 * 7); raise SystemExit(3)"], capture_output=True, text=True)
piped = subprocess.run("seq 1000 | sort -rn | head -1", shell=True, capture_output=True, text=True).stdout
with tempfile.TemporaryFile() as file: file.write(b"x" * 10**6); size = file.tell()
sums = []
threads = [threading.Thread(target=lambda: sums.append(sum(range(1000)))) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("signal")); os.kill(os.getpid(), signal.SIGUSR1)
print(done.stdout.strip(), done.returncode, piped.strip(), size, sum(sums), *seen)
""",
    )
    assert shown.text == f"42 3 1000 1000000 {20 * 499_500} signal\n"


def test_shell_lines_answer_without_a_warning(work: Session) -> None:
    assert run(work, "!echo hello; seq 3 | wc -l").text.split() == ["hello", "3"]
