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
    line = last_line(bare, command)
    assert line.endswith(asked)
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
