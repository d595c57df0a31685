"""What a cell did to the files under /mnt/data: two listings compared, and said in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernel_sandbox.agents.reading import visible
from kernel_sandbox.files import FileInfo
from kernel_sandbox.policy import DATA_DIRECTORY, format_size

NAMED = 30
"""How many files a text names; of the others it says how many there are."""


@dataclass(frozen=True, slots=True)
class FileChanges:
    """New, changed and deleted files; no directories."""

    new: tuple[FileInfo, ...] = ()
    changed: tuple[FileInfo, ...] = ()
    deleted: tuple[FileInfo, ...] = ()

    def __str__(self) -> str:
        """Name them, one kind per line; an empty text where nothing changed."""
        kinds = {"New files": self.new, "Changed files": self.changed, "Deleted files": self.deleted}
        lines = (f"[{kind} under {DATA_DIRECTORY}: {_names(files)}]" for kind, files in kinds.items() if files)
        return "\n".join(lines)


def compare_listings(before: Iterable[FileInfo], after: Iterable[FileInfo]) -> FileChanges:
    """Tell what happened between two listings, by size and time of modification."""
    old = {info.name: info for info in before if info.kind == "file"}
    new = {info.name: info for info in after if info.kind == "file"}
    return FileChanges(
        new=tuple(info for name, info in new.items() if name not in old),
        changed=tuple(info for name, info in new.items() if name in old and old[name] != info),
        deleted=tuple(info for name, info in old.items() if name not in new),
    )


def describe_listing(files: Sequence[FileInfo]) -> str:
    """Say what is there, one file per line."""
    lines = [f"{_name(info)}\t{format_size(info.size)}" for info in files if info.kind == "file"]
    if not lines:
        return f"There are no files under {DATA_DIRECTORY}."
    more = [f"… and {len(lines) - 200} more"] if len(lines) > 200 else []
    return "\n".join([f"Files under {DATA_DIRECTORY}:", *lines[:200], *more])


def _names(files: Sequence[FileInfo]) -> str:
    more = [f"and {len(files) - NAMED} more"] if len(files) > NAMED else []
    return ", ".join([f"{_name(info)} ({format_size(info.size)})" for info in files[:NAMED]] + more)


def _name(info: FileInfo) -> str:
    return visible(info.name).replace("\n", "\\n")[:300]
