"""The service's database: its tables, how it is opened, and what goes wrong with it, in words.

SQLite in a private directory by default, or what a SQLAlchemy URL names. storage.py reads and writes; nobody else
imports this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from kernel_sandbox.errors import SandboxError

VERSION = 1
"""Of the tables below. Whoever changes them raises it, and makes the step from the version before, at the start."""
BUSY_SECONDS = 10
"""How long a write waits for another process's."""
CHECKED_BYTES = 64 * 1024**2
"""A larger file is not read through at the start; its damage shows where it is met."""

_schema = sql.MetaData()
version = sql.Table("kernel_sandbox_schema", _schema, sql.Column("version", sql.Integer, primary_key=True))
keys = sql.Table(
    "api_keys",
    _schema,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("name", sql.String(100), nullable=False),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("roles", sql.Text, nullable=False),
    sql.Column("prefixes", sql.Text, nullable=False),
    sql.Column("identifiers", sql.Text, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("expires", sql.Double),
    sql.Column("last_used", sql.Double),
    sql.Column("revoked", sql.Double),
)
executions = sql.Table(
    "executions",
    _schema,
    sql.Column("owner", sql.String(768), primary_key=True),
    sql.Column("id", sql.String(128), primary_key=True),
    sql.Column("session", sql.String(64), nullable=False),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("server", sql.Text, nullable=False),
    sql.Column("requested", sql.Double, nullable=False),
    sql.Column("updated", sql.Double, nullable=False),
    sql.Column("expires", sql.Double, nullable=False, index=True),
    sql.Column("result", sql.Text),  # the last: SQLite reads through a long value to what stands behind it
)
transcripts = sql.Table(
    "transcripts",
    _schema,
    sql.Column("path", sql.String(768), primary_key=True),
    sql.Column("owner", sql.String(768), nullable=False, index=True),
    sql.Column("identifier", sql.String(256), nullable=False),
    sql.Column("cells", sql.Integer, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("updated", sql.Double, nullable=False, index=True),
)


class StorageError(SandboxError):
    """The database cannot be used."""


def connect(database: str) -> sql.Engine:
    """Open a database, and make the tables where it has none. `database` is a path, or a SQLAlchemy URL.

    Raises StorageError for one that is damaged, another program's, or of a newer version of this package.
    """
    url = _url(database)
    with translated_errors(url):
        if url.get_backend_name() != "sqlite":
            engine = sql.create_engine(url, pool_pre_ping=True)
            return _checked(engine)
        path = Path(url.database or "")
        _make_private(path)
        engine = sql.create_engine(url)
        _set_up_sqlite(engine)
        if path.stat().st_size <= CHECKED_BYTES:
            _check_pages(engine)
        return _checked(engine)


def _url(database: str) -> sql.URL:
    if "://" not in database:
        return sql.URL.create("sqlite", database=str(Path(database).expanduser().absolute()))
    try:
        url = sql.make_url(database)
    except ArgumentError as exc:  # its text holds the URL, and so perhaps a password
        raise StorageError("The database is not a path, and not a URL that SQLAlchemy understands.") from exc
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise StorageError("A database in memory would be lost, and each thread would have another: give a path.")
    return url


def _make_private(path: Path) -> None:
    """Make the file and its directory, for this user only; SQLite gives its other files the mode of this one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600))
        path.chmod(0o600)
    except OSError as exc:
        raise StorageError(f"The database {path} cannot be made or opened ({exc.strerror}).") from exc


def _set_up_sqlite(engine: sql.Engine) -> None:
    """Make each write one transaction that waits its turn, beside which others read (sqlite.org/wal.html)."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions by itself; `on_begin` does
        for pragma in (f"busy_timeout = {BUSY_SECONDS * 1000}", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: sql.Connection) -> None:
        # A transaction that reads first and writes then is refused when another wrote in between, without waiting.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_pages(engine: sql.Engine) -> None:
    with engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise StorageError(f"The database {engine.url.database} is damaged: {_ADVICE}")


def _checked(engine: sql.Engine) -> sql.Engine:
    with writing(engine) as connection:
        names = set(sql.inspect(connection).get_table_names())
        if version.name in names:
            _check_version(connection, engine)
        elif names & set(_schema.tables) or (names and engine.dialect.name == "sqlite"):
            raise StorageError(f"The database {_place(engine.url)} belongs to another program: name another.")
        else:
            _schema.create_all(connection)
            connection.execute(version.insert().values(version=VERSION))
    return engine


def _check_version(connection: sql.Connection, engine: sql.Engine) -> None:
    found = connection.execute(sql.select(version.c.version)).scalar()
    if found != VERSION:
        raise StorageError(
            f"The database {_place(engine.url)} has version {found} of the tables, and this is version {VERSION}: "
            "use the version of kernel-sandbox that made it, or a newer one; or name another database."
        )


@contextlib.contextmanager
def reading(engine: sql.Engine) -> Iterator[sql.Connection]:
    """Give a connection that reads. Raises StorageError."""
    with translated_errors(engine.url), engine.connect() as connection:
        yield connection


@contextlib.contextmanager
def writing(engine: sql.Engine) -> Iterator[sql.Connection]:
    """Give a connection whose writes are kept together at the end, or not at all. Raises StorageError."""
    with translated_errors(engine.url), engine.execution_options(writes=True).begin() as connection:
        yield connection


_ADVICE = "restore a copy of it, or move it away, and a new one is made (keys and saved results are lost then)."


@contextlib.contextmanager
def translated_errors(url: sql.URL) -> Iterator[None]:
    """Raise StorageError for what SQLAlchemy and the driver raise; without values, statements or passwords."""
    try:
        yield
    except (NoSuchModuleError, ImportError) as exc:
        raise StorageError(f"There is no driver for {url.drivername!r} databases: install one with pip.") from exc
    except SQLAlchemyError as exc:
        cause = getattr(exc, "orig", None) or exc
        # SQLite's messages name its troubles only. Other databases quote rows in theirs.
        reason = str(cause) if url.get_backend_name() == "sqlite" else type(cause).__name__
        damaged = any(word in reason for word in ("malformed", "not a database"))
        advice = f"it is damaged, or no database: {_ADVICE}" if damaged else "is it there, writable, and not full?"
        raise StorageError(f"The database {_place(url)} cannot be used ({reason}): {advice}") from exc


def _place(url: sql.URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
