"""`kernel-sandbox ask --artifacts` as a real process."""

from __future__ import annotations

import re
from pathlib import Path

from tests.agents.model_server import Call, Reply, Say
from tests.agents.test_artifacts import GIF, SHOW, files_in
from tests.agents.test_cli_ask import ask

WORK = f"{SHOW}show(7)\nw = open('result.csv', 'w').write('1'), open('page.html', 'w').write('2')"
REPLIES: list[Reply] = [Call([("execute_python_code", {"python_code": WORK})]), Say("Done.")]


def test_ask_keeps_artifacts_beside_the_notebook(tmp_path: Path) -> None:
    done, server = ask("Go.", "--save", "out.ipynb", "--artifacts", replies=[*REPLIES], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path / "out_files") == {
        "cell-01-1.gif": GIF + b"\7",
        "page.html.bin": b"2",
        "result.csv": b"1",
    }
    assert re.search(r"▣ out_files/cell-01-1\.gif  image/gif, 3×2 pixels, 14 bytes\n", done.stdout)
    assert "↓ out_files/result.csv\n" in done.stdout
    told = server.requests[1]["messages"][-1]["content"]
    assert "saved as cell-01-1.gif. It is shown to the user; you cannot see it.]" in told
    assert "[Saved for the user: page.html as page.html.bin, result.csv]" in told
    assert str(tmp_path) not in told


def test_ask_without_it_keeps_the_figures_only(tmp_path: Path) -> None:
    done, _ = ask("Go.", "--output-dir", "figures", replies=[*REPLIES], directory=tmp_path)
    assert list(files_in(tmp_path / "figures")) == ["cell-01-1.gif"]
    assert "▣ figures/cell-01-1.gif" in done.stdout
    assert "↓ /mnt/data/result.csv" in done.stdout


def test_ask_tells_what_could_not_be_saved(tmp_path: Path) -> None:
    (tmp_path / "out_files").write_text("")
    done, _ = ask("Go.", "--save", "out.ipynb", "--artifacts", replies=[*REPLIES], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "✗ Not saved for the user (File exists): page.html, result.csv" in done.stdout
    assert "▣ figure: image/gif, 3×2 pixels, 14 bytes, not saved: File exists" in done.stdout


def test_ask_says_where_artifacts_need_a_place(tmp_path: Path) -> None:
    done, server = ask("Go.", "--artifacts", replies=[*REPLIES], directory=tmp_path)
    assert done.returncode == 2
    assert "--save OUT.ipynb, or --output-dir DIR" in done.stderr
    assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["cities.csv"]
