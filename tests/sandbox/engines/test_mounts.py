"""What a sandbox sees of the host's directories and files that are mounted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kernel_sandbox import Mount, SandboxSpec, Session
from kernel_sandbox.sandbox.engines import bubblewrap_profile


def opened(engine: str, *mounts: Mount) -> Session:
    return Session(engine=engine, spec=SandboxSpec(image="python", mounts=mounts))


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A directory of the host that everybody may read."""
    directory = tmp_path / "a directory, with a name"
    directory.mkdir()
    (directory / "é, one.csv").write_text("1")
    for path in (tmp_path, directory):
        path.chmod(0o755)
    return directory


def test_single_file_is_shown_without_its_directory(engine: str, shown: Path) -> None:
    with opened(engine, Mount(shown / "é, one.csv", "one.csv")) as session:
        look = "import os; os.listdir('/mnt/input'), open('/mnt/input/one.csv').read()"
        assert session.execute(look).text == "(['one.csv'], '1')"
        assert session.execute("open('/mnt/input/one.csv', 'a')").status == "error"


def test_link_to_a_file_is_shown_as_the_file(engine: str, shown: Path) -> None:
    (shown / "link").symlink_to("é, one.csv")
    with opened(engine, Mount(shown / "link", "one.csv")) as session:
        assert session.execute("open('/mnt/input/one.csv').read()").text == "'1'"


def test_what_the_host_writes_later_is_seen(engine: str, shown: Path) -> None:
    with opened(engine, Mount(shown, "all")) as session:
        assert session.execute("open('/mnt/input/all/é, one.csv').read()").text == "'1'"
        with (shown / "é, one.csv").open("a") as file:
            file.write("2")
        (shown / "new").write_text("3")
        look = "[open(f'/mnt/input/all/{name}').read() for name in ('é, one.csv', 'new')]"
        assert session.execute(look).text == "['12', '3']"


@pytest.mark.skipif(os.getuid() != 0, reason="a file system is mounted by root")
def test_file_systems_below_a_mount_are_read_only(engine: str, shown: Path) -> None:
    below = shown / "below, too"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(below)], check=True)
    try:
        (below / "deep").write_text("4")
        with opened(engine, Mount(shown, "all")) as session:
            assert session.execute("open('/mnt/input/all/below, too/deep').read()").text == "'4'"
            assert session.execute("open('/mnt/input/all/below, too/new', 'w')").status == "error"
            assert session.weakened == ()
    finally:
        subprocess.run(["umount", str(below)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="a file is mounted by root")
@pytest.mark.parametrize("single", [True, False], ids=["file", "directory"])
def test_file_that_is_mounted_over_another_is_shown(engine: str, single: bool, shown: Path, tmp_path: Path) -> None:
    below, above = shown / "é, one.csv", tmp_path / "above"
    above.write_text("5")
    subprocess.run(["mount", "--bind", str(above), str(below)], check=True)
    try:
        with opened(engine, Mount(below, "one") if single else Mount(shown, "one")) as session:
            path = "/mnt/input/one" if single else "/mnt/input/one/é, one.csv"
            assert session.execute(f"open({path!r}).read()").text == "'5'"
            assert session.execute(f"open({path!r}, 'a')").status == "error"
            assert any("overlay" in words for words in session.weakened) == (engine == "bubblewrap")
    finally:
        subprocess.run(["umount", str(below)], check=True)


@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_machine_without_overlays_is_told_and_runs(engine: str, shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its kernel has none, or none more above one of its own."""
    source = bubblewrap_profile._prepare_source()
    refused = source.replace('b"overlay", ctypes', 'b"no such kind", ctypes')
    assert refused != source
    monkeypatch.setattr(bubblewrap_profile, "_prepare_source", lambda: refused)
    with opened(engine, Mount(shown, "all"), Mount(shown / "é, one.csv", "one.csv")) as session:
        assert len([words for words in session.weakened if "overlay" in words]) == 2
        look = "import os; [sorted(os.listdir(f'/mnt/input/{place}')) for place in ('', '.1', 'all')]"
        assert session.execute(look).text == "[['.1', 'all', 'one.csv'], [], ['é, one.csv']]"
        assert session.execute("open('/mnt/input/one.csv').read()").text == "'1'"
