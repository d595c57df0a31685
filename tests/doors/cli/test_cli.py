"""The command as users run it: real processes, real containers, every exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from kernel_sandbox import Session
from tests.conftest import missing
from tests.shadowing import shadow

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
Result = subprocess.CompletedProcess[str]
Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs the command in an empty directory."""

    def run(*arguments: str | Path, stdin: str = "", **environment: str) -> Result:
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def docker() -> None:
    if reason := missing("docker"):
        pytest.skip(reason)


def script(directory: Path, *cells: str) -> Path:
    path = directory / "script.py"
    path.write_text("".join(f"# %%\n{cell}\n" for cell in cells))
    return path


def saved(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


# Help and usage


def test_help_names_every_command_and_needs_little(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.returncode == 0
    for name in ("setup", "run", "repl", "image", "kernelspec", "ps", "gc", "doctor", "Exit status"):
        assert name in shown.stdout
    heavy = "{'rich', 'docker', 'nbformat', 'pandas', 'pygments'} & set(sys.modules)"
    source = f"import sys; import kernel_sandbox.doors.cli; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        "setup",
        "run",
        "repl",
        "ask",
        "demo",
        "image build",
        "image list",
        "image show",
        "image remove",
        "kernelspec install",
        "kernelspec list",
        "kernelspec remove",
        "ps",
        "gc",
        "doctor",
    ],
)
def test_help_reads_like_a_manual_page(cli: Cli, command: str) -> None:
    shown = cli(*command.split(), "--help")
    assert shown.returncode == 0
    assert "Usage: kernel-sandbox" in shown.stdout
    assert re.search(r"Exit status:\n +0 ", shown.stdout)


def test_version_is_shown(cli: Cli) -> None:
    assert re.fullmatch(r"kernel-sandbox \d+\.\d+\.\d+\n", cli("--version").stdout)


def test_command_alone_shows_the_help_and_fails(cli: Cli) -> None:
    shown = cli()
    assert shown.returncode == 2
    assert "Commands:" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "No such command 'nope'"),
        (["exprt", "x"], "No such command 'exprt'. Did you mean export?"),
        (["run", "absent.py"], "does not exist"),
        (["run", "latin.py"], "is not UTF-8 (line 2)"),
        (["run", "broken.ipynb"], "is not a notebook"),
        (["run", "data.txt"], "neither a script"),
        (["run", "julia.ipynb"], "is written in julia"),
        (["run", "good.py", "--data", "absent.csv"], "does not exist"),
        (["run", "good.py", "--data", "good.py", "--data", "deep/good.py"], "Two files of --data are named good.py"),
        (["run", "good.py", "--save", "out.txt"], "let it end in .ipynb"),
        (["run", "good.py", "--save", "absent/out.ipynb"], "create it first"),
        (["run", "good.py", "--memory", "lots"], "is not a size"),
        (["run", "good.py", "--memory", "10m"], "at least 128 MB"),
        (["run", "good.py", "--cpus", "0"], "--cpus"),
        (["run", "good.py", "--engine", "nope"], "--engine"),
        (["run", "good.py", "--mount", "a b:c d"], "cannot be a name"),
        (["image", "build", "nope"], "nope"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(cli: Cli, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "latin.py").write_bytes(b"x = 1\ny = '\xe9'\n")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.py").write_text("x = 1\n")
    kernel = {"kernelspec": {"name": "julia", "display_name": "Julia", "language": "julia"}}
    (tmp_path / "julia.ipynb").write_text(
        json.dumps({"cells": [], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )
    failed = cli(*arguments)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert words in failed.stderr
    assert failed.stdout == ""


# Run


@pytest.mark.usefixtures("docker")
def test_run_shows_and_saves_every_cell(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("1\n2\n")
    path = tmp_path / "script.py"
    path.write_text(
        "# %% [markdown]\n# # Title\n# %%\nx = open('numbers.csv').read()\n# %%\nprint(x, end='')\nlen(x)\n"
    )
    done = cli("run", path, "--data", "numbers.csv", "--save", "out.ipynb", "--image", "python")
    assert done.returncode == 0, done.stderr
    assert "[1/2] x = open('numbers.csv').read()\n" in done.stdout
    assert "[2/2] print(x, end='')\n1\n2\n4\n[2/2] ✓ ok, " in done.stdout
    assert "The notebook is out.ipynb.\n" in done.stdout
    again = "kernel-sandbox run out.ipynb --data numbers.csv\n"
    assert done.stdout.endswith(f"  run it again: {again}  make a page:  kernel-sandbox export out.ipynb\n")
    assert cli(*again.split()[1:], "--image", "python").returncode == 0
    notebook = saved(tmp_path / "out.ipynb")
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[0].source == "# Title"
    assert notebook.cells[2].outputs[0].text == "1\n2\n"


@pytest.mark.usefixtures("docker")
def test_run_stops_at_a_failure_and_keeps_the_rest_unrun(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, "x = 1", "x / 0", "print('later')")
    failed = cli("run", path, "--save", "out.ipynb", "--image", "python")
    assert failed.returncode == 1
    assert "ZeroDivisionError: division by zero" in failed.stdout
    assert "✗ Cell 2 of 3 failed (ZeroDivisionError)" in failed.stdout
    assert "1 did not run" in failed.stdout
    cells = saved(tmp_path / "out.ipynb").cells
    assert [cell.source for cell in cells] == ["x = 1", "x / 0", "print('later')"]
    assert cells[2].execution_count is None


@pytest.mark.usefixtures("docker")
def test_run_keeps_going_when_told(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, "1 / 0", "print('later')", "nope")
    failed = cli("run", path, "--keep-going", "--image", "python")
    assert failed.returncode == 1
    assert "\nlater\n" in failed.stdout
    assert "and 1 more" in failed.stdout
    assert "No notebook was kept: --save" in failed.stdout


@pytest.mark.usefixtures("docker")
def test_run_replays_a_notebook_with_its_prose_and_expected_failures(cli: Cli, tmp_path: Path) -> None:
    new = nbformat.v4
    cells = [
        new.new_markdown_cell("Some *prose*."),  # type: ignore[no-untyped-call]
        new.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),  # type: ignore[no-untyped-call]
        new.new_code_cell("print(6 * 7)"),  # type: ignore[no-untyped-call]
    ]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    done = cli("run", "in.ipynb", "--save", "out.ipynb", "--image", "python")
    assert done.returncode == 0, done.stdout
    assert "42" in done.stdout
    assert [cell.source for cell in saved(tmp_path / "out.ipynb").cells] == [cell.source for cell in cells]


@pytest.mark.usefixtures("docker")
def test_run_refuses_to_write_over_its_own_notebook(cli: Cli, tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("1")  # type: ignore[no-untyped-call]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    failed = cli("run", "in.ipynb", "--save", "./in.ipynb")
    assert failed.returncode == 2
    assert "give another name" in failed.stderr


@pytest.mark.usefixtures("docker")
def test_run_interrupts_a_cell_at_its_timeout(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, "import time\ntime.sleep(60)")
    failed = cli("run", path, "--cell-timeout", "1", "--image", "python")
    assert failed.returncode == 1
    assert "[1/1] ✗ timeout" in failed.stdout


@pytest.mark.usefixtures("docker")
def test_run_that_keeps_going_tells_once_of_the_fresh_kernel(cli: Cli, tmp_path: Path) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    path = script(tmp_path, stubborn, "print('there:', 'signal' in dir())", "print('last')")
    failed = cli("run", path, "--keep-going", "--cell-timeout", "1", "--image", "python")
    assert failed.returncode == 1
    lost, there, last = failed.stdout.partition("there: False\n")
    assert (there, "\nlast\n" in last) == ("there: False\n", True)
    assert "fresh kernel" not in lost
    assert last.count("This cell ran in a fresh kernel, without earlier variables.") == 1
    assert last.index("fresh kernel") < last.index("\nlast\n")


@pytest.mark.usefixtures("docker")
def test_run_ends_with_a_kernel_that_died(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, "import os\nos._exit(3)", "print('later')")
    failed = cli("run", path, "--keep-going", "--image", "python")
    assert failed.returncode == 1
    assert "KernelDied" in failed.stdout
    assert "\nlater\n" not in failed.stdout


@pytest.mark.usefixtures("docker")
def test_run_makes_hostile_output_visible(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, r"print('\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\rover')")
    done = cli("run", path, "--image", "python")
    assert "\x1b" not in done.stdout
    assert "\nover\n" in done.stdout


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--image", "datasciens"], {}, "no image 'datasciens'. Did you mean datascience?"),
        (["--image", "no-such-image:1"], {}, "docker pull no-such-image:1"),
        (["--image", "python", "--runtime", "no-such"], {}, "no runtime 'no-such'"),
        (["--engine", "docker"], {"DOCKER_HOST": "unix:///no/such/socket"}, "unset DOCKER_HOST, or correct it"),
    ],
)
def test_run_without_a_sandbox_says_what_mends_it(
    cli: Cli, tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    failed = cli("run", script(tmp_path, "1"), *arguments, "--save", "out.ipynb", **environment)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "out.ipynb").exists()


# Pictures and tables


PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"


@pytest.mark.usefixtures("docker")
def test_run_saves_figures_beside_the_notebook(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", script(tmp_path, "x = 1", PLOT), "--save", "out.ipynb")
    assert done.returncode == 0, done.stdout
    assert re.search(r"▣ out_files/cell-02-1\.png  image/png, \d+×\d+ pixels, [\d.]+ KB\n", done.stdout)
    assert (tmp_path / "out_files" / "cell-02-1.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.usefixtures("docker")
def test_run_keeps_figures_only_where_it_is_told(cli: Cli, tmp_path: Path) -> None:
    path = script(tmp_path, PLOT)
    shown = cli("run", path)
    assert re.search(r"figure: image/png, \d+×\d+ pixels, .*--output-dir DIR", shown.stdout)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["script.py"]
    cli("run", path, "--output-dir", "figures")
    assert [entry.name for entry in (tmp_path / "figures").iterdir()] == ["cell-01-1.png"]


def on_terminal(directory: Path, *arguments: str) -> str:
    """Run the command on a pseudo-terminal and return all that it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [COMMAND, *arguments], cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            written += chunk
    os.close(ours)
    assert process.wait(timeout=10) == 0
    return written.decode()


@pytest.mark.usefixtures("docker")
def test_run_on_a_terminal_draws_tables_colours_and_a_spinner(tmp_path: Path) -> None:
    table = "import pandas as pd\npd.DataFrame({'name': ['a', 'b'], 'x': [0.5, 12.25]})"
    noise = r"print('\x1b[32mgreen\x1b[0m \x1b]0;title\x07')" + "\nimport time; time.sleep(1)"
    script(tmp_path, table, noise)
    screen = on_terminal(tmp_path, "run", "script.py")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert re.search(r"name +x *\r\n +─+ *\r\n +0 +a +0\.50 *\r\n +1 +b +12\.25", plain)
    assert "\x1b[32mgreen" in screen
    assert "␛]0;title␇" in screen
    assert "\x1b]" not in screen
    assert re.search(r"⠋|⠙|⠹|⠸|⠼|⠴|⠦|⠧|⠇|⠏", plain)
    assert "✓ 2/2" in plain


# Ctrl-C


def start_run(directory: Path, *cells: str) -> subprocess.Popen[str]:
    """Start `run` on cells of which the first prints "ready", and wait until it has."""
    path = script(directory, *cells)
    command = [COMMAND, "run", str(path), "--image", "python", "--save", "out.ipynb"]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True)
    wait_for(process, "ready")
    return process


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert any(read == f"{line}\n" for read in process.stdout), f"the command ended without {line!r}"


@pytest.mark.usefixtures("docker")
def test_ctrl_c_interrupts_the_cell_and_saves(tmp_path: Path) -> None:
    process = start_run(tmp_path, "import time\nprint('ready', flush=True)\ntime.sleep(60)", "print('later')")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in output
    assert "Interrupted in cell 1 of 2" in output
    cells = saved(tmp_path / "out.ipynb").cells
    assert [output.output_type for output in cells[0].outputs] == ["stream", "error"]
    assert cells[1].source == "print('later')"


@pytest.mark.usefixtures("docker")
def test_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    stubborn = """
import time
said = 'ready'
while True:
    try:
        print(said, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        said = 'ignored'
"""
    process = start_run(tmp_path, stubborn)
    process.send_signal(signal.SIGINT)
    wait_for(process, "ignored")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert saved(tmp_path / "out.ipynb").cells[0].outputs[0].text.startswith("ready\nignored\n")


# Repl


@pytest.mark.usefixtures("docker")
def test_repl_runs_what_is_piped_in(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "up.txt").write_text("hello")
    lines = [
        "x = 41",
        "def f(a):",
        "    return a + 1",
        "",
        "f(x)",
        "name = input('Who? ')",
        "Ada",
        "print('Hi', name)",
        ":upload up.txt",
        "open('up.txt').read()",
        ":files",
        ":download up.txt down.txt",
        ":restart",
        "'x' in globals()",
        ":save out.ipynb",
    ]
    done = cli("repl", "--image", "python", stdin="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n42\n" in done.stdout
    assert "\nHi Ada\n" in done.stdout
    assert "\n'hello'\n" in done.stdout
    assert "5 bytes" in done.stdout
    assert "\nFalse\n" in done.stdout
    assert (tmp_path / "down.txt").read_text() == "hello"
    assert len(saved(tmp_path / "out.ipynb").cells) == 7


@pytest.mark.usefixtures("docker")
def test_repl_names_its_own_way_out_of_a_dead_kernel(cli: Cli) -> None:
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); exec('while True: pass')"
    lines = ["import os; os._exit(3)", "1", ":restart", "'on ' + 'again'", stubborn, "'signal' in dir()", "2"]
    done = cli("repl", "--image", "python", "--cell-timeout", "1", stdin="\n".join(lines) + "\n")
    said = done.stdout + done.stderr
    assert said.count(":restart starts a fresh kernel.") == 2
    assert said.count("The cell did not run.") == 1
    assert "restart()" not in said
    after = said.partition("'on again'")[2]
    assert said.count("This cell ran in a fresh kernel") == after.count("This cell ran in a fresh kernel") == 1
    assert "\nFalse\n" in after


@pytest.mark.usefixtures("docker")
def test_repl_says_what_is_wrong_and_goes_on(cli: Cli) -> None:
    lines = [":nope", ":save", ":download absent.txt", "1 / 0", "print('still', 'here')", "exit", "print('never')"]
    done = cli("repl", "--image", "python", stdin="\n".join(lines))
    assert done.returncode == 1
    assert "There is no command :nope" in done.stderr
    assert "Usage: :save FILE.ipynb" in done.stderr
    assert "There is no 'absent.txt'" in done.stderr
    assert "ZeroDivisionError" in done.stdout
    assert "\nstill here\n" in done.stdout
    assert "\nnever\n" not in done.stdout


@pytest.mark.usefixtures("docker")
def test_repl_interrupts_a_question_that_nobody_answers(cli: Cli) -> None:
    done = cli("repl", "--image", "python", stdin="input('Who? ')\n")
    assert done.returncode == 1
    assert "KeyboardInterrupt" in done.stdout


# The other commands


def test_image_list_shows_both_engines(cli: Cli, engine: str) -> None:
    listed = cli("image", "list")
    assert listed.returncode == 0
    assert re.search(rf"^{engine} +python +(built|out of date) +\d+ MB", listed.stdout, re.MULTILINE)
    assert " \n" not in listed.stdout
    only = cli("image", "list", "--engine", engine)
    assert {line.split()[0] for line in only.stdout.splitlines()[1:3]} == {engine}


def test_image_build_finds_an_image_up_to_date(cli: Cli, engine: str) -> None:
    cli("image", "build", "python", "--engine", engine)
    started = time.monotonic()
    built = cli("image", "build", "python", "--engine", engine)
    assert built.returncode == 0, built.stderr
    assert re.search(r"^✓ \S*python\S* is up to date  \d+ MB, base ", built.stdout, re.MULTILINE)
    assert time.monotonic() - started < 10


def test_engine_that_does_not_answer_is_a_line_unless_it_was_named(cli: Cli) -> None:
    nowhere = {"DOCKER_HOST": "unix:///no/such/socket"}
    listed = cli("image", "list", **nowhere)
    assert listed.returncode == 0
    assert re.search(r"^docker: No Docker engine answers", listed.stdout, re.MULTILINE)
    for command in (["image", "list"], ["image", "build", "python"], ["ps"], ["gc"]):
        assert cli(*command, "--engine", "docker", **nowhere).returncode == 2
    for command in (["ps"], ["gc"]):
        assert cli(*command, **nowhere).returncode == 0


def test_ps_names_sandboxes_and_their_owners(cli: Cli, session: Session) -> None:
    session.execute("1")
    (mine,) = [found for found in json.loads(cli("ps", "--json").stdout) if found["session_id"] == session.id]
    assert mine["image"] == "python"
    assert mine["engine"] == session.engine
    assert mine["owner_pid"] == os.getpid()
    assert mine["owner_alive"] is True
    table = cli("ps").stdout
    assert re.search(rf"^{session.id} +{session.engine} +python ", table, re.MULTILINE)
    assert f"pid {os.getpid()}" in table


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name; where it does not, run directories are elsewhere."""
    with tempfile.TemporaryDirectory(prefix="ks-gc-", dir="/tmp") as directory:
        yield Path(directory)


def test_gc_removes_the_run_directory_of_a_dead_owner(cli: Cli, short: Path) -> None:
    stale = short / "kernel-sandbox" / "0badcafe"
    stale.mkdir(parents=True)
    stale.parent.chmod(0o700)
    owner = {"pid": 1, "started": "0", "namespace": "unknown", "boot": "an earlier one"}
    machine = Path("/etc/machine-id")
    owner["machine"] = machine.read_text().strip() if machine.exists() else "unknown"
    (stale / "owner.json").write_text(json.dumps(owner))
    done = cli("gc", XDG_RUNTIME_DIR=str(short))
    assert done.returncode == 0
    assert "and 1 run directory." in done.stdout
    assert not stale.exists()


def test_kernelspec_is_installed_listed_and_removed(cli: Cli, tmp_path: Path) -> None:
    where = tmp_path / "share" / "jupyter"
    options = ["--prefix", str(tmp_path), "--name", "small", "--display-name", "Small", "--image", "python"]
    options += ["--engine", "bubblewrap"]
    done = cli("kernelspec", "install", *options, "--memory", "1g", JUPYTER_PATH=str(where))
    assert done.returncode == 0, done.stderr
    spec = KernelSpecManager(kernel_dirs=[str(where / "kernels")]).get_kernel_spec("small")
    assert (spec.display_name, spec.language, spec.interrupt_mode) == ("Small", "python", "message")
    config = {"engine": "bubblewrap", "image": "python", "limits": {"memory": 2**30}}
    provisioner = {"provisioner_name": "kernel-sandbox", "config": config}
    assert spec.metadata == {"debugger": False, "kernel_provisioner": provisioner}
    assert (where / "kernels" / "small" / "logo-svg.svg").read_text().startswith("<svg")
    assert "small" in cli("kernelspec", "list", JUPYTER_PATH=str(where)).stdout
    assert cli("kernelspec", "remove", "small", JUPYTER_PATH=str(where)).returncode == 0
    assert not (where / "kernels" / "small").exists()


def test_kernelspec_that_imports_what_lies_beside_a_notebook_is_replaced(cli: Cli, tmp_path: Path) -> None:
    where = str(tmp_path / "share" / "jupyter")
    old = ["--prefix", str(tmp_path), "--name", "old", "--memory", "1g", "--engine", "bubblewrap"]
    assert cli("kernelspec", "install", *old, JUPYTER_PATH=where).returncode == 0
    file = Path(where, "kernels", "old", "kernel.json")
    sound = json.loads(file.read_text())
    file.write_text(json.dumps(sound | {"argv": [part for part in sound["argv"] if part != "-I"]}))
    findings = json.loads(cli("doctor", "--json", "--engine", "bubblewrap", JUPYTER_PATH=where).stdout)
    (found,) = (finding for finding in findings if finding["subject"] == "Kernelspec old")
    assert (found["verdict"], found["remedy"]) == ("problem", "kernel-sandbox kernelspec install")
    assert cli("kernelspec", "install", "--prefix", str(tmp_path), JUPYTER_PATH=where).returncode == 0
    assert json.loads(file.read_text()) == sound


def test_export_imports_nothing_of_the_working_directory(cli: Cli, tmp_path: Path) -> None:
    canary = shadow(tmp_path)
    notebook = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), notebook)  # type: ignore[no-untyped-call]
    assert cli("export", str(notebook), "--to", "html").returncode == 0
    assert not canary.exists()


def test_kernelspec_of_others_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    theirs = tmp_path / "share" / "jupyter" / "kernels" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "kernel.json").write_text('{"argv": [], "display_name": "x", "language": "y"}')
    path = str(tmp_path / "share" / "jupyter")
    assert "holds another kernelspec" in cli("kernelspec", "install", "--prefix", tmp_path, "--name", "theirs").stderr
    failed = cli("kernelspec", "remove", "theirs", JUPYTER_PATH=path)
    assert failed.returncode == 2
    assert "no sandboxed kernelspec 'theirs'" in failed.stderr
    assert theirs.exists()
    assert cli("kernelspec", "install", "--prefix", tmp_path, "--name", "../up").returncode == 2
    assert cli("kernelspec", "install", "--prefix", tmp_path, "--user").returncode == 2
