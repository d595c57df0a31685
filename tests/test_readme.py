"""Every block of the README is run: Python prints what the block below it says, commands end with status 0."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.agents.model_server import Say, model_server
from tests.conftest import missing

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
SALES = "city,sold\nOslo,3\nRome,5\nOslo,4\n"
SCRIPT = "import pandas as pd\n# %%\nprint(pd.read_csv('/mnt/data/sales.csv')['sold'].sum())\n"
INSTEAD = {
    "tests/run": "test -x tests/run",  # it is what runs this
    "pip install '.[lab]'": "python -m pip install --quiet --dry-run --no-deps '.[lab]'",
    "jupyter lab": "jupyter lab --version",  # test_provisioner has a whole server
    "--sys-prefix": "--prefix prefix",
    "kernel-sandbox setup": "kernel-sandbox setup --yes --no-kernelspec",
    "kernel-sandbox serve --port 8765 &": "kernel-sandbox serve --port 8765 > served.log 2>&1 & echo $! > served.pid; "
    "curl -sf --retry 60 --retry-connrefused --retry-delay 1 localhost:8765/healthz",
}
"""What is run in place of what would change this environment, or never end."""
NEEDS_MODEL = 'kernel-sandbox ask "Which city'
TYPED = {"kernel-sandbox repl": "6 * 7\n", "kernel-sandbox ask --data": "exit\n"}
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_readme_has_its_examples_with_outputs() -> None:
    assert len(BLOCKS) == README.count("```python") >= 3


@pytest.mark.parametrize(("source", "expected"), BLOCKS, ids=[source.split("\n")[0][:40] for source, _ in BLOCKS])
def test_readme_example_prints_what_it_says(source: str, expected: str, tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == expected, done.stderr


def test_readme_names_commands_that_exist() -> None:
    commands = set(re.findall(r"kernel-sandbox ([a-z]+)", README))
    help_text = subprocess.run(
        [Path(sys.executable).parent / "kernel-sandbox", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert commands <= set(re.findall(r"^  ([a-z]+) ", help_text, re.MULTILINE))


def commands(block: str) -> list[str]:
    return [line.removeprefix("$ ").split("  #")[0].strip() for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what an installation needs, with the files that the commands name."""
    for name in ("kernel_sandbox", "images", "notebooks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "sales.csv").write_text(SALES)
    for name in ("FILE.py", "analysis.py"):
        (tmp_path / name).write_text(SCRIPT)
    return tmp_path


@pytest.fixture
def model() -> Iterator[str]:
    """The address of a model that the commands ask which need one."""
    with model_server(Say("Oslo, with 7.")) as server:
        yield server.url


@pytest.mark.parametrize("block", CONSOLE, ids=[commands(block)[0][:40] for block in CONSOLE])
def test_readme_commands_work(block: str, checkout: Path, model: str) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "VIRTUAL_ENV", "KERNEL_SANDBOX_ENGINE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["XDG_STATE_HOME"] = str(checkout)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for command in commands(block):
        if command.startswith("python3 -m venv"):  # the first screen's, on a machine without Docker
            environment["DOCKER_HOST"] = "unix:///nonexistent"
        changed = functools.reduce(lambda text, pair: text.replace(*pair), INSTEAD.items(), command)
        typed = next((text for start, text in TYPED.items() if command.startswith(start)), "")
        asked = {"OPENAI_BASE_URL": model} if command.startswith(NEEDS_MODEL) else {}
        arguments = ["bash", "-c", changed]
        done = subprocess.run(
            arguments, cwd=checkout, env=environment | asked, input=typed, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{changed}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if (served := checkout / "served.pid").exists():
        end_service(int(served.read_text()))
        assert nbformat.read(checkout / "ada.ipynb", as_version=4).cells[0].outputs[0].data["text/plain"] == "42"  # type: ignore[no-untyped-call]


def end_service(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/exe").exists():
        assert time.monotonic() < deadline, "the service does not end"
        time.sleep(0.05)
