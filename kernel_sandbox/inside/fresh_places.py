"""The places that each kernel finds fresh: filled from the image's skeleton, emptied at a restart. Part of PID 1."""

from __future__ import annotations

import os
import secrets
import shutil

from kernel_sandbox.inside import apart
from kernel_sandbox.inside.accounts import account_files

NAMES = "/opt/kernel-sandbox/names"
"""A small file system, where the host cannot show files in /etc."""


def copy_skeleton() -> None:
    """Give the home directory what the image prepared for it (matplotlib's font list, for one)."""
    try:
        if os.path.isdir(apart.SKELETON):
            shutil.copytree(apart.SKELETON, apart.HOME, dirs_exist_ok=True)
    except (OSError, shutil.Error):
        pass  # some engines give the home to another owner, whose times and modes cannot be set; the files are there


def write_names() -> None:
    """Write the name of the sandbox's user where our images look for more users than those of /etc."""
    for name, text in account_files(os.getuid()).items():
        try:
            with open(f"{NAMES}/{name}", "x") as file:
                file.write(text)
        except OSError:
            pass  # not to be written where the host shows its files in /etc


def empty(place: str) -> None:
    """Remove all that a directory holds, however deep it is and whatever modes a cell gave it.

    Each directory is moved up to `place` before its turn comes, so that neither paths nor recursion grow with the
    depth. Nothing else runs by now that could change the tree meanwhile.
    """
    token, number, waiting = secrets.token_hex(8), 0, [place]
    while waiting:
        directory = waiting.pop()
        try:
            os.chmod(directory, 0o700)
        except OSError:
            pass  # some engines give a place to another owner, and the sandbox's user its modes
        try:
            with os.scandir(directory) as entries:
                found = list(entries)
        except OSError:
            continue  # what cannot be removed stays; the kernel's own start does not depend on it
        for entry in found:
            moved = os.path.join(place, f".{token}-{number}")
            try:
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)  # a directory that moves must be writable itself
                    os.rename(entry.path, moved)
                    waiting.append(moved)
                    number += 1
                else:
                    os.unlink(entry.path)
            except OSError:
                pass
        if directory != place:
            try:
                os.rmdir(directory)
            except OSError:
                pass
