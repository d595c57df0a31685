"""The file operations, resolved inside the sandbox, under /mnt/data only.

PID 1 runs them as the session's own user. Every component of a name is opened with O_NOFOLLOW from the directory
before it, so that a symlink that a cell left behind cannot make PID 1 read or write anywhere else (its own
/proc/self/mem, above all); only regular files are read, and without blocking.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from typing import Any

from kernel_sandbox.inside import mux

ROOT = "/mnt/data"
CHUNK = 256 * 1024
MAX_ENTRIES = 10_000
MAX_DEPTH = 32
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """The name, or what it names, is not for these operations."""


def components(name: str) -> list[str]:
    """Split a name below /mnt/data into its parts. Raises Refused where it leaves the directory."""
    if name.startswith(ROOT + "/"):
        name = name[len(ROOT) + 1 :]
    parts = name.split("/")
    if any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts) or len(parts) > MAX_DEPTH:
        raise Refused("not a path below /mnt/data")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise Refused("control characters in the name")
    return parts


def open_parent(parts: list[str], create: bool = False) -> int:
    """Open the directory that holds the last part, step by step, and return its descriptor."""
    directory = os.open(ROOT, DIRECTORY)
    for part in parts[:-1]:
        try:
            if create:
                try:
                    os.mkdir(part, dir_fd=directory)
                except FileExistsError:
                    pass
            below = os.open(part, DIRECTORY, dir_fd=directory)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused("a part of the path is not a directory") from exc
            raise
        finally:
            os.close(directory)
        directory = below
    return directory


def code(exc: OSError) -> str:
    """Return the word of the guest protocol for an error of the system."""
    if exc.errno == errno.ENOSPC and os.statvfs(ROOT).f_favail == 0:
        return "no-more-files"
    return f"errno-{exc.errno}"


async def answer(channel: mux.Channel, **fields: Any) -> None:
    await channel.send(json.dumps(fields).encode() + b"\n")


async def read(channel: mux.Channel, request: dict[str, Any]) -> None:
    parts = components(request["name"])
    parent = open_parent(parts)
    try:
        descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise Refused("not a regular file") from exc
        raise
    finally:
        os.close(parent)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("not a regular file")
        await answer(channel, ok=True, size=status.st_size)
        await _send_file(channel, descriptor, status.st_size)
    finally:
        os.close(descriptor)


async def _send_file(channel: mux.Channel, descriptor: int, size: int) -> None:
    """Send `size` bytes at the most: a file that a cell keeps growing must come to an end."""
    while size > 0:
        chunk = os.read(descriptor, min(CHUNK, size))
        if not chunk:
            return
        size -= len(chunk)
        await channel.send(chunk)


async def write(channel: mux.Channel, request: dict[str, Any]) -> None:
    """Receive a file under a temporary name, then rename it: a reader sees the old file or the whole new one."""
    parts = components(request["name"])
    parent = open_parent(parts, create=True)
    temporary = f".upload-{os.urandom(8).hex()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o644, dir_fd=parent)
        try:
            size = await _receive_file(channel, descriptor)
            if size != request.get("size", size):
                raise Refused("the file changed while it was sent")
            os.rename(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)
    finally:
        os.close(parent)
    await answer(channel, ok=True, size=size)


async def _receive_file(channel: mux.Channel, descriptor: int) -> int:
    size = 0
    while chunk := await channel.receive():
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        size += len(chunk)
    return size


async def delete(channel: mux.Channel, request: dict[str, Any]) -> None:
    """Remove a file, a link or an empty directory."""
    parts = components(request["name"])
    parent = open_parent(parts)
    try:
        try:
            os.unlink(parts[-1], dir_fd=parent)
        except IsADirectoryError:
            os.rmdir(parts[-1], dir_fd=parent)
    finally:
        os.close(parent)
    await answer(channel, ok=True)


async def list_files(channel: mux.Channel, request: dict[str, Any]) -> None:
    """Send one line per regular file and directory, the whole tree below the named directory."""
    start = components(request["name"]) if request.get("name") else []
    os.close(open_parent([*start, "_"]))  # says whether the directory is there
    pending = [start]
    count = 0
    await answer(channel, ok=True)
    while pending:
        parts = pending.pop()
        for entry in _entries(parts):
            count += 1
            if count > MAX_ENTRIES:
                await answer(channel, truncated=True)
                return
            await answer(channel, **entry)
            if entry["kind"] == "directory" and len(parts) + 1 < MAX_DEPTH:
                pending.append([*parts, entry["name"].rpartition("/")[2]])
        await asyncio.sleep(0)  # a large tree must not hold up the other operations


def _entries(parts: list[str]) -> list[dict[str, Any]]:
    found = []
    try:
        directory = open_parent([*parts, "_"])
    except (OSError, Refused):
        return []  # gone, or not readable, or a name that could not be asked for anyway
    try:
        for name in sorted(os.listdir(directory))[: MAX_ENTRIES + 1]:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}.get(stat.S_IFMT(status.st_mode))
            if kind is not None and not name.startswith(".upload-"):
                shown = "/".join([*parts, os.fsencode(name).decode("utf-8", "replace")])
                found.append({"name": shown, "kind": kind, "size": status.st_size, "modified": status.st_mtime})
    except FileNotFoundError:
        pass
    finally:
        os.close(directory)
    return found


OPERATIONS = {"read": read, "write": write, "delete": delete, "list": list_files}
