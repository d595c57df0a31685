"""The files of a session, under /mnt/data inside its sandbox.

Every operation is carried out by PID 1 (inside/file_operations.py), which resolves names inside. No path on the host is
ever built from a name that the sandbox chose: `download` writes where its caller says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from kernel_sandbox.errors import FileError, FileNameRefused, SandboxFileNotFound, SandboxFull
from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.inside.mux import Channel
from kernel_sandbox.sandbox.link import LINE_LIMIT, GuestLink, GuestRefused, parse
from kernel_sandbox.sandbox.remedies import full_of_bytes, full_of_files, too_large
from kernel_sandbox.spec.forms import require
from kernel_sandbox.spec.values import DATA_DIRECTORY, SandboxSpec
from kernel_sandbox.text.amounts import format_size

CHUNK = 1024 * 1024
READ_LIMIT = 256 * 1024 * 1024
"""What `read` takes into memory; `download` has no such limit."""
LIST_LIMIT = 10_000
"""Entries that `list` takes; the guest, which is not believed, has the same limit."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory in the sandbox, as it describes itself."""

    name: str
    """The path below /mnt/data."""
    kind: Literal["file", "directory"]
    size: int
    """Bytes."""
    modified_at: datetime


Listing = list[FileInfo]  # named here: inside the class, `list` is the method
Pieces = list[bytes]


@contextlib.contextmanager
def _explained(name: str, spec: SandboxSpec) -> Iterator[None]:
    """Turn the guest's refusals into FileError and its kin."""
    try:
        yield
    except GuestRefused as exc:
        raise _error(name, exc, spec) from exc


def _error(name: str, refusal: GuestRefused, spec: SandboxSpec) -> FileError:
    code = refusal.code.removeprefix("errno-")
    number = int(code) if code.isdigit() else 0
    shown = repr(name)
    if refusal.code == "refused":
        return FileNameRefused(
            f"{shown} is refused: {refusal.reason}. Give a plain name or path of a regular file below {DATA_DIRECTORY}."
        )
    if number == errno.ENOENT:
        return SandboxFileNotFound(f"There is no {shown} under {DATA_DIRECTORY}. files.list() shows what is there.")
    if number == errno.EFBIG:
        return SandboxFull(f"{shown} does not fit. {too_large(spec)}")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return SandboxFull(f"{shown} does not fit. {full_of_bytes(DATA_DIRECTORY, spec)}")
    if refusal.code == "no-more-files":
        return SandboxFull(f"{shown} does not fit. {full_of_files(DATA_DIRECTORY, spec)}")
    if number == errno.ENOTEMPTY:
        return FileError(f"{shown} is a directory that is not empty: delete what it holds first.")
    return FileError(f"{shown}: {refusal.reason}.")


def _check_name(name: str) -> None:
    """Refuse what could not even be asked for; the guest checks everything else."""
    if not isinstance(name, str) or not name or len(name) > 4096:
        raise FileNameRefused(f"{name!r:.100} is not a file name.")
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise FileNameRefused(f"{name!r:.100} is not valid Unicode: rename the file first.") from exc


class AsyncSandboxFiles(NotCopied):
    """List, read, write and delete under /mnt/data. Names are paths below it, with `/`; `..` is refused.

    Every method raises FileError or a kind of it, and SandboxLost when the sandbox is gone.
    """

    def __init__(self, link: Callable[[], GuestLink], spec: SandboxSpec) -> None:
        self._link, self._spec = link, spec

    async def list(self, directory: str = "") -> tuple[FileInfo, ...]:
        """List the whole tree below a directory, sorted by name; symbolic links and devices are left out.

        Raises FileError for more than 10,000 entries.
        """
        found = await on_reactor(self._list, directory)
        return tuple(sorted(found, key=lambda info: info.name))

    async def read(self, name: str) -> bytes:
        """Return a file's bytes, 256 MB at the most (`download` takes larger ones)."""
        return b"".join(await on_reactor(self._read, name))

    async def write(self, name: str, data: bytes | str) -> FileInfo:
        """Write a file, replacing one of that name in one step; directories on the way are made. Text is UTF-8."""
        require("data", data, (str, bytes, bytearray, memoryview), "text or bytes")
        content = data.encode() if isinstance(data, str) else bytes(data)
        pieces = (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))
        return await on_reactor(self._write, name, pieces, len(content))

    async def upload(self, path: str | Path | BinaryIO, name: str | None = None) -> FileInfo:
        """Copy a host file into the sandbox, under its own name unless another is given.

        An open file (binary, seekable) goes whole, from its beginning, and needs a `name`. Raises FileError where
        `path` is not a regular file that can be read.
        """
        if not isinstance(path, str | Path):
            if not hasattr(path, "seek") or not hasattr(path, "read"):
                raise TypeError(f"path={path!r:.100}: give a path, or a file that is open for reading bytes.")
            size = path.seek(0, os.SEEK_END)
            path.seek(0)
            return await on_reactor(self._write, name or "", iter(lambda: path.read(CHUNK), b""), size)
        source = Path(path).expanduser()
        try:
            with source.open("rb") as file:
                pieces = iter(lambda: file.read(CHUNK), b"")
                return await on_reactor(self._write, name or source.name, pieces, os.fstat(file.fileno()).st_size)
        except OSError as exc:
            raise FileError(f"{source} cannot be read: {exc.strerror or exc}.") from exc

    async def download(self, name: str, path: str | Path, *, limit: int | None = None) -> Path:
        """Copy a file out to `path` on the host (into it under the file's own name, if it is a directory).

        The host sees the old file or the whole new one, never a part. Raises FileError where it cannot write, and
        for a file of more than `limit` bytes.
        """
        require("path", path, (str, Path), "a path on the host")
        require("limit", limit, (int, type(None)), "bytes as a whole number, or None")
        target = Path(path).expanduser()
        if target.is_dir():
            target = target / _own_name(name)
        try:
            await on_reactor(self._download, name, target, limit)
        except OSError as exc:
            raise FileError(f"{target} cannot be written: {exc.strerror or exc}.") from exc
        return target

    async def copy_to(self, name: str, file: BinaryIO, *, limit: int | None = None) -> int:
        """Write a file's bytes to an open file on the host, and give their number. Raises as `download` does."""
        return await on_reactor(self._copy_to, name, file, limit)

    async def delete(self, name: str) -> None:
        """Delete a file, a symbolic link or an empty directory."""
        _check_name(name)
        with _explained(name, self._spec):
            await on_reactor(self._ask, "delete", name)

    async def _ask(self, op: str, name: str) -> dict[str, Any]:
        return await self._link().ask(op, name=name)

    async def _list(self, directory: str) -> Listing:
        if directory:
            _check_name(directory)
        found: Listing = []
        link = self._link()
        with _explained(directory, self._spec):
            async with link.operation("list", name=directory) as channel:
                await link.answer(channel)
                async for entry in _lines(channel):
                    if entry.get("truncated") or len(found) >= LIST_LIMIT:
                        raise FileError(f"There are more than {LIST_LIMIT:,} files: list one directory at a time.")
                    found += _file_info(entry)
        return found

    @contextlib.asynccontextmanager
    async def _reading(self, name: str) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Open a file for reading: its size, and its bytes in pieces, no more than the size in total."""
        _check_name(name)
        link = self._link()
        with _explained(name, self._spec):
            async with link.operation("read", name=name) as channel:
                size = (await link.answer(channel)).get("size")
                if not isinstance(size, int) or size < 0:
                    raise FileError(f"{name!r}: the sandbox did not say how large it is.")
                yield size, _pieces(channel, name, size)

    async def _read(self, name: str) -> Pieces:
        async with self._reading(name) as (size, pieces):
            if size > READ_LIMIT:
                raise FileError(f"{name!r} has {format_size(size)}: too large to read at once, use download().")
            return [piece async for piece in pieces]

    async def _download(self, name: str, target: Path, limit: int | None) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".download-", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                await self._copy_to(name, file, limit)
            mask = os.umask(0)
            os.umask(mask)
            Path(temporary).chmod(0o666 & ~mask)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    async def _copy_to(self, name: str, file: BinaryIO, limit: int | None) -> int:
        async with self._reading(name) as (size, pieces):
            if limit is not None and size > limit:
                raise FileError(f"{name!r} has {format_size(size)}, more than the limit of {format_size(limit)}.")
            async for piece in pieces:
                file.write(piece)
        return size

    async def _write(self, name: str, pieces: Iterator[bytes], size: int) -> FileInfo:
        _check_name(name)
        link = self._link()
        with _explained(name, self._spec):
            async with link.operation("write", name=name, size=size) as channel:
                await _send_all(channel, pieces)
                answer = await link.answer(channel)
        return FileInfo(name.removeprefix(f"{DATA_DIRECTORY}/"), "file", int(answer["size"]), datetime.now(UTC))


async def _send_all(channel: Channel, pieces: Iterator[bytes]) -> None:
    """Send a file's bytes, but stop where the guest has answered already: it only does to refuse."""
    for piece in pieces:
        if not await channel.send(piece, unless_answered=True):
            return
    await channel.send_eof()


async def _lines(channel: Channel) -> AsyncIterator[dict[str, Any]]:
    while not await channel.at_end():
        yield parse(await channel.receive_line(LINE_LIMIT))


async def _pieces(channel: Channel, name: str, size: int) -> AsyncIterator[bytes]:
    received = 0
    while chunk := await channel.receive():
        received += len(chunk)
        if received > size:
            raise FileError(f"{name!r}: the sandbox sent more than it announced.")
        yield chunk
    if received < size:
        raise FileError(f"{name!r} became shorter while it was read: read it again.")


def _file_info(entry: dict[str, Any]) -> list[FileInfo]:
    """Read one entry of a listing; nothing where its fields are not what they should be."""
    name, kind, size, modified = (entry.get(key) for key in ("name", "kind", "size", "modified"))
    if not isinstance(name, str) or kind not in ("file", "directory") or not isinstance(size, int):
        return []
    seconds = float(modified) if isinstance(modified, int | float) else 0.0
    # A cell can set any time it likes; years past 9999 have no datetime.
    when = datetime.fromtimestamp(min(max(seconds, 0.0), 253_402_300_799), UTC)
    return [FileInfo(name, kind, size, when)]


def _own_name(name: str) -> str:
    """The last part of a name that the caller gave, for use on the host."""
    last = name.rsplit("/", 1)[-1]
    if last in ("", ".", "..") or "\0" in last:
        raise FileNameRefused(f"{name!r} is not a file name.")
    return last
