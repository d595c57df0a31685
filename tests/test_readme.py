"""Every Python block of the README is run, and prints what the block below it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import missing

README = (Path(__file__).parents[1] / "README.md").read_text()
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
