"""Images of other languages: shown, and built upon. Their kernels run no Python, so none is asked of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import EngineError, Session
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.image_names import debian_packages, lock_of, locked_packages
from kernel_sandbox.setup.engine_images import show_image
from kernel_sandbox.setup.image_request import read_request
from tests.languages import CELLS, TESTED, require_image

COMMAND = Path(sys.executable).with_name("kernel-sandbox")
NAME = f"own-language-{os.getpid()}"


def image(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, "image", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("language", TESTED)
def test_image_of_a_language_is_shown_by_its_lock(engine: str, language: str) -> None:
    name = CELLS[language].image
    require_image(engine, name)
    shown = show_image(engine, name)
    assert shown.python == ""
    assert set(locked_packages(lock_of(name))) <= set(shown.packages)
    assert {package for package, version in shown.packages if version == "of Debian"} == set(debian_packages(name))


@pytest.mark.parametrize("language", CELLS)
@pytest.mark.parametrize("asked", ["six", "./six-1.0-py3-none-any.whl"])
def test_packages_of_python_are_for_images_of_python(
    language: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "six-1.0-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match=f"{language} is for .*, and takes no packages of Python's. .*--apt"):
        read_request("mine", base=language, packages=[asked])
    assert read_request("mine", base=language, apt=["tree"]).apt == ("tree",)


def test_image_upon_one_of_a_language_is_built_and_used(tmp_path: Path) -> None:
    require_image("docker", "bash")
    (tmp_path / "Dockerfile").write_text("FROM kernel-sandbox/bash\nENV COLOUR=blue\n")
    try:
        built = image("build", NAME, str(tmp_path / "Dockerfile"))
        assert built.returncode == 0, built.stderr
        with Session(engine="docker", image=NAME) as session:
            assert session.execute("echo $COLOUR").text == "blue\n"
        assert image("show", NAME).returncode == 0
    finally:
        image("remove", NAME)
