"""What cells leave on the host: real cells, some of them hostile."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from kernel_sandbox import AsyncSession, Session
from kernel_sandbox.agents import (
    AgentEvent,
    CellFinished,
    CellOutput,
    Completion,
    PythonExecAgent,
    PythonExecTool,
    ScriptedModel,
    ToolCall,
)
from kernel_sandbox.agents.cell_pictures import CellPictures
from kernel_sandbox.artifacts import Artifacts, PictureFolder, Saved
from kernel_sandbox.session.outputs import DisplayData, StreamOutput

pytestmark = pytest.mark.anyio

GIF = b"GIF89a\x03\x00\x02\x00\x00\x00\x00"
SHOW = f"""
import base64
from IPython.display import clear_output, display
def show(frame=0, **options):
    data = {GIF!r} + bytes([frame])
    display({{'image/gif': base64.b64encode(data).decode(), 'text/plain': '<plot>'}}, raw=True, **options)
"""
HOSTILE = """
import os
def put(name, text):
    try:
        with open(name, 'w') as file: file.write(text)
    except OSError as exc:
        print(type(exc).__name__)
for name in ['../../x', 'x' * 300, 'a\\nb.csv', 'evil.html', '.bashrc', 'y' * 200 + '.csv', '-rf.txt', 'cell-01-1.png']:
    put(name, 'x')
os.makedirs('deep/er')
put('deep/er/sales.csv', 'deepest')
put('deep/sales.csv', 'deep')
os.symlink('/etc/passwd', 'passwd.csv')
os.symlink('/etc', 'etc')
"""


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def run(tool: PythonExecTool, source: str) -> str:
    return tool.run({"python_code": source})


def test_nothing_is_saved_by_default(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run(PythonExecTool(session), f"{SHOW}show()\nw = open('a.csv', 'w').write('1')")
    assert "saved" not in told.lower()
    assert list(tmp_path.iterdir()) == []


def test_new_and_changed_files_are_saved_and_inputs_are_not(session: Session, tmp_path: Path) -> None:
    session.files.write("input.csv", "mine")
    out = tmp_path / "out"
    tool = PythonExecTool(session, artifacts=out)
    assert run(tool, "open('input.csv').read()") == "'mine'"
    assert not out.exists()
    told = run(tool, "w = open('table.csv', 'w').write('1')")
    assert told.endswith("[Saved for the user: table.csv]")
    assert files_in(out) == {"table.csv": b"1"}
    run(tool, "w = open('table.csv', 'w').write('12'), open('input.csv', 'w').write('changed')")
    run(tool, "os = __import__('os'); os.remove('table.csv'); 1 / 0")
    assert files_in(out) == {"input.csv": b"changed", "table.csv": b"12"}
    assert (out / "table.csv").stat().st_mode & 0o111 == 0


def test_files_of_a_failing_cell_are_saved(session: Session, tmp_path: Path) -> None:
    told = run(PythonExecTool(session, artifacts=tmp_path), "w = open('part.csv', 'w').write('1')\n1 / 0")
    assert "ZeroDivisionError" in told
    assert files_in(tmp_path) == {"part.csv": b"1"}


def test_what_others_wrote_is_left_alone(session: Session, tmp_path: Path) -> None:
    (tmp_path / "plan.md").write_text("the user's")
    (tmp_path / "notes.md").symlink_to(tmp_path / "elsewhere")
    tool = PythonExecTool(session, artifacts=str(tmp_path))
    told = run(tool, "for name in ('plan.md', 'notes.md'): open(name, 'w').write('a')")
    assert "[Saved for the user: notes.md as notes-2.md, plan.md as plan-2.md]" in told
    (tmp_path / "plan-2.md").write_text("edited by the user")
    run(tool, "for name in ('plan.md', 'notes.md'): open(name, 'w').write('bb')")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "notes.md").unlink()
    assert files_in(tmp_path) == {
        "notes-2.md": b"bb",
        "plan-2.md": b"edited by the user",
        "plan-3.md": b"bb",
        "plan.md": b"the user's",
    }


def test_hostile_names_stay_in_the_directory_and_are_harmless(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "work" / "out"
    told = run(PythonExecTool(session, artifacts=out), SHOW + "show()\n" + HOSTILE)
    assert told.count("OSError\n") == 2  # outside of /mnt/data, and too long for any file system
    assert r"[Not saved for the user (refused for its name, or as no regular file): a\nb.csv]" in told
    assert files_in(out) == {
        "bashrc.bin": b"x",
        "cell-01-1-2.png": b"x",
        "cell-01-1.gif": GIF + b"\0",
        "evil.html.bin": b"x",
        "rf.txt": b"x",
        "sales-2.csv": b"deep",
        "sales.csv": b"deepest",
        "y" * 100 + ".csv": b"x",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["out"]
    assert "root:" not in str(files_in(out))


def test_count_and_bytes_are_bounded_and_each_reason_is_said_once(session: Session, tmp_path: Path) -> None:
    events: list[AgentEvent] = []
    many = "for n in range(200): w = open(f'f{n:03}.csv', 'w').write('x')\nopen('a-huge.csv', 'wb').truncate(300 << 20)"
    told = run(PythonExecTool(session, artifacts=tmp_path, on_event=events.append), many)
    assert "[Not saved for the user (at most 256 MB of a session are saved): a-huge.csv]" in told
    assert "[Not saved for the user (at most 100 files of a session are saved): f100.csv, " in told
    assert told.count("Not saved") == 2
    assert told.endswith("and 70 more]")
    assert len(told) < 3000
    assert sorted(files_in(tmp_path)) == [f"f{n:03}.csv" for n in range(100)]
    finished = events[-1]
    assert isinstance(finished, CellFinished)
    assert finished.saved["f007.csv"] == Saved(tmp_path / "f007.csv")
    assert [one.path is None for one in finished.saved.values()].count(True) == 101


def test_bytes_are_counted_as_they_stand(session: Session, tmp_path: Path) -> None:
    tool = PythonExecTool(session, artifacts=Artifacts(tmp_path, max_bytes=10))
    run(tool, "w = open('a.csv', 'w').write('123456')")
    run(tool, "w = open('a.csv', 'w').write('1234567890')")
    told = run(tool, "w = open('b.csv', 'w').write('1'), open('a.csv', 'w').write('12345678901')")
    assert "(at most 10 bytes of a session are saved): b.csv, a.csv]" in told
    run(tool, "w = open('a.csv', 'w').write('1')")
    assert "Saved for the user: b.csv" in run(tool, "w = open('b.csv', 'w').write('234')")
    assert files_in(tmp_path) == {"a.csv": b"1", "b.csv": b"234"}


def test_directory_that_cannot_be_made_is_said_and_ends_nothing(session: Session, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tool = PythonExecTool(session, artifacts=tmp_path / "file")
    told = run(tool, f"{SHOW}show()\nw = open('a.csv', 'w').write('1')\n6 * 7")
    assert "[plot: image/gif, 3×2 pixels, 14 bytes, not saved (File exists). It is shown to the user" in told
    assert "[Not saved for the user (File exists): a.csv]" in told
    assert "42" in told
    assert str(tmp_path) not in told


def test_files_that_cannot_be_listed_are_said(session: Session, tmp_path: Path) -> None:
    told = run(PythonExecTool(session, artifacts=tmp_path), "for n in range(10_001): open(f'{n}', 'w').close()")
    assert "[Not saved for the user (they could not be listed): the files under /mnt/data]" in told


def test_names_of_pictures_are_the_same_for_the_model_the_display_and_on_disk(session: Session, tmp_path: Path) -> None:
    def show(events: list[AgentEvent]) -> list[str]:
        saved = [event.saved for event in events if isinstance(event, CellOutput)]
        return [one.path.name for one in saved if one is not None and one.path is not None]

    events: list[AgentEvent] = []
    film = SHOW + "for frame in range(5):\n    clear_output(wait=True)\n    show(frame)\nshow(9)"
    update = SHOW + "show(1, display_id='d')\nshow(2)\nshow(3, display_id='d', update=True)"
    cells = [json.dumps({"python_code": source}) for source in (film, update)]
    script = [Completion("", (ToolCall("c", "execute_python_code", text),)) for text in cells]
    agent = PythonExecAgent(
        language_model_interface=ScriptedModel([*script, "done"]),
        session=session,
        artifacts=tmp_path,
        on_event=events.append,
    )
    agent.task("go")
    assert files_in(tmp_path) == {
        "cell-01-1.gif": GIF + b"\4",
        "cell-01-2.gif": GIF + b"\t",
        "cell-02-1.gif": GIF + b"\3",
        "cell-02-2.gif": GIF + b"\2",
    }
    assert show(events) == [*["cell-01-1.gif"] * 5, "cell-01-2.gif", "cell-02-1.gif", "cell-02-2.gif", "cell-02-1.gif"]
    line = "[plot: image/gif, 3×2 pixels, 14 bytes, saved as {}. It is shown to the user; you cannot see it.]"
    told = [message["content"] for message in agent.messages.get_messages() if message["role"] == "tool"]
    assert told[0].split("\n") == [line.format("cell-01-1.gif"), line.format("cell-01-2.gif")]
    assert told[1].split("\n") == [line.format("cell-02-1.gif"), line.format("cell-02-2.gif")]


async def test_picture_whose_event_never_came_is_saved_at_the_end(tmp_path: Path) -> None:
    bundle = {"image/gif": base64.b64encode(GIF).decode(), "text/plain": "plot"}
    outputs = (StreamOutput("stdout", "before"), DisplayData(bundle, {}))
    pictures = CellPictures(PictureFolder(tmp_path), 7)
    assert (await pictures.tell(outputs, seen=False)).words == {
        1: ", saved as cell-07-1.gif. It is shown to the user; you cannot see it."
    }
    assert files_in(tmp_path) == {"cell-07-1.gif": GIF}
    await pictures.tell(outputs, seen=False)
    assert list(files_in(tmp_path)) == ["cell-07-1.gif"]


def test_real_figure_is_described_by_name_and_size(science: Session, tmp_path: Path) -> None:
    plot = "import matplotlib.pyplot as plt\nax = plt.plot([1, 2])\nplt.savefig('line.pdf')"
    told = run(PythonExecTool(science, artifacts=tmp_path), plot)
    name, _, rest = told.split("\n")[0].partition(": ")
    assert name.startswith("[Figure size ")
    size = (tmp_path / "cell-01-1.png").stat().st_size
    assert rest.startswith("image/png, ")
    assert f"{size / 1024:.3g} KB, saved as cell-01-1.png. It is shown to the user; you cannot see it.]" in rest
    assert (tmp_path / "line.pdf").read_bytes().startswith(b"%PDF")


async def test_artifacts_of_an_async_session(engine: str, tmp_path: Path) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        arguments = {"python_code": f"{SHOW}show()\nw = open('a.csv', 'w').write('1')"}
        answer = await PythonExecTool(session, artifacts=tmp_path, pictures=True).arun(arguments)
    assert "saved as cell-01-1.gif. It is shown below as picture 1.]" in answer.text
    assert [picture.data for picture in answer.pictures] == [GIF + b"\0"]
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "cell-01-1.gif"]


def test_dead_sandbox_keeps_what_was_saved(engine: str, tmp_path: Path) -> None:
    with Session(engine=engine, image="python") as session:
        tool = PythonExecTool(session, artifacts=tmp_path)
        run(tool, "w = open('a.csv', 'w').write('1')")
        told = run(tool, "w = open('b.csv', 'w').write('1')\nimport os; os.kill(os.getpid(), 9)")
        assert "SIGKILL" in told
        assert files_in(tmp_path) == {"a.csv": b"1", "b.csv": b"1"}
