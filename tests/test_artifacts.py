"""What is written on the host: names, links, caps. The cells that try them are in tests/agents/test_artifacts.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.artifacts import Artifacts, PictureFolder, host_name
from kernel_sandbox.session.outputs import Picture

GIF = Picture("image/gif", b"GIF89a-3x2", 3, 2)
SVG = Picture("image/svg+xml", b"<svg onload='alert(1)'/>", 0, 0)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("sales.csv", "sales.csv"),
        ("out/2024/Sales Q1.XLSX", "Sales_Q1.XLSX"),
        ("../../x", "x.bin"),
        ("..", "file.bin"),
        ("", "file.bin"),
        (".bashrc", "bashrc.bin"),
        (".csv", "file.csv"),
        ("-rf.csv", "rf.csv"),
        ("a\nb.csv", "a_b.csv"),
        ("evil.html", "evil.html.bin"),
        ("plot.svg", "plot.svg.bin"),
        ("run.desktop", "run.desktop.bin"),
        ("model.pkl", "model.pkl.bin"),
        ("report.pdf.exe", "report.pdf.exe.bin"),
        ("data.csv.", "data.csv"),
        ("Übersicht.csv", "Ubersicht.csv"),
        ("売上.csv", "file.csv"),
        ("exe.\u202efdp.csv", "exe.fdp.csv"),
        ("x" * 255, "x" * 100 + ".bin"),
        ("y" * 300 + ".png", "y" * 100 + ".png"),
    ],
)
def test_host_name_is_harmless(name: str, kept: str) -> None:
    assert host_name(name) == kept


@given(st.text(max_size=300))
def test_host_name_of_anything_is_one_plain_part(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.[A-Za-z]{1,7}", host_name(name))


def name_of(folder: PictureFolder, picture: Picture, display_id: str | None = None) -> str:
    saved = folder.keep(picture, display_id)
    assert saved is not None
    assert saved.path is not None
    assert saved.path.read_bytes() == picture.data
    return saved.path.name


def test_pictures_are_named_by_cell_and_replaced_by_updates(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "figures")
    folder.start_cell(3)
    names = [name_of(folder, GIF), name_of(folder, GIF, "live"), name_of(folder, GIF)]
    folder.start_cell(12)
    names += [name_of(folder, GIF, "live"), name_of(folder, GIF)]
    assert names == ["cell-03-1.gif", "cell-03-2.gif", "cell-03-3.gif", "cell-03-2.gif", "cell-12-1.gif"]
    assert PictureFolder(None).keep(GIF) is None


def test_picture_replaces_a_link_instead_of_following_it(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "cell-01-1.gif").symlink_to(tmp_path / "precious")
    folder = PictureFolder(tmp_path)
    folder.start_cell(1)
    assert name_of(folder, GIF) == "cell-01-1.gif"
    assert (tmp_path / "precious").read_text() == "mine"


def test_picture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saved = PictureFolder(tmp_path / "file").keep(GIF)
    assert saved is not None
    assert (saved.path, saved.problem) == (None, "File exists")


def test_svg_is_no_page_for_a_browser_where_an_agent_made_it(tmp_path: Path) -> None:
    ours, agents = PictureFolder(tmp_path / "a"), Artifacts(tmp_path / "b").pictures
    assert (name_of(ours, SVG), name_of(agents, SVG)) == ("cell-00-1.svg", "cell-00-1.svg.bin")


def test_pictures_of_an_agent_are_bounded(tmp_path: Path) -> None:
    folder = Artifacts(tmp_path, max_files=2, max_bytes=25).pictures
    assert [name_of(folder, GIF, "a") for _ in range(9)] == ["cell-00-1.gif"] * 9  # written anew, it counts once
    assert name_of(folder, GIF) == "cell-00-2.gif"
    third = folder.keep(GIF)
    assert third is not None
    assert third.problem == "at most 2 files of a session are saved"
    small = Artifacts(tmp_path / "small", max_bytes=15).pictures
    name_of(small, GIF)
    second = small.keep(GIF)
    assert second is not None
    assert second.problem == "at most 15 bytes of a session are saved"
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["cell-00-1.gif"]
