"""What a model is told of the files."""

from __future__ import annotations

from datetime import UTC, datetime

from kernel_sandbox.agents.listings import compare_listings, describe_listing
from kernel_sandbox.sandbox.files import FileInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def info(name: str, size: int = 1024, kind: str = "file") -> FileInfo:
    return FileInfo(name, kind, size, NOW)  # type: ignore[arg-type]


def test_changes_are_named_by_kind() -> None:
    before = [info("same"), info("grown"), info("gone"), info("folder", kind="directory")]
    after = [info("same"), info("grown", 2048), info("new\n\x1b.png"), info("other", kind="directory")]
    assert str(compare_listings(before, after)).split("\n") == [
        r"[New files under /mnt/data: new\n\x1b.png (1 KB)]",
        "[Changed files under /mnt/data: grown (2 KB)]",
        "[Deleted files under /mnt/data: gone (1 KB)]",
    ]
    assert not str(compare_listings(before, before))


def test_many_files_are_counted() -> None:
    many = [info(f"f{n:03}") for n in range(300)]
    assert str(compare_listings([], many)).endswith("and 270 more]")
    assert describe_listing(many).endswith("… and 100 more")
    assert describe_listing([]) == "There are no files under /mnt/data."
