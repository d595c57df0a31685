"""A small disk of a test's own: a tmpfs of so many bytes and files, filled and emptied, gone with its `with` block."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(place: Path, size: str, files: int = 1000) -> Iterator[Path]:
    """Mount a disk at `place`, which is made for it. Needs root."""
    place.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files},mode=0700", "kernel-sandbox-test", place],
        check=True,
    )
    try:
        yield place
    finally:
        # Lazily: a sandbox that a failed test left would hold it.
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def set_size(place: Path, size: str) -> None:
    """Give a disk another size while it is in use."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def fill(place: Path) -> Path:
    """Leave no byte free, and return the file that took them."""
    filler = place / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, bytes(4096))
    finally:
        os.close(descriptor)
    assert os.statvfs(place).f_bavail == 0
    return filler


def use_up_files(place: Path) -> Path:
    """Leave no file free, and return the directory that took them."""
    taken = place / "taken"
    taken.mkdir()
    with contextlib.suppress(OSError):
        for number in range(100_000):
            (taken / str(number)).touch()
    assert os.statvfs(place).f_favail == 0
    return taken
