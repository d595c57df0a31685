"""A missing package: its import and what would install it end with one line, which names the command that helps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.show.model_text import read_execution
from kernel_sandbox.text.ansi import remove_ansi
from tests.conftest import missing

BUILD = "kernel-sandbox image build mine --from python"


@pytest.fixture(scope="module", params=NAMES)
def bare(request: pytest.FixtureRequest) -> Iterator[Session]:
    if reason := missing(request.param):
        pytest.skip(reason)
    with Session(engine=request.param, image="python") as session:
        session.files.write("helpers.py", "import polars")
        session.files.write("mine/__init__.py", "")
        session.files.write("mine/inner.py", "from .other import thing")
        yield session


def last_line(session: Session, source: str) -> str:
    done = session.execute(source)
    assert done.status == "error", done.text
    assert done.error is not None
    line = remove_ansi(done.error.traceback[-1].splitlines()[-1])
    assert line in read_execution(done), "the model reads it, too"
    return line


@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("import polars", "polars"),
        ("import cv2", "opencv-python-headless"),
        ("from sklearn.svm import SVC", "scikit-learn"),
        ("import yaml", "pyyaml"),
        ("from PIL import Image", "pillow"),
        ("import bs4", "beautifulsoup4"),
        ("import helpers", "polars"),
        ("try: import polars\nexcept ImportError as exc: raise ImportError('no polars') from exc", "polars"),
        ("import never_heard_of", "never_heard_of"),
    ],
)
def test_missing_module_names_the_command_that_brings_it(bare: Session, source: str, package: str) -> None:
    assert last_line(bare, source).endswith(f"{BUILD} --with {package}")


def test_package_of_another_image_is_named_with_that(bare: Session) -> None:
    assert "The image datascience has it." in last_line(bare, "import pandas")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import helprs", "Did you mean helpers?"),
        ("import orjsn", "Did you mean orjson?"),
        ("import mine.inner", "No module named 'mine.other'"),
        ("from .helpers import x", "attempted relative import"),
        ("import IPython.nothing", "No module named 'IPython.nothing'"),
        ("from helpers_of_mine import *; raise ModuleNotFoundError('mine')", BUILD),
        ("raise ModuleNotFoundError('of my own')", "of my own"),
    ],
)
def test_module_that_is_no_package_is_not_one_to_install(bare: Session, source: str, words: str) -> None:
    line = last_line(bare, source)
    assert words in line
    assert (BUILD in line) == (words == BUILD)


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("%pip install polars", "--with polars"),
        ("!pip install -q 'polars>=1' sklearn", "--with 'polars>=1' --with scikit-learn"),
        ("!python3 -m pip install --index-url http://x polars; echo done", "--with polars"),
        ("!pip install -r requirements.txt", "requirements.txt"),
        ("found = !pip3 install polars", "--with polars"),
        ("!apt-get install -y graphviz", "--apt graphviz"),
        ("!sudo apt install graphviz && dot -V", "--apt graphviz"),
        ("!apt-get update && apt-get install -y graphviz", "--apt graphviz"),
        ("!DEBIAN_FRONTEND=noninteractive apt-get -qq install -y graphviz > log 2>&1", "--apt graphviz"),
        ("!pip install -U pip && pip install polars", "--with polars"),
        ("!/usr/bin/pip install polars", "--with polars"),
        ("!{sys.executable} -m pip install polars", "--with polars"),
        ("!pip list | grep numpy || pip install numpy", "--with numpy"),
        ("%conda install polars", "--with polars"),
        ("%%bash\npip install polars", "--with polars"),
        (
            "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'cv2'], check=True)",
            "headless",
        ),
        ("import subprocess\nsubprocess.run(['pip', 'install', 'polars'])", "--with PACKAGE"),
    ],
)
def test_command_that_installs_nothing_is_an_error(bare: Session, command: str, asked: str) -> None:
    line = last_line(bare, f"import sys\n{command}" if command.startswith("!") else command)
    elsewhere = " --engine docker" if bare.engine == "bubblewrap" and "--apt" in asked else ""
    assert line.endswith(f"{asked}{elsewhere}")
    assert BUILD in line


def test_what_is_there_is_said_as_pip_says_it(bare: Session) -> None:
    asked = bare.execute("%pip install orjson ipykernel")
    assert asked.status == "ok"
    assert asked.text.startswith("Requirement already satisfied: orjson (")
    assert "ipykernel==" in bare.execute("!pip list").text
    assert "pip install x" in bare.execute("!echo pip install x").text


def test_shell_command_that_installs_nothing_says_so(bare: Session) -> None:
    done = bare.run_command("pip install polars")
    assert done.exit_status == 127
    assert done.stderr.splitlines()[-1].endswith(f"{BUILD} --with polars")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (r"!printf 'FROM x\nRUN a && pip install y\n' > Dockerfile; tail -n1 Dockerfile", "RUN a && pip install y"),
        ("!echo 'first (pip install x)'", "first (pip install x)"),
        ("!printf 'a\\npip install x' | grep -n 'conda|pip install\\|pip install'", "2:pip install x"),
        ("!echo one # then; pip install x", "one"),
        ("%%bash\ncat <<END\npip install it's\nEND\nfalse || true", "pip install it's"),
    ],
)
def test_text_about_installing_is_no_command(bare: Session, command: str, shown: str) -> None:
    done = bare.execute(command)
    assert (done.status, done.text.strip()) == ("ok", shown)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("!pip show orjson", "Name: orjson\nVersion: "),
        ("%pip show orjson", "Name: orjson\nVersion: "),
        ("!pip list | grep ipykernel", "ipykernel=="),
        ("!pip freeze > held.txt; grep ipykernel held.txt", "ipykernel=="),
        ("!python -m pip list | grep ipykernel", "ipykernel=="),
        ("found = !pip list | grep ipykernel\nprint(found[0])", "ipykernel=="),
        ("%conda list", "orjson=="),
        ("!pip show polars || echo none", "WARNING: Package(s) not found: polars\nnone"),
        ("name = 'there'\n!pip install -q orjson && echo {name} $name", "there there"),
    ],
)
def test_question_to_an_installer_is_answered(bare: Session, command: str, shown: str) -> None:
    done = bare.execute(command)
    assert done.status == "ok", done
    assert shown in done.text.replace("\r", "")
    assert "Nothing can be installed" not in done.text


def test_question_to_debians_tools_is_put_to_them(bare: Session) -> None:
    done = bare.execute("!apt list --installed 2>&1")
    assert done.status == "ok"
    assert ("not found" in done.text) == (bare.execute("!command -v apt").text == "")
