"""Files replaced whole: a reader sees the old one or the new one, and a crash leaves the old one.

`Transcript.save` and `autosave` call it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.host.links import written_through

_ADVICE = {
    errno.ENOENT: "create its directory first",
    errno.ENOTDIR: "a part of its path is a file; choose another place",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ELOOP: "choose another name, or give the real path",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOSPC: "free some room, or save it elsewhere",
    errno.EDQUOT: "free some room, or save it elsewhere",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def replace_file(path: Path, chunks: Iterable[bytes], *, durable: bool, private: bool = False) -> None:
    """Write a file beside `path` and put it in its place; an existing file's mode is kept.

    Nothing is written through a link: neither through one at `path` nor through one of the working directory above it.
    `durable` waits until the bytes are on the disk; a new file that is `private` is its owner's alone. Raises
    TranscriptError, and leaves nothing behind.
    """
    try:
        _refuse_link(path)
        mode = _mode(path)
        _write_and_replace(path, chunks, 0o600 if private and mode is None else mode, durable)
    except (OSError, ValueError) as exc:
        advice = _ADVICE.get(getattr(exc, "errno", None) or 0, "choose another place")
        reason = getattr(exc, "strerror", None) or exc
        raise TranscriptError(f"{str(path)!r} cannot be written ({reason}): {advice}.") from exc


def _refuse_link(path: Path) -> None:
    """Somebody else may have made the directory with the link, and it decides over which file nobody is asked."""
    if link := written_through(path):
        raise OSError(errno.ELOOP, f"{link} is a link to {os.path.realpath(link)}")


def _mode(target: Path) -> int | None:
    """The permissions of an existing file; None where there is none yet."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):  # a rename would put a file in the place of /dev/null
        raise OSError(errno.EINVAL, "it is not a regular file")
    return stat.S_IMODE(status.st_mode)


def _write_and_replace(target: Path, chunks: Iterable[bytes], mode: int | None, durable: bool) -> None:
    temporary = target.with_name(f".transcript-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # A new file gets the umask's mode; in place of an existing one it is private until it has that one's.
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(chunks)
            if mode is not None:
                os.fchmod(descriptor, mode)
            if durable:
                file.flush()
                os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
