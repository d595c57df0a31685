"""The transcript: what is written, what is read back, and how scripts are split."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.outputs import DisplayData, ErrorOutput, ExecuteResult, Output, StreamOutput
from kernel_sandbox.session.transcript import Cell, Transcript, split_percent_script

OUTPUTS: tuple[Output, ...] = (
    StreamOutput("stdout", "a\nb\r\u2028c\x00\x1b[0m"),
    DisplayData(
        {"text/plain": "x\ny", "text/html": "", "image/png": "aGk=", "image/svg+xml": "<svg>\n</svg>"}, {}, "d"
    ),
    ExecuteResult({"text/plain": "1", "application/json": {"b": [], "a": ["x\n", 1.5, None, True]}}, {"k": {}}, 2),
    ErrorOutput("E", "é\n😀", ("line\nline", "")),
)


def example() -> Transcript:
    transcript = Transcript(metadata={"title": "Example", "trusted": True, "signature": "sha256:0"})
    transcript.set_kernel({"name": "python3", "display_name": "Python 3", "language": "python"}, {"name": "python"})
    transcript.set_provenance({"image": "datascience", "limits": {"memory": "2g"}})
    transcript.add_markdown("# Prose\n\ntext")
    transcript.add_code_cell("print(1)\n", OUTPUTS, execution_count=2, metadata={"tags": ["a"], "trusted": True})
    transcript.add_code_cell("")
    return transcript


def written(transcript: Transcript, folder: Path) -> dict[str, Any]:
    text = transcript.save(folder / "written.ipynb").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return parsed


# Writing


def test_transcript_is_written_as_nbformat_writes_it(tmp_path: Path) -> None:
    path, again = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    example().save(path, validate=True)
    nbformat.write(nbformat.read(path, as_version=4), again)  # type: ignore[no-untyped-call]
    assert path.read_bytes() == again.read_bytes()


def test_transcript_without_cells_is_written_as_nbformat_writes_it(tmp_path: Path) -> None:
    path, again = Transcript().save(tmp_path / "a.ipynb"), tmp_path / "b.ipynb"
    nbformat.write(nbformat.read(path, as_version=4), again)  # type: ignore[no-untyped-call]
    assert path.read_bytes() == again.read_bytes()


def test_notebook_is_valid_and_has_everything() -> None:
    notebook = example().notebook
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert [output.output_type for output in notebook.cells[1].outputs] == [o.output_type for o in OUTPUTS]
    assert notebook.cells[1].outputs[0].text == "a\nb\r\u2028c\x00\x1b[0m"
    assert notebook.cells[1].outputs[2]["data"]["application/json"]["a"] == ["x\n", 1.5, None, True]
    assert notebook.metadata.kernelspec == {"name": "python3", "display_name": "Python 3", "language": "python"}
    assert notebook.metadata.kernel_sandbox.image == "datascience"


def test_transcript_never_stores_trust_nor_display_ids(tmp_path: Path) -> None:
    text = example().save(tmp_path / "a.ipynb").read_text(encoding="utf-8")
    assert not any(word in text for word in ("trusted", "signature", "display_id", "transient"))


def test_cell_ids_are_eight_hexadecimal_digits_and_unique() -> None:
    transcript = Transcript()
    for _ in range(300):
        transcript.add_code_cell("1")
    ids = {cell["id"] for cell in transcript.notebook.cells}
    assert len(ids) == 300
    assert all(len(cell_id) == 8 and int(cell_id, 16) >= 0 for cell_id in ids)


def test_cell_metadata_has_times_and_a_status_that_is_not_ok() -> None:
    busy = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    times: dict[str, datetime | str] = {
        "iopub.status.busy": busy,
        "iopub.status.idle": "2026-01-02T03:04:06Z",
        "other": "x",
    }
    transcript = Transcript()
    transcript.add_code_cell("1", timing=times, outcome={"status": "timeout", "ran": "began"}, metadata={"tags": ["x"]})
    assert transcript.notebook.cells[0].metadata == {
        "execution": {"iopub.status.busy": "2026-01-02T03:04:05.000678Z", "iopub.status.idle": "2026-01-02T03:04:06Z"},
        "kernel_sandbox": {"status": "timeout", "ran": "began"},
        "tags": ["x"],
    }


def test_update_replaces_outputs_and_keeps_the_rest() -> None:
    transcript = Transcript()
    cell = transcript.add_code_cell("1", outcome={"status": "dead"}, metadata={"tags": ["x"]})
    before = transcript.notebook.cells[cell].id
    transcript.update(cell, (StreamOutput("stdout", "late"),), execution_count=7)
    assert transcript.notebook.cells[cell].metadata.kernel_sandbox.status == "dead"
    transcript.update(cell, (StreamOutput("stdout", "later"),), outcome={"status": "ok"})
    after = transcript.notebook.cells[cell]
    assert (after.id, after.execution_count, after.outputs[0].text) == (before, 7, "later")
    assert after.metadata == {"tags": ["x"]}


def test_update_of_markdown_is_refused() -> None:
    transcript = Transcript()
    with pytest.raises(TranscriptError, match="only code cells have outputs"):
        transcript.update(transcript.add_markdown("x"), ())


def test_metadata_that_nbformat_refuses_is_left_out() -> None:
    transcript = Transcript(metadata={"kernelspec": {"display_name": "no name"}, "title": 7, "authors": "me", "x": 1})
    transcript.set_kernel({"name": "k"}, {"name": "python", "mimetype": 7, "version": "3", "x": "\ud800"})
    transcript.add_code_cell("1", metadata={"tags": ["a,b"], "name": "", "collapsed": 1, "scrolled": 2, "y": 1})
    nbformat.validate(transcript.notebook)
    assert transcript.notebook.cells[0].metadata == {"y": 1}
    assert transcript.metadata == {
        "kernelspec": {"name": "k", "display_name": "k"},
        "language_info": {"name": "python", "version": "3", "x": "\ufffd"},
        "x": 1,
    }


def test_source_with_surrogates_and_nul_is_stored(tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.add_code_cell("x = '\ud800\x00'", (StreamOutput("stdout", "\udfff"),))
    assert transcript.sources == ("x = '\ufffd\x00'",)
    assert written(transcript, tmp_path)["cells"][0]["source"] == ["x = '\ufffd\x00'"]


def test_outputs_that_no_collector_made_are_strict_json(tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.add_code_cell("1", (DisplayData({"application/json": [float("nan")], "text/plain": ""}, {}),))
    assert written(transcript, tmp_path)["cells"][0]["outputs"][0]["data"]["application/json"] == [None]


# Files


def test_save_keeps_the_mode_of_a_file_and_follows_no_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a.ipynb", tmp_path / "link.ipynb"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with pytest.raises(TranscriptError, match=f"is a link to {path}"):
        Transcript().save(link)
    assert (link.is_symlink(), path.read_text()) == (True, "old")
    assert Transcript().save(path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert json.loads(path.read_text())["cells"] == []
    assert sorted(os.listdir(tmp_path)) == ["a.ipynb", "link.ipynb"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/a.ipynb", "create its directory first"),
        ("file/a.ipynb", "choose another place"),
        (".", "it is not a regular file"),
        ("x" * 300, "choose a shorter name"),
        ("\0", "null"),
    ],
)
def test_save_says_why_it_cannot(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TranscriptError, match=reason):
        Transcript().save(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


def test_save_replaces_no_device() -> None:
    with pytest.raises(TranscriptError, match="not a regular file"):
        Transcript().save("/dev/full")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = Transcript().save(tmp_path / "a.ipynb")
    old = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(TranscriptError, match="cannot be written"):
            example().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.ipynb"]


def test_save_without_a_path_asks_for_one() -> None:
    Transcript().autosave()
    with pytest.raises(TranscriptError, match="give one to save"):
        Transcript().save()


def test_autosave_is_cheap(tmp_path: Path) -> None:
    transcript = Transcript(path=tmp_path / "a.ipynb")
    for _ in range(100):
        transcript.add_code_cell("1", (StreamOutput("stdout", ("x" * 99 + "\n") * 100),))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        transcript.autosave()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02
    assert (tmp_path / "a.ipynb").read_bytes() == transcript.to_bytes()


def test_autosave_imports_neither_nbformat_nor_pandas(tmp_path: Path) -> None:
    code = """
import sys
from kernel_sandbox.session.transcript import Transcript
transcript = Transcript(path=sys.argv[1])
transcript.add_code_cell("1")
transcript.autosave()
sys.exit(any(name in sys.modules for name in ("nbformat", "pandas")))
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.ipynb"], check=True)


# Loading


def test_loaded_notebook_is_written_back_as_it_was(tmp_path: Path) -> None:
    path = example().save(tmp_path / "a.ipynb")
    loaded = Transcript.load(path)
    assert loaded.path is None
    assert loaded.save(tmp_path / "b.ipynb").read_bytes() == path.read_bytes()


def test_loaded_notebook_keeps_prose_and_loses_trust(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {"k": 1}, "source": ["![x]", "(attachment:x.png)"], "id": "a",
         "attachments": {"x.png": {"image/png": "aGk="}}},
        {"cell_type": "raw", "metadata": {"format": "text/x"}, "source": "raw", "id": "a"},
        {"cell_type": "code", "metadata": {"trusted": True, "tags": ["t"]}, "source": "1", "id": "a", "outputs": [],
         "execution_count": None},
    ]  # fmt: skip
    document = {"cells": cells, "metadata": {"signature": "x", "m": 1}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(document))
    loaded = Transcript.load(path)
    assert loaded.metadata == {"m": 1}
    assert [cell.kind for cell in loaded.cells] == ["markdown", "raw", "code"]
    assert loaded.cells[0] == Cell("markdown", "![x](attachment:x.png)", {"k": 1}, {"x.png": {"image/png": "aGk="}})
    replay = Transcript(metadata=loaded.metadata)
    for cell in loaded.cells:
        replay.add_cell(cell)
    nbformat.validate(replay.notebook)
    assert replay.cells == loaded.cells
    assert replay.cells[2].metadata == {"tags": ["t"]}
    assert loaded.sources == ("1",)


def test_notebook_of_version_3_is_upgraded(tmp_path: Path) -> None:
    stream = {"output_type": "stream", "stream": "stdout", "text": ["a\n", "b"]}
    code = {"cell_type": "code", "language": "python", "input": ["1\n", "2"], "outputs": [stream], "metadata": {},
            "collapsed": False, "prompt_number": 3}  # fmt: skip
    heading = {"cell_type": "heading", "level": 2, "source": ["Title"], "metadata": {}}
    sheets = [{"cells": [heading, code], "metadata": {}}]
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps({"worksheets": sheets, "metadata": {"name": "x"}, "nbformat": 3, "nbformat_minor": 0}))
    loaded = Transcript.load(path)
    assert [cell.source for cell in loaded.cells] == ["## Title", "1\n2"]
    nbformat.validate(loaded.notebook)
    assert loaded.notebook.cells[1].outputs[0].text == "a\nb"
    assert loaded.metadata == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "nests too deeply"),
        (b"[]", "no cells"),
        (b'{"cells": {}}', "no cells"),
        (b'{"cells": [], "nbformat": 2, "metadata": {}}', "format 2, not 3 or 4"),
        (b'{"cells": [], "nbformat": [], "metadata": {}}', "not 3 or 4"),
        (b'{"cells": [7], "nbformat": 4, "nbformat_minor": 4, "metadata": {}}', "not a valid notebook"),
        (b'{"cells": [{"cell_type": "code"}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "not a valid"),
        (b'{"cells": [], "nbformat": 4, "nbformat_minor": 5}', "'metadata' is a required property"),
        (b'{"cells": [{"cell_type": "x", "source": "", "metadata": {}}], "nbformat": 4, "metadata": {}}', "type 'x'"),
        (
            b'{"cells": [{"cell_type": "raw", "source": 7, "metadata": {}}], "nbformat": 4, "metadata": {}}',
            "'source' is",
        ),
        (b'{"worksheets": [7], "nbformat": 3, "nbformat_minor": 0, "metadata": {}}', "not a valid notebook"),
        (b'{"cells": [], "nbformat": 3, "nbformat_minor": "x", "metadata": {}}', "not a valid notebook"),
    ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.ipynb"
    path.write_bytes(content)
    with pytest.raises(TranscriptError, match=reason) as caught:
        Transcript.load(path)
    assert "broken.ipynb" in str(caught.value)


def test_load_refuses_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="No such file"):
        Transcript.load(tmp_path / "none.ipynb")
    with pytest.raises(TranscriptError, match="not a file"):
        Transcript.load(tmp_path)
    large = tmp_path / "large.ipynb"
    large.touch()
    os.truncate(large, 100 * 1024 * 1024 + 1)
    with pytest.raises(TranscriptError, match="too large"):
        Transcript.load(large)


def test_loaded_notebook_with_nan_becomes_strict(tmp_path: Path) -> None:
    text = example().save(tmp_path / "a.ipynb").read_text(encoding="utf-8").replace("1.5", "NaN")
    (tmp_path / "a.ipynb").write_text(text, encoding="utf-8")
    notebook = written(Transcript.load(tmp_path / "a.ipynb"), tmp_path)
    assert notebook["cells"][1]["outputs"][2]["data"]["application/json"]["a"][1] is None


def test_loaded_notebook_of_an_odd_shape_is_mended(tmp_path: Path) -> None:
    outputs = [{"output_type": "stream", "text": "x"}, {"output_type": "pyout"}, {"output_type": "execute_result"}]
    cells = [
        {"cell_type": "heading", "level": 10**12, "source": "Title", "metadata": {}},
        {"cell_type": "code", "source": "1", "metadata": {"tags": "none"}, "outputs": outputs},
    ]
    path = tmp_path / "odd.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": 7}, "nbformat": 4, "nbformat_minor": 2}))
    loaded = Transcript.load(path)
    assert [cell.source for cell in loaded.cells] == ["###### Title", "1"]
    shown = written(loaded, tmp_path)["cells"][1]["outputs"]
    assert [(output["output_type"], output.get("name")) for output in shown] == [
        ("stream", "stdout"),
        ("execute_result", None),
    ]
    assert written(loaded, tmp_path)["nbformat_minor"] == 2


# Percent scripts


def test_percent_script_is_split_at_its_markers() -> None:
    script = (
        '"""A docstring."""\n# comment\n\n# %% first\nimport os\n\n# %% [markdown] title\n# # Head\n#\n# text\n'
        "#%%\n# %%time\nx = 1\r\n\n# %% [raw]\n# raw\n# %%\n\n# %%\ny = '''\n# not a marker %%\n'''\n"
    )
    assert split_percent_script(script) == [
        Cell("code", '"""A docstring."""\n# comment\n\nimport os'),
        Cell("markdown", "# Head\n\ntext"),
        Cell("code", "# %%time\nx = 1"),
        Cell("raw", "raw"),
        Cell("code", "y = '''\n# not a marker %%\n'''"),
    ]


def test_percent_script_without_markers_is_one_cell() -> None:
    assert split_percent_script("x = 1\n\ny = 2\n") == [Cell("code", "x = 1\n\ny = 2")]
    assert split_percent_script("\n\n") == []


def test_percent_script_keeps_code_before_the_first_marker_apart() -> None:
    assert split_percent_script("import os\n# %%\nx") == [Cell("code", "import os"), Cell("code", "x")]


def test_percent_script_loses_jupytexts_header_and_reads_markdown_strings() -> None:
    script = '# ---\n# jupyter:\n#   x: 1\n# ---\n\n# %% [md]\n"""\nHello\n"""\n'
    assert split_percent_script(script) == [Cell("markdown", "Hello")]
