"""Links of the working directory: where they lead, and what is written through them.

Whoever filled the directory may have made them. What the user names elsewhere, by an absolute path or by `..`, is
theirs. All doors ask here. No I/O but looking at links.
"""

from __future__ import annotations

import os
from pathlib import Path

from kernel_sandbox.errors import FileError, HostFileRefused


def crossed(path: Path) -> Path | None:
    """Return the first link of the working directory that a path goes through, its last part included."""
    try:
        place = here = Path.cwd()
    except FileNotFoundError:  # somebody has removed it, and its links with it
        return None
    for part in path.parts:  # an absolute path's first part is the root
        if part == "..":
            place = place.parent
            continue
        found = place / part
        if _is_link(found):
            if found.is_relative_to(here):
                return found
            found = Path(os.path.realpath(found))
        place = found
    return None


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114 (is_symlink raises for a name that is too long)


def led_away(path: Path) -> Path | None:
    """Return where a link takes a path of the working directory that leads out of it; None where none does.

    What the user means lies there; whoever made the link means something else of theirs.
    """
    if crossed(path) is None:
        return None
    target = Path(os.path.realpath(path))
    return None if target.is_relative_to(Path.cwd()) else target


def written_through(path: Path) -> Path | None:
    """Return the link that writing to a path would go through: the path itself, or a link of the working directory."""
    return crossed(path) or (path if _is_link(path) else None)


def check_for_model(named: str, path: Path) -> None:
    """Refuse what a model would be shown by a link that leads out of the working directory.

    `named` is what the user wrote. Raises HostFileRefused.
    """
    if target := led_away(path):
        raise HostFileRefused(
            f"{named} is {target}, by a link in this directory: the model would get what lies there. Name that place "
            "itself if it may."
        )


def check_download(path: str | Path) -> None:
    """Refuse to write a file of a sandbox through a link of the working directory. Raises FileError."""
    if link := crossed(Path(path).expanduser()):
        raise FileError(f"{link} is a link to {os.path.realpath(link)}: give another name, or the real path.")
