from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from kernel_sandbox import (
    FileError,
    FileNameRefused,
    Limits,
    SandboxFileNotFound,
    SandboxFull,
    Session,
)


def test_file_goes_in_and_comes_out_unchanged(session: Session, tmp_path: Path) -> None:
    content = os.urandom(5_000_003)
    (tmp_path / "in.bin").write_bytes(content)
    assert session.files.upload(tmp_path / "in.bin").size == 5_000_003
    digest = "import hashlib; print(hashlib.sha256(open('/mnt/data/in.bin', 'rb').read()).hexdigest())"
    assert session.execute(digest).text.strip() == hashlib.sha256(content).hexdigest()
    assert session.files.download("in.bin", tmp_path / "out.bin").read_bytes() == content
    assert session.files.read("in.bin") == content


def test_files_are_listed_with_directories_and_times(session: Session) -> None:
    session.files.write("b/c/deep.txt", "x" * 10)
    session.execute("open('a.txt', 'w').write('abc')")
    listed = {info.name: (info.kind, info.size if info.kind == "file" else None) for info in session.files.list()}
    assert listed == {"a.txt": ("file", 3), "b": ("directory", None), "b/c": ("directory", None)} | {
        "b/c/deep.txt": ("file", 10)
    }
    assert [info.name for info in session.files.list("b/c")] == ["b/c/deep.txt"]
    assert session.files.list()[0].modified_at.year >= 2020


def test_file_is_deleted(session: Session) -> None:
    session.files.write("d/x", b"")
    with pytest.raises(FileError, match="not empty"):
        session.files.delete("d")
    session.files.delete("d/x")
    session.files.delete("d")
    with pytest.raises(SandboxFileNotFound, match=r"files.list\(\) shows"):
        session.files.delete("d")


def test_download_into_a_directory_keeps_the_name(session: Session, tmp_path: Path) -> None:
    session.files.write("sub/plot.png", b"png")
    assert session.files.download("sub/plot.png", tmp_path) == tmp_path / "plot.png"


def test_download_keeps_to_its_limit(session: Session, tmp_path: Path) -> None:
    session.files.write("x.csv", b"123")
    assert session.files.download("x.csv", tmp_path / "x.csv", limit=3).read_bytes() == b"123"
    with pytest.raises(FileError, match="more than the limit of 2 bytes"):
        session.files.download("x.csv", tmp_path / "y.csv", limit=2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "a/../../b", "/etc/passwd", "a//b", ".", "..", "a\nb", "a\0b", "", "a/", "x" * 256]
)
def test_name_that_leaves_the_directory_is_refused(session: Session, name: str) -> None:
    with pytest.raises(FileNameRefused):
        session.files.write(name, b"x")
    with pytest.raises(FileNameRefused):
        session.files.read(name)
    assert session.files.list() == ()


def test_absolute_name_below_the_directory_is_the_same_file(session: Session) -> None:
    assert session.files.write("/mnt/data/x.txt", "x").name == "x.txt"
    assert session.files.read("x.txt") == b"x"


@pytest.mark.parametrize(
    "trap",
    [
        "os.symlink('/etc/passwd', 'trap')",
        "os.symlink('/proc/1/environ', 'trap')",
        "os.mkdir('trap')",
        "s = socket.socket(socket.AF_UNIX); s.bind('trap')",
    ],
)
def test_read_takes_regular_files_only(session: Session, trap: str) -> None:
    session.execute(f"import os, socket\n{trap}").raise_for_error()
    with pytest.raises(FileError, match="regular file"):
        session.files.read("trap")
    assert "trap" not in [info.name for info in session.files.list() if info.kind == "file"]


def test_directory_link_is_not_followed(session: Session) -> None:
    session.execute("import os; os.symlink('/etc', 'link')").raise_for_error()
    with pytest.raises(FileNameRefused):
        session.files.read("link/passwd")
    with pytest.raises(FileNameRefused):
        session.files.write("link/new", b"x")
    assert session.files.list() == ()


def test_write_replaces_a_link_instead_of_following_it(session: Session) -> None:
    session.execute("import os; os.symlink('/tmp/target', 'link')").raise_for_error()
    session.files.write("link", b"mine")
    assert session.files.read("link") == b"mine"
    assert session.execute("os.path.exists('/tmp/target')").text == "False"


def test_full_directory_is_told_and_leaves_nothing_behind(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(data_size="8m")) as session:
        session.files.write("kept", b"x" * 1_000_000)
        with pytest.raises(SandboxFull, match=r"Limits\(data_size"):
            session.files.write("large", b"x" * 20_000_000)
        assert [info.name for info in session.files.list()] == ["kept"]
        full = session.execute("open('large', 'wb').write(b'x' * 20_000_000)")
        assert full.error is not None
        assert "No space left" in full.error.evalue
        session.execute("import os; os.unlink('large')")
        assert session.files.read("kept") == b"x" * 1_000_000


def test_file_that_grows_while_it_is_read_comes_to_an_end(session: Session, tmp_path: Path) -> None:
    session.files.write("log", b"x" * 4_000_000)
    session.execute(
        "import threading\ndef grow():\n    for _ in range(2000): open('log', 'ab').write(b'y' * 10_000)\n"
        "threading.Thread(target=grow).start()"
    )
    assert session.files.download("log", tmp_path / "log").stat().st_size >= 4_000_000


def test_strange_names_are_listed_but_never_become_host_paths(session: Session, tmp_path: Path) -> None:
    session.execute("open('new\\nline', 'w'); open(b'\\xff\\xfe', 'w'); open('\\x1b[31mred', 'w')").raise_for_error()
    assert sorted(info.name for info in session.files.list()) == ["\x1b[31mred", "new\nline", "\ufffd\ufffd"]
    assert list(tmp_path.iterdir()) == []


def test_upload_of_what_is_not_there_is_told(session: Session, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        session.files.upload(tmp_path / "missing.csv")
    with pytest.raises(FileError, match="directory"):
        session.files.upload(tmp_path)
    with pytest.raises(FileError, match="cannot be written"):
        session.files.write("x", b"x")
        session.files.download("x", tmp_path / "no" / "such" / "place")


def test_operations_go_on_while_a_cell_runs(session: Session) -> None:
    stream = session.stream("import time; time.sleep(1.5)")
    session.files.write("meanwhile.txt", "x")
    assert session.files.read("meanwhile.txt") == b"x"
    assert stream.execution is None
    assert list(stream) == []


def test_listing_of_too_many_files_is_refused(session: Session) -> None:
    session.execute("for i in range(10_001): open(f'{i}', 'w')").raise_for_error()
    with pytest.raises(FileError, match="one directory at a time"):
        session.files.list()
