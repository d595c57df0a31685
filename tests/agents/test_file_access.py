"""Files of the host: which ones are read, and what the sandbox says about them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pandas
import pytest

from kernel_sandbox import Session
from kernel_sandbox.agents import FileAccessAgent, FileAccessTool, PythonExecAgent, ScriptedModel
from kernel_sandbox.agents.file_access import default_directories, find_host_file, preview_cell
from kernel_sandbox.errors import HostFileRefused


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory that is allowed, beside one that is not."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("password\nhunter2\n")
    allowed = tmp_path / "data"
    (allowed / "sub").mkdir(parents=True)
    (allowed / "table.csv").write_text("a,b\n1,x\n2,\n")
    (allowed / "sub" / "inner.csv").write_text("a\n1\n")
    (allowed / "link.csv").symlink_to(outside / "secret.csv")
    (allowed / "linked").symlink_to(outside)
    (allowed / "inner-link.csv").symlink_to(allowed / "table.csv")
    (allowed / ".env").write_text("KEY=1")
    (allowed / ".hidden.csv").write_text("a\n")
    (allowed / "program.py").write_text("")
    os.mkfifo(allowed / "pipe.csv")
    return allowed


def test_link_of_the_working_directory_widens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home = tmp_path / "theirs", tmp_path / "home"
    home.mkdir()
    (here / "resources").mkdir(parents=True)
    (home / "secret.csv").write_text("a\n4711\n")
    (here / "resources" / "data").symlink_to(home)
    monkeypatch.chdir(here)
    for name in ("secret.csv", "resources/data/secret.csv", str(home / "secret.csv")):
        with pytest.raises(HostFileRefused, match=r"outside the directories|There is no file"):
            find_host_file(name, default_directories(), 1000)


@pytest.mark.parametrize("name", ["table.csv", "./table.csv", "sub/inner.csv", "sub/../table.csv", "inner-link.csv"])
def test_files_below_the_directory_are_found(data: Path, name: str) -> None:
    assert find_host_file(name, [data], 1000) == (data / name).resolve()
    assert find_host_file(str(data / name), [data], 1000) == (data / name).resolve()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../outside/secret.csv", "outside the directories"),
        ("sub/../../outside/secret.csv", "outside the directories"),
        ("/etc/passwd", "outside the directories"),
        ("/etc/there-is-no-such-file", "outside the directories"),
        ("link.csv", "outside the directories"),
        ("linked/secret.csv", "outside the directories"),
        (".env", "hidden"),
        (".hidden.csv", "hidden"),
        ("~/table.csv", "no file"),
        ("http://127.0.0.1/table.csv", "not an address"),
        ("file:///etc/passwd", "not an address"),
        ("s3://bucket/table.csv", "not an address"),
        ("container:table.csv", "not an address"),
        ("//host/table.csv", "not an address"),
        ("", "not an address"),
        ("table.csv\0", "not an address"),
        ("missing.csv", "no file"),
        ("x" * 5000 + ".csv", "no file|outside"),
        ("program.py", "only files of these kinds"),
        ("sub", "only files of these kinds"),
        ("pipe.csv", "not a regular file"),
    ],
)
def test_everything_else_is_refused(data: Path, name: str, said: str) -> None:
    with pytest.raises(HostFileRefused, match=said) as caught:
        find_host_file(name, [data], 1000)
    assert "hunter2" not in str(caught.value)
    assert str(data) not in str(caught.value) or str(data) in name


def test_large_files_are_refused(data: Path) -> None:
    with pytest.raises(HostFileRefused, match="too large"):
        find_host_file("table.csv", [data], 5)


def test_default_directories_are_the_working_one_and_the_cookbooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_directories() == (tmp_path,)
    (tmp_path / "resources" / "data").mkdir(parents=True)
    assert default_directories() == (tmp_path / "resources" / "data", tmp_path)


@pytest.mark.parametrize("name", ['a".csv', "é漢😀.csv", "a\\n.csv", "'''.csv", "{x}.csv", '");import os;("'])
def test_name_reaches_the_cell_as_the_same_text(name: str) -> None:
    cell = preview_cell(name)
    source = cell.rpartition("_FilePreview(")[2].rpartition(").show()")[0]
    assert json.loads(eval(source, {})) == {"name": name, "rows": 15}
    assert source.isascii()


def preview(session: Session, path: Path) -> str:
    return FileAccessTool(session, directories=[path.parent]).run({"filename": path.name})


FRAME = pandas.DataFrame({"count": range(40), "name": ["x", None] * 20})


def test_every_kind_is_previewed_in_the_sandbox(science: Session, tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t é'\".csv", index=False)
    FRAME.to_csv(tmp_path / "semicolons.csv", index=False, sep=";")
    FRAME.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    FRAME.to_json(tmp_path / "t.json", orient="records")
    FRAME.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    science.execute("import pandas; made = pandas.read_csv('/dev/null', names=['a'])")
    for path in sorted(tmp_path.iterdir()):
        said = preview(science, path)
        assert f"Copied {path.name} into the sandbox: /mnt/data/{path.name}" in said
        assert "40 rows × 2 columns" in said
        assert "first 15 rows is:\n" in said
        assert re.search(r"^14 +14 +x$", said, re.MULTILINE)
        assert not re.search(r"^15 ", said, re.MULTILINE)
        assert "count  int64        0" in said
        assert "missing (20 in all)" in said


def test_binary_kinds_are_previewed(science: Session, tmp_path: Path) -> None:
    science.execute(
        "import pandas as pd\nf = pd.DataFrame({'count': range(40), 'name': ['x', None] * 20})\n"
        "f.to_parquet('made.parquet')\n"
        "with pd.ExcelWriter('made.xlsx') as w:\n"
        "    f.to_excel(w, sheet_name='one', index=False); f.to_excel(w, sheet_name='two', index=False)"
    ).raise_for_error()
    for name, said in (("made.parquet", "40 rows × 2 columns"), ("made.xlsx", "Sheet 'two': 40 rows × 2 columns")):
        science.files.download(name, tmp_path)
        assert said in preview(science, tmp_path / name)


def test_broken_files_say_so_and_show_their_lines(science: Session, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"a": ')
    (tmp_path / "broken.xlsx").write_bytes(b"no zip")
    (tmp_path / "notes.txt").write_text("".join(f"line {n}\n" for n in range(30)))
    assert "cannot be read as json (JSONDecodeError" in preview(science, tmp_path / "broken.json")
    assert '\n{"a": \n1 lines in all' in preview(science, tmp_path / "broken.json")
    assert "cannot be read as xlsx (" in preview(science, tmp_path / "broken.xlsx")
    notes = preview(science, tmp_path / "notes.txt")
    assert "line 14\n30 lines in all" in notes


def test_preview_leaves_no_names_and_is_marked_in_the_transcript(science: Session, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    before = science.execute("sorted(n for n in dir() if not n.startswith('_'))").text
    preview(science, tmp_path / "t.csv")
    assert science.execute("sorted(n for n in dir() if not n.startswith('_'))").text == before
    tags = [cell["metadata"].get("tags") for cell in science.transcript.notebook["cells"]]
    assert ["file-preview"] in tags


def test_image_without_pandas_shows_lines(session: Session, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    said = preview(session, tmp_path / "t.csv")
    assert "No module named 'pandas'" in said
    assert "a,b\n1,2\n2 lines in all" in said


def test_each_agent_has_only_its_own_side() -> None:
    model = ScriptedModel([])
    tools = {
        kind: [d["function"]["name"] for d in agent.signature()["tools"]]
        for kind, agent in (
            ("files", FileAccessAgent(language_model_interface=model)),
            ("code", PythonExecAgent(language_model_interface=model)),
        )
    }
    assert tools == {"files": ["safe_file_access"], "code": ["execute_python_code", "list_files"]}
