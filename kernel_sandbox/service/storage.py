"""What the service keeps: API keys, results of asynchronous executions, the index of saved transcripts.

Calls run in threads of the store's own, and may come from any event loop. Every write is one transaction, so a SIGKILL
leaves all of it or nothing. The tables are in schema.py.

Session identifiers are secrets: who knows one may know how to reach a session. Executions hold only a digest of theirs;
transcripts hold them as they are, since their owners look them up by these. Hence the private file.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import sqlalchemy as sql

from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.service.identity import ROLES
from kernel_sandbox.service.keys import KeyRecord
from kernel_sandbox.service.schema import StorageError as StorageError
from kernel_sandbox.service.schema import connect, executions, keys, reading, transcripts, writing
from kernel_sandbox.text.amounts import format_size

T = TypeVar("T")
Status = Literal["NotStarted", "Running", "Succeeded", "Failed", "Canceled"]
UNFINISHED = ("NotStarted", "Running")
THREADS = 4
MAX_RESULT_BYTES = 32 * 1024**2
"""Of one result, as JSON: what a cell may show, with its images in base64, and room to spare."""
MAX_OWNER_BYTES = 256 * 1024**2
"""Of all results of one identity; the oldest make room for new ones."""
DROPPED_AT_ONCE = 1000
"""At the most: a write must not take long."""
ROW_BYTES = 512
"""What an execution without a result counts."""
SILENCE_SECONDS = 900.0
"""An execution that has not ended after this long has lost its server. None may take so long."""


class ResultTooLarge(StorageError):
    """The result of an asynchronous execution is past its bound, and was not kept."""


@dataclass(frozen=True, slots=True)
class StoredExecution:
    """An asynchronous execution, as far as it has come."""

    id: str
    status: Status
    result: dict[str, Any] | None
    requested: datetime
    updated: datetime
    lost: bool = False
    """Whether the server that ran it has died, or is silent for too long; then the status is "Failed"."""


@dataclass(frozen=True, slots=True)
class StoredTranscript:
    """A saved transcript: whose it is, and where."""

    owner: str
    identifier: str
    path: Path
    cells: int
    size: int
    """Bytes of the notebook."""
    created: datetime
    updated: datetime


class Store:
    """The database of the service. `async with` opens it, makes it where it is missing, and closes it.

    All methods raise StorageError where the database cannot be used.
    """

    def __init__(self, database: str | Path, *, result_seconds: float = 3600.0) -> None:
        self.database = str(database)
        self.result_seconds = result_seconds
        """How long a finished result is kept."""
        self._server = json.dumps(asdict(Owner.current()))
        self._threads: ThreadPoolExecutor | None = None
        self._engine: sql.Engine | None = None

    async def __aenter__(self) -> Store:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kernel-sandbox-store")
        try:
            self._engine = await self._in_thread(connect, self.database)
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what is being written, and close."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        if self._engine is not None:
            self._engine.dispose()

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        if self._threads is None:
            raise StorageError("The database is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def _read(self, function: Callable[[sql.Connection], T]) -> T:
        def run() -> T:
            assert self._engine is not None
            with reading(self._engine) as connection:
                return function(connection)

        return await self._in_thread(run)

    async def _write(self, function: Callable[[sql.Connection], T]) -> T:
        def run() -> T:
            assert self._engine is not None
            with writing(self._engine) as connection:
                return function(connection)

        return await self._in_thread(run)

    async def ping(self) -> None:
        """Ask whether the database answers."""
        await self._read(lambda connection: connection.execute(sql.select(sql.literal(1))).scalar())

    # Executions

    async def save_execution(
        self, id: str, owner: str, session: str, status: Status, result: Mapping[str, Any] | None = None
    ) -> None:
        """Keep an asynchronous execution, or what has become of it. `session` is the session's identifier.

        Raises ResultTooLarge where the result has more than MAX_RESULT_BYTES.
        """

        def run(connection: sql.Connection) -> None:
            text = None if result is None else _as_json(result)
            now = time.time()
            kept = self.result_seconds + (SILENCE_SECONDS if status in UNFINISHED else 0)
            values = {
                "session": _session_digest(owner, session),
                "status": status,
                "result": text,
                "size": ROW_BYTES + len(text or ""),
                "server": self._server,
                "updated": now,
                "expires": now + kept,
            }
            key = {"owner": owner, "id": _execution_key(session, id)}
            if not connection.execute(executions.update().filter_by(**key).values(**values)).rowcount:
                connection.execute(executions.insert().values(**key, **values, requested=now))
            _make_room(connection, owner)

        await self._write(run)

    async def get_execution(self, id: str, owner: str, session: str) -> StoredExecution | None:
        """Return an execution; None for one that is missing, expired, of another owner or another session."""
        asked = sql.select(executions).filter_by(id=_execution_key(session, id), owner=owner)
        asked = asked.where(executions.c.expires > time.time())

        def run(connection: sql.Connection) -> StoredExecution | None:
            row = connection.execute(asked).mappings().first()
            return None if row is None else _execution(row, id)

        return await self._read(run)

    # Transcripts

    async def record_transcript(self, owner: str, identifier: str, path: str | Path, cells: int, size: int) -> None:
        """Keep where a transcript is saved, or that it has grown."""

        def run(connection: sql.Connection) -> None:
            now = time.time()
            values = {"owner": owner, "identifier": identifier, "cells": cells, "size": size, "updated": now}
            if not connection.execute(transcripts.update().filter_by(path=str(path)).values(**values)).rowcount:
                connection.execute(transcripts.insert().values(path=str(path), created=now, **values))

        await self._write(run)

    async def list_transcripts(
        self,
        owner: str | None,
        limit: int = 1000,
        *,
        identifier: str | None = None,
        path: Path | None = None,
        wanted: Callable[[StoredTranscript], bool] = lambda row: True,
    ) -> tuple[StoredTranscript, ...]:
        """List the transcripts of an owner, or of all owners, the newest first; of one session, or of one file only.

        `limit` counts those that are `wanted`.
        """
        asked = sql.select(transcripts).order_by(transcripts.c.updated.desc())
        named = {"owner": owner, "identifier": identifier, "path": None if path is None else str(path)}
        asked = asked.filter_by(**{name: value for name, value in named.items() if value is not None})

        def run(connection: sql.Connection) -> tuple[StoredTranscript, ...]:
            with connection.execute(asked) as found:
                rows = map(_transcript, found.mappings())
                return tuple(itertools.islice(filter(wanted, rows), limit))

        return await self._read(run)

    async def forget_transcript(self, path: str | Path) -> None:
        """Drop a transcript from the index; its file is the caller's."""
        await self._write(lambda connection: connection.execute(transcripts.delete().filter_by(path=str(path))))

    async def forget_old(self, transcript_seconds: float | None = None) -> tuple[Path, ...]:
        """Drop results that have expired, and transcripts that have not changed for so long (None keeps them).

        Returns where the dropped transcripts are, for the caller to remove.
        """

        def run(connection: sql.Connection) -> tuple[Path, ...]:
            now = time.time()
            connection.execute(executions.delete().where(executions.c.expires <= now))
            if transcript_seconds is None:
                return ()
            old = transcripts.c.updated < now - transcript_seconds
            paths = connection.execute(sql.select(transcripts.c.path).where(old)).scalars().all()
            connection.execute(transcripts.delete().where(old))
            return tuple(Path(path) for path in paths)

        return await self._write(run)

    # Keys

    async def add_key(self, record: KeyRecord) -> None:
        await self._write(lambda connection: connection.execute(keys.insert().values(**_key_row(record))))

    async def find_key(self, id: str) -> KeyRecord | None:
        """Return a key's record, revoked and expired ones too."""
        asked = sql.select(keys).filter_by(id=id)
        row = await self._read(lambda connection: connection.execute(asked).mappings().first())
        return None if row is None else _key(row)

    async def list_keys(self) -> tuple[KeyRecord, ...]:
        """List all keys, the oldest first."""
        asked = sql.select(keys).order_by(keys.c.created)
        rows = await self._read(lambda connection: connection.execute(asked).mappings().all())
        return tuple(_key(row) for row in rows)

    async def has_keys(self) -> bool:
        """Whether any key was ever made, one that is revoked or has expired too."""
        asked = sql.select(keys.c.id).limit(1)
        return await self._read(lambda connection: connection.execute(asked).first() is not None)

    async def revoke_key(self, id: str) -> bool:
        """Revoke a key. Returns False where there is none of that id, or it was revoked before."""
        change = keys.update().filter_by(id=id, revoked=None).values(revoked=time.time())
        return await self._write(lambda connection: connection.execute(change).rowcount > 0)

    async def touch_key(self, id: str, when: datetime) -> None:
        """Keep when a key was used."""
        change = keys.update().filter_by(id=id).values(last_used=when.timestamp())
        await self._write(lambda connection: connection.execute(change))


def _as_json(result: Mapping[str, Any]) -> str:
    # A lone surrogate, which a kernel can send, has no place in UTF-8.
    encoded = json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    if len(encoded) > MAX_RESULT_BYTES:
        raise ResultTooLarge(
            f"The result has {format_size(len(encoded))}; asynchronous results are kept up to "
            f"{format_size(MAX_RESULT_BYTES)}. Write large data to files, or run it synchronously."
        )
    return encoded.decode()


def _make_room(connection: sql.Connection, owner: str) -> None:
    """Drop an owner's oldest results until the rest fits."""
    total = connection.execute(sql.select(sql.func.sum(executions.c.size)).filter_by(owner=owner)).scalar() or 0
    if total <= MAX_OWNER_BYTES:
        return
    done = sql.select(executions.c.id, executions.c.size).filter_by(owner=owner)
    done = done.where(executions.c.status.not_in(UNFINISHED)).order_by(executions.c.updated).limit(DROPPED_AT_ONCE)
    for id, size in connection.execute(done).all():
        if total <= MAX_OWNER_BYTES:
            break
        connection.execute(executions.delete().filter_by(owner=owner, id=id))
        total -= size


def _session_digest(owner: str, identifier: str) -> str:
    return hashlib.sha256(f"{owner}\0{identifier}".encode(errors="surrogatepass")).hexdigest()


def _execution_key(session: str, id: str) -> str:
    """Return what an execution is kept under: clients make ids up, and each session has its own "1"."""
    return hashlib.sha256(f"{session}\0{id}".encode(errors="surrogatepass")).hexdigest()


def _execution(row: sql.RowMapping, id: str) -> StoredExecution:
    lost = row["status"] in UNFINISHED and (
        Owner(**json.loads(row["server"])).is_gone or row["updated"] < time.time() - SILENCE_SECONDS
    )
    return StoredExecution(
        id=id,
        status="Failed" if lost else row["status"],
        result=None if row["result"] is None or lost else json.loads(row["result"]),
        requested=_moment(row["requested"]),
        updated=_moment(row["updated"]),
        lost=lost,
    )


def _transcript(row: sql.RowMapping) -> StoredTranscript:
    times = {name: _moment(row[name]) for name in ("created", "updated")}
    return StoredTranscript(row["owner"], row["identifier"], Path(row["path"]), row["cells"], row["size"], **times)


def _key_row(record: KeyRecord) -> dict[str, Any]:
    lists: dict[str, Any] = {name: json.dumps(sorted(getattr(record, name))) for name in ("roles", *_SCOPES)}
    times = {name: getattr(record, name) for name in _TIMES}
    moments = {name: None if value is None else value.timestamp() for name, value in times.items()}
    return {"id": record.id, "name": record.name, "digest": record.digest, **lists, **moments}


def _key(row: sql.RowMapping) -> KeyRecord:
    values: dict[str, Any] = {name: row[name] for name in ("id", "name", "digest")}
    values |= {name: tuple(json.loads(row[name])) for name in _SCOPES}
    values |= {name: None if row[name] is None else _moment(row[name]) for name in _TIMES}
    known = json.loads(row["roles"])
    return KeyRecord(roles=frozenset(role for role in ROLES if role in known), **values)


_SCOPES = ("prefixes", "identifiers")
_TIMES = ("created", "expires", "last_used", "revoked")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
