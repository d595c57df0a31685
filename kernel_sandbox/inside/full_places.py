"""What is said beside a cell's error where a place for files is full: which, how much it holds, what raises that.

Its words come from the host, which knows what the session's door calls things (`kernel_sandbox.sandbox.remedies`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
LONGEST_CHAIN = 20


def find(error: BaseException, notices: dict[str, dict[str, str]]) -> str | None:
    """Return the note for an error: by its number, and by what has no room now; libraries have errors of their own."""
    failures = [one for one in _chain(error) if isinstance(one, OSError)]
    if any(one.errno == errno.EFBIG for one in failures):
        return notices[""]["large"]
    for place, said in notices.items():
        if place:
            space = os.statvfs(place)
            if space.f_bavail == 0:
                return said["bytes"]
            if space.f_favail == 0:
                return said["files"]
    # It was full only for a moment: what did not fit was removed, or asked for in one piece.
    refused = [one for one in failures if one.errno in NO_ROOM]
    names = [str(one.filename) for one in refused if one.filename is not None]
    named = next((place for place in notices for name in names if place and name.startswith(f"{place}/")), "")
    return notices[named]["bytes"] if refused else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those behind it."""
    for _ in range(LONGEST_CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
