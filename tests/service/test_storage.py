"""The database: what is kept, for whom, for how long; what is left after SIGKILL; files that are no database."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox.service import storage
from kernel_sandbox.service.keys import make_key
from kernel_sandbox.service.storage import ResultTooLarge, StorageError, Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state" / "server.db"


@pytest.fixture
async def store(place: Path) -> AsyncIterator[Store]:
    async with Store(place) as opened:
        yield opened


def query(place: Path, statement: str, *values: Any) -> list[Any]:
    """Look into the file from beside."""
    connection = sqlite3.connect(place)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def started(source: str, place: Path) -> subprocess.Popen[str]:
    """Another process, which gets the place as its argument."""
    return subprocess.Popen([sys.executable, "-c", source, str(place)], stdout=subprocess.PIPE, text=True)


# Executions


async def test_execution_is_kept_and_updated(store: Store) -> None:
    await store.save_execution("e1", "key:a", "session", "Running")
    running = await store.get_execution("e1", "key:a", "session")
    assert running is not None
    assert (running.status, running.result, running.lost) == ("Running", None, False)
    result = {"stdout": "é\n\ud800", "executionResult": [1, None, 2.5]}
    await store.save_execution("e1", "key:a", "session", "Succeeded", result)
    done = await store.get_execution("e1", "key:a", "session")
    assert done is not None
    assert done.status == "Succeeded"
    assert done.result == {"stdout": "é\n?", "executionResult": [1, None, 2.5]}
    assert done.requested == running.requested
    assert done.updated > done.requested


async def test_execution_of_another_is_missing(store: Store) -> None:
    await store.save_execution("e1", "key:a", "session", "Succeeded", {})
    assert await store.get_execution("e1", "key:a", "session")
    assert await store.get_execution("e1", "key:b", "session") is None
    assert await store.get_execution("e1", "key:a", "other") is None
    assert await store.get_execution("e2", "key:a", "session") is None


async def test_executions_of_one_id_do_not_meet(store: Store) -> None:
    await store.save_execution("same", "key:a", "session", "Succeeded", {"of": "a"})
    await store.save_execution("same", "key:b", "session", "Failed", {"of": "b"})
    await store.save_execution("same", "key:a", "another session", "Failed", {"of": "another"})
    ours = await store.get_execution("same", "key:a", "session")
    theirs = await store.get_execution("same", "key:b", "session")
    assert ours is not None
    assert theirs is not None
    assert (ours.result, theirs.result) == ({"of": "a"}, {"of": "b"})


async def test_identifier_of_an_execution_is_not_kept(store: Store, place: Path) -> None:
    await store.save_execution("e1", "key:a", "an-identifier-to-look-for", "Succeeded", {})
    for path in place.parent.iterdir():
        assert b"an-identifier-to-look-for" not in path.read_bytes()


async def test_result_expires(place: Path) -> None:
    async with Store(place, result_seconds=0.2) as store:
        await store.save_execution("done", "key:a", "session", "Succeeded", {})
        await store.save_execution("running", "key:a", "session", "Running")
        deadline = time.monotonic() + 10
        while await store.get_execution("done", "key:a", "session"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert await store.get_execution("running", "key:a", "session"), "it has no result yet that could expire"
        assert await store.forget_old() == ()
        assert query(place, "select status from executions") == [("Running",)]


async def test_result_that_is_too_large_is_refused(store: Store) -> None:
    await store.save_execution("e1", "key:a", "session", "Running")
    with pytest.raises(ResultTooLarge, match="32 MB"):
        await store.save_execution("e1", "key:a", "session", "Succeeded", {"stdout": "x" * storage.MAX_RESULT_BYTES})
    kept = await store.get_execution("e1", "key:a", "session")
    assert kept is not None
    assert kept.status == "Running"


async def test_oldest_results_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_OWNER_BYTES", 100_000)
    await store.save_execution("running", "key:a", "session", "Running")
    await store.save_execution("other", "key:b", "session", "Succeeded", {"stdout": "x" * 60_000})
    for number in range(10):
        await store.save_execution(f"e{number}", "key:a", "session", "Succeeded", {"stdout": "x" * 20_000})
    found = [n for n in range(10) if await store.get_execution(f"e{n}", "key:a", "session")]
    assert found == [6, 7, 8, 9], "four of 20.5 KB, and what runs"
    assert await store.get_execution("running", "key:a", "session")
    assert await store.get_execution("other", "key:b", "session")


# Transcripts


async def test_transcripts_are_listed_newest_first(store: Store, tmp_path: Path) -> None:
    for number in range(3):
        await store.record_transcript("key:a", f"s{number}", tmp_path / f"{number}.ipynb", 1, 100)
    await store.record_transcript("key:b", "s0", tmp_path / "b.ipynb", 1, 100)
    await store.record_transcript("key:a", "s0", tmp_path / "0.ipynb", 2, 250)
    ours = await store.list_transcripts("key:a")
    assert [entry.identifier for entry in ours] == ["s0", "s2", "s1"]
    assert (ours[0].path, ours[0].cells, ours[0].size) == (tmp_path / "0.ipynb", 2, 250)
    assert ours[0].created < ours[0].updated
    assert {entry.owner for entry in await store.list_transcripts(None)} == {"key:a", "key:b"}
    assert len(await store.list_transcripts(None, limit=2)) == 2
    assert await store.list_transcripts("key:c") == ()


async def test_transcript_is_forgotten_by_path_and_by_age(store: Store, place: Path, tmp_path: Path) -> None:
    for name in ("old", "new", "gone"):
        await store.record_transcript("key:a", name, tmp_path / name, 1, 100)
    query(place, "update transcripts set updated = updated - 1000 where identifier = 'old'")
    await store.forget_transcript(tmp_path / "gone")
    assert await store.forget_old() == ()
    assert await store.forget_old(transcript_seconds=900) == (tmp_path / "old",)
    assert [entry.identifier for entry in await store.list_transcripts(None)] == ["new"]


# The store itself


async def test_store_is_used_from_many_tasks_and_two_processes_at_once(store: Store, place: Path) -> None:
    source = (
        "import asyncio, sys\nfrom kernel_sandbox.service.storage import Store\n"
        "async def main():\n async with Store(sys.argv[1]) as store:\n"
        "  await asyncio.gather(*(store.save_execution(f'b{n}', 'key:b', 's', 'Succeeded', {}) for n in range(100)))\n"
        "asyncio.run(main())"
    )
    other = started(source, place)
    await asyncio.gather(*(store.save_execution(f"a{n}", "key:a", "s", "Succeeded", {"n": n}) for n in range(100)))
    await asyncio.to_thread(other.communicate, timeout=60)
    assert other.returncode == 0
    assert query(place, "select owner, count(*) from executions group by owner order by owner") == [
        ("key:a", 100),
        ("key:b", 100),
    ]


async def test_two_stores_may_make_one_database_at_once(place: Path) -> None:
    async def use(name: str) -> int:
        async with Store(place) as store:
            await store.add_key(make_key(name)[1])
            return len(await store.list_keys())

    assert max(await asyncio.gather(*(use(f"k{n}") for n in range(6)))) == 6
    assert query(place, "select * from kernel_sandbox_schema") == [(1,)]


async def test_store_waits_for_another_that_makes_the_tables(place: Path, tmp_path: Path) -> None:
    async with Store(tmp_path / "made.db"):
        pass
    tables = [sql for (sql,) in query(tmp_path / "made.db", "select sql from sqlite_master where sql is not null")]
    place.parent.mkdir()
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("pragma journal_mode = wal")
    other.execute("begin immediate")

    async def use() -> None:
        async with Store(place) as store:
            await store.ping()

    opening = asyncio.create_task(use())
    _, waiting = await asyncio.wait([opening], timeout=0.5)
    assert waiting, "it does not look before the other has written"
    for statement in (*tables, "insert into kernel_sandbox_schema values (1)", "commit"):
        other.execute(statement)
    other.close()
    await opening


KILLED = """
import asyncio, itertools, sys
from kernel_sandbox.service.keys import make_key
from kernel_sandbox.service.storage import Store

async def main():
    async with Store(sys.argv[1]) as store:
        text, record = make_key("alice")
        await store.add_key(record)
        await store.save_execution("running", "key:a", "s", "Running")
        for n in itertools.count():
            await store.save_execution(f"e{n}", "key:a", "s", "Succeeded", {"n": n, "stdout": "x" * 10_000})
            await store.record_transcript("key:a", "s", f"/saved/{n % 7}.ipynb", n, n)
            print(n, flush=True)

asyncio.run(main())
"""


async def test_killed_process_leaves_what_it_had_written(place: Path) -> None:
    killed = started(KILLED, place)
    assert killed.stdout is not None
    last = -1
    while last < 20:
        last = int(await asyncio.to_thread(killed.stdout.readline))
    killed.send_signal(signal.SIGKILL)
    last = int((killed.stdout.read() or str(last)).split()[-1])
    killed.wait()
    killed.stdout.close()
    async with Store(place) as store:
        for n in range(last + 1):
            kept = await store.get_execution(f"e{n}", "key:a", "s")
            assert kept is not None
            assert kept.result is not None
            assert (kept.status, kept.result["n"]) == ("Succeeded", n)
        assert max(entry.cells for entry in await store.list_transcripts("key:a")) >= last
        assert [record.name for record in await store.list_keys()] == ["alice"]
        lost = await store.get_execution("running", "key:a", "s")
        assert lost is not None
        assert (lost.status, lost.lost, lost.result) == ("Failed", True, None)


async def test_execution_that_is_silent_for_too_long_is_lost(store: Store, place: Path) -> None:
    await store.save_execution("e1", "key:a", "s", "Running")
    query(place, "update executions set updated = updated - 901")
    lost = await store.get_execution("e1", "key:a", "s")
    assert lost is not None
    assert (lost.status, lost.lost) == ("Failed", True)


async def test_files_are_private_even_where_they_were_not(tmp_path: Path) -> None:
    place = tmp_path / "new" / "server.db"
    async with Store(place) as store:
        await store.ping()
        assert {path.name: path.stat().st_mode & 0o777 for path in place.parent.iterdir()} == {
            "server.db": 0o600,
            "server.db-wal": 0o600,
            "server.db-shm": 0o600,
        }
    assert place.parent.stat().st_mode & 0o777 == 0o700
    place.chmod(0o644)
    async with Store(place):
        assert place.stat().st_mode & 0o777 == 0o600


async def failure(database: str | Path) -> str:
    with pytest.raises(StorageError) as caught:
        async with Store(database):
            pass
    return str(caught.value)


async def test_damaged_file_is_told_at_the_start(place: Path, tmp_path: Path) -> None:
    async with Store(place) as store:
        for n in range(50):
            await store.save_execution(f"e{n}", "key:a", "s", "Succeeded", {"stdout": "x" * 2000})
    whole = place.read_bytes()
    damaged = {
        "text": b"These are notes, and no database at all.\n" * 100,
        "short": whole[: len(whole) // 2],
        "overwritten": whole[:8192] + b"\xaa" * (len(whole) - 8192),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert "damaged" in await failure(tmp_path / name), name
        assert str(tmp_path / name) in await failure(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content, "nothing is repaired by itself"


async def test_newer_schema_is_refused(place: Path) -> None:
    async with Store(place):
        pass
    query(place, "update kernel_sandbox_schema set version = 2")
    assert "version 2" in await failure(place)


async def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    query(tmp_path / "theirs.db", "create table api_keys (x)")
    query(tmp_path / "others.db", "create table notes (x)")
    for name in ("theirs.db", "others.db"):
        assert "another program" in await failure(tmp_path / name)


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("nothing://user:hunter2@host/name", "no driver"),
        ("://", "not a URL"),
        ("/proc/none/server.db", "cannot be made"),
        ("/", "cannot be made"),
    ],
)
async def test_database_that_cannot_be_is_refused(database: str, reason: str) -> None:
    message = await failure(database)
    assert reason in message
    assert "hunter2" not in message


async def test_url_of_a_file_is_a_path(place: Path) -> None:
    async with Store(f"sqlite:///{place}") as store:
        await store.ping()
    assert place.stat().st_mode & 0o777 == 0o600


async def test_trouble_while_it_runs_is_a_storage_error(store: Store, place: Path) -> None:
    query(place, "drop table executions")
    with pytest.raises(StorageError, match="no such table"):
        await store.get_execution("e1", "key:a", "s")
    await store.ping()


async def test_closed_store_says_so(place: Path) -> None:
    store = Store(place)
    async with store:
        pass
    with pytest.raises(StorageError, match="closed"):
        await store.ping()
