"""What a cell did to the files under /mnt/data, and which of them were saved, said in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kernel_sandbox.artifacts import Saved
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.spec.values import DATA_DIRECTORY
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.characters import visible

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
        named = {kind: _joined([_with_size(info) for info in files]) for kind, files in kinds.items() if files}
        return "\n".join(f"[{kind} under {DATA_DIRECTORY}: {names}]" for kind, names in named.items())


def compare_listings(before: Iterable[FileInfo], after: Iterable[FileInfo]) -> FileChanges:
    """Return what happened between two listings, by size and time of modification."""
    old = {info.name: info for info in before if info.kind == "file"}
    new = {info.name: info for info in after if info.kind == "file"}
    return FileChanges(
        new=tuple(info for name, info in new.items() if name not in old),
        changed=tuple(info for name, info in new.items() if name in old and old[name] != info),
        deleted=tuple(info for name, info in old.items() if name not in new),
    )


def describe_listing(files: Sequence[FileInfo]) -> str:
    """List what is there, one file per line."""
    lines = [f"{shown_name(info.name)}\t{format_size(info.size)}" for info in files if info.kind == "file"]
    if not lines:
        return f"There are no files under {DATA_DIRECTORY}."
    more = [f"… and {len(lines) - 200} more"] if len(lines) > 200 else []
    return "\n".join([f"Files under {DATA_DIRECTORY}:", *lines[:200], *more])


def describe_saved(saved: Mapping[str, Saved]) -> str:
    """List the files that the user has got, and their names; then those that could not be saved, and why."""
    names = [_saved_name(name, one.path.name) for name, one in saved.items() if one.path is not None]
    lines = [f"Saved for the user: {_joined(names)}"] if names else []
    return "\n".join(f"[{line}]" for line in [*lines, *unsaved_lines(saved)])


def unsaved_lines(saved: Mapping[str, Saved]) -> list[str]:
    """Name the files that could not be saved: one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, one in saved.items():
        if one.path is None:
            reasons.setdefault(one.problem, []).append(shown_name(name))
    return [f"Not saved for the user ({reason}): {_joined(names)}" for reason, names in reasons.items()]


def _saved_name(name: str, kept: str) -> str:
    return kept if name == kept else f"{shown_name(name)} as {kept}"


def _joined(names: Sequence[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


def _with_size(info: FileInfo) -> str:
    return f"{shown_name(info.name)} ({format_size(info.size)})"


def shown_name(name: str) -> str:
    """Write a name that a cell chose on one line."""
    return visible(name).replace("\n", "\\n")[:300]
