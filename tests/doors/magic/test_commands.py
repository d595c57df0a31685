"""%sandbox COMMAND, and tab completion, through a real ipykernel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernel_sandbox.setup import kernelspec
from tests.doors.magic.host import Host

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def started(host: Host) -> None:
    assert "no network" in host.run("%sandbox start").stream()


def test_start_says_what_it_has_and_not_twice(host: Host) -> None:
    assert "is open" in host.run("%sandbox start").failure
    said = host.run("%sandbox start --session small --image python --memory 512m --cpus 1").stream()
    assert said.startswith("Sandbox 'small': python on bubblewrap, 512 MB memory, 1 processors, no network.\n")
    status = host.run("%sandbox status").stream()
    assert [line.split()[0] for line in status.splitlines()] == ["SESSION", "default", "small"]
    assert host.run("%sandbox shutdown --session small").stream() == "Ended: small.\n"


def test_start_mounts_and_saves(host: Host, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "a.txt").write_text("hello")
    host.run(f"%sandbox start -s m --mount {tmp_path}/big:big --save {tmp_path}/kept.ipynb")
    assert host.run("%%sandbox -s m\nopen('/mnt/input/big/a.txt').read()").bundle["text/plain"] == "'hello'"
    host.run("%sandbox shutdown -s m")
    assert len(json.loads((tmp_path / "kept.ipynb").read_text())["cells"]) == 1


def test_files_go_up_and_down(host: Host, tmp_path: Path) -> None:
    assert host.run("%sandbox files").stream() == "/mnt/data is empty.\n"
    (tmp_path / "my sales.csv").write_text("a\n1\n")
    assert (
        host.run(f"%sandbox upload '{tmp_path}/my sales.csv' sales.csv").stream() == "↑ /mnt/data/sales.csv  4 bytes\n"
    )
    host.run("%%sandbox\nopen('out.txt', 'w').write('made inside')")
    assert {line.split()[-1] for line in host.run("%sandbox files").stream().splitlines()} == {
        "NAME",
        "sales.csv",
        "out.txt",
    }
    assert host.run(f"%sandbox download /mnt/data/out.txt {tmp_path}").stream() == f"↓ {tmp_path}/out.txt  11 bytes\n"
    assert (tmp_path / "out.txt").read_text() == "made inside"
    assert "There is no 'absent'" in host.run("%sandbox download absent").failure
    assert "cannot be read" in host.run("%sandbox upload /no/such/file").failure


def test_save_keeps_the_cells_from_now_on(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "kept.ipynb"
    assert str(path) in host.run(f"%sandbox save {path}").stream()
    before = len(json.loads(path.read_text())["cells"])
    host.run("%%sandbox\n'later'")
    assert len(json.loads(path.read_text())["cells"]) == before + 1
    assert "end in .ipynb" in host.run("%sandbox save x.txt").failure


def test_notebook_that_is_kept_is_not_to_be_opened_without_its_kernel(host: Host, tmp_path: Path) -> None:
    lacking = "Jupyter lacks the sandboxed kernel: it would run these cells on your machine. First: kernel-sandbox "
    place = tmp_path / "kernels" / "python-sandbox"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text('{"argv": [], "display_name": "somebody else\'s", "language": "python"}')
    host.run(f"import os; os.environ['JUPYTER_PATH'] = {str(tmp_path)!r}")
    assert lacking in host.run(f"%sandbox save {tmp_path}/kept.ipynb").stream()
    assert lacking in host.run(f"%sandbox start -s k --save {tmp_path}/k.ipynb").stream()
    assert lacking not in host.run("%sandbox start -s unkept").stream()
    shutil.rmtree(place)
    kernelspec.install(place.parent)
    assert lacking not in host.run(f"%sandbox save {tmp_path}/kept.ipynb").stream()
    host.run("%sandbox shutdown -s k\n%sandbox shutdown -s unkept\ndel os.environ['JUPYTER_PATH']")


def test_restart_forgets_variables_and_keeps_files(host: Host) -> None:
    host.run("%%sandbox\nforgotten = 1\nopen('stays', 'w').write('1')")
    assert host.run("%sandbox restart").stream().startswith("A fresh kernel")
    assert "NameError" in host.run("%%sandbox\nforgotten").failure
    assert "stays" in host.run("%sandbox files").stream()


def test_limits_are_listed(host: Host) -> None:
    rows = dict(line.split(maxsplit=1) for line in host.run("%sandbox limits").stream().splitlines())
    assert rows["memory"] == "2 GB"
    assert rows["network"] == "none"


def test_interrupt_of_an_idle_sandbox_does_nothing(host: Host) -> None:
    assert host.run("%sandbox interrupt").status == "ok"
    assert host.run("%%sandbox\n1").status == "ok"


def test_wrong_commands_name_the_right_ones(host: Host) -> None:
    assert "invalid choice: 'launch'" in host.run("%sandbox launch").stream("stderr")
    assert "`%sandbox start` or a %%sandbox cell opens it" not in host.run("%sandbox status").text
    assert "There is no session 'x'" in host.run("%sandbox files --session x").failure
    assert "examples:" in host.run("%sandbox").stream()
    assert "--all" in host.run("%sandbox shutdown --help").stream()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%sandbox re", {"restart"}),
        ("%sandbox shutdown --session d", {"default"}),
        ("%%sandbox --eng", {"--engine"}),
        ("%%sandbox --engine b", {"bubblewrap"}),
        ("%%sandbox -i my_fr", {"my_frame"}),
        ("%%sandbox -o insi", {"inside_name"}),
        ("%ask --safety r", {"rules"}),
        ("%ask --data my_fr", {"my_frame"}),
        ("%%sandbox\ninside_na", {"inside_name"}),
        ("%%sandbox -s default\nimport json\njson.dum", {".dump", ".dumps"}),
    ],
)
def test_tab_completes_options_sessions_and_names_of_both_sides(host: Host, code: str, expected: set[str]) -> None:
    host.run("my_frame = 1")
    host.run("%%sandbox\ninside_name = 1\nimport json")
    assert {match.strip() for match in host.complete(code)} == expected


def test_completion_of_other_cells_is_ipythons(host: Host) -> None:
    assert "my_frame" in host.complete("my_fra")
    assert "%sandbox" in host.complete("%sandb")
