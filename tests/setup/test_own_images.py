"""Images of one's own, built by the command, and used by their names in sessions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kernel_sandbox import Session
from kernel_sandbox.agents.python_exec import PythonExecTool
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.setup.image_packages import installed
from tests.conftest import missing
from tests.faults.disks import small_disk
from tests.wheels import giving, make_source, make_wheel

COMMAND = Path(sys.executable).with_name("kernel-sandbox")
IPYKERNEL = "/opt/venv/lib/python3.11/site-packages/ipykernel"
BROKEN = f"COPY said {IPYKERNEL}/__init__.py\nCOPY said {IPYKERNEL}/__pycache__/__init__.cpython-311.pyc\n"
BROKEN += "COPY said /opt/kernel-sandbox/modules\n"
PASSWORD = f"secret{os.getpid()}"
NAME = f"own-test-{os.getpid()}"

pytestmark = pytest.mark.usefixtures("by_itself")
"""A template would hold an image that is to be removed for a while."""


def image(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `kernel-sandbox image`."""
    environment = {**os.environ, **variables}
    return subprocess.run([COMMAND, "image", *arguments], capture_output=True, text=True, env=environment, check=False)


def refused(*arguments: str, **variables: str) -> str:
    """Run it where it must fail; return what it said, one error."""
    done = image("build", NAME, *arguments, **variables)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    return done.stderr


def left_of(name: str) -> list[str]:
    """Return what the engines have by this name, whole or in parts, and what builds that have ended left."""
    tags = [tag for each in connect().api.images() for tag in each.get("RepoTags") or () if name in tag]
    parts = [
        path
        for path in environments.shelf().glob(".part-*/owner.json")
        if Owner(**json.loads(path.read_text())).is_gone
    ]
    return [*tags, *map(str, environments.shelf().glob(f"*{name}*")), *map(str, parts)]


@pytest.fixture
def named() -> Iterator[str]:
    """The name of an image that is gone afterwards."""
    yield NAME
    image("remove", NAME)
    assert not left_of(NAME)


def test_image_of_ones_own_is_built_used_shown_and_removed(engine: str, tmp_path: Path, named: str) -> None:
    wheel = make_wheel(tmp_path, "tinypackage", {"tinypackage.py": "answer = 42\n"})
    asked = ["build", named, "--from", "python", "--with", str(wheel), "--engine", engine]
    built = image(*asked)
    assert built.returncode == 0, built.stderr
    assert "try it: import tinypackage in a sandbox" in built.stdout
    assert " is up to date" in image(*asked).stdout.splitlines()[-2]
    with Session(engine=engine, image=named) as session:
        assert session.execute("import tinypackage; tinypackage.answer").text == "42"
        line = session.execute("import polars").error
        assert line is not None
        assert f"{named}.txt --from python --with polars" in line.traceback[-1], "what was added is kept"
        told = PythonExecTool(session).get_definition()["function"]["description"]
        assert "installed is tinypackage." in told, "an agent's model knows this image"
    shown = image("show", named, "--engine", engine).stdout
    assert "tinypackage" in shown
    assert "ipykernel" in shown
    assert (
        f"tinypackage==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
        in image("show", named, "--lock").stdout
    )
    assert named in image("list", "--engine", engine).stdout
    assert "removed" in image("remove", named).stdout
    assert f"No engine has an image {named!r}" in image("show", named).stderr


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """Settings of pip with which it finds one package, `tinypackage` 1.0 and 1.1, in a directory, and no index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for version in ("1.0", "1.1"):
        make_wheel(shelf, "tinypackage", {"tinypackage.py": f"version = '{version}'"}, version)
    make_wheel(shelf, "needy", {"needy.py": ""}, needs="no-such-package>=2")
    make_wheel(shelf, "picky", {"picky.py": ""}, needs="tinypackage>=1.1")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONSTRAINT": ""}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--with", "tinypackag"], "There is no package tinypackag."),
        (["--with", "polarss"], "Did you mean polars?"),
        (["--with", "sklearn"], "Did you mean scikit-learn?"),
        (
            ["--with", "tinypackage==9"],
            "There is no tinypackage==9 for this Python: the newest versions of tinypackage are",
        ),
        (["--with", "needy"], "There is no package no-such-package, which needy 1.0 needs."),
        (
            ["--with", "picky", "--with", "tinypackage==1.0"],
            "do not go together:\n  you ask for tinypackage==1.0\n  picky",
        ),
    ],
)
def test_package_that_cannot_be_had_is_one_message(
    quick: str, offline: dict[str, str], named: str, asked: list[str], words: str
) -> None:
    assert words in refused("--from", "python", "--engine", quick, *asked, **offline)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["absent.txt"], "There is no file absent.txt"),
        (["--with", "./absent-1.0-py3-none-any.whl"], "There is no file ./absent"),
        (["--with", "https://x/y.whl"], "is an address: download it"),
        (["--with", "a b c"], "is no package"),
        (["--with", "-e ."], "is no package"),
        (["--from", "datasciens", "--with", "six"], "Did you mean datascience?"),
        (["--apt", "--force"], "is no name of a Debian package"),
        (["odd.txt"], "holds '--index-url'"),
        (["bad.toml"], "is no TOML"),
        (["--engine", "bubblewrap", "--apt", "graphviz"], "add --engine docker"),
        (["--engine", "bubblewrap", "Dockerfile"], "add --engine docker"),
        (["Dockerfile", "--with", "six"], "leave --from, --with and --apt out"),
    ],
)
def test_request_that_makes_no_sense_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], words: str
) -> None:
    (tmp_path / "odd.txt").write_text("--index-url https://x\nsix\n")
    (tmp_path / "bad.toml").write_text("[")
    (tmp_path / "Dockerfile").write_text("FROM kernel-sandbox/python\n")
    monkeypatch.chdir(tmp_path)
    assert words in refused(*asked)


@pytest.mark.parametrize("name", ["python", "Mine", "my image", "../x", "-x", "x" * 41, "a:b"])
def test_name_that_is_taken_or_odd_is_refused(name: str) -> None:
    done = image("build", "--with", "six", "--", name)
    assert done.returncode == 2
    assert "name" in done.stderr


def test_name_of_another_image_of_ones_own_is_kept(quick: str, tmp_path: Path, named: str) -> None:
    one, other = (make_wheel(tmp_path, name, {f"{name}.py": ""}) for name in ("firstone", "otherone"))
    common = ["--from", "python", "--engine", quick]
    assert image("build", named, *common, "--with", str(one)).returncode == 0
    assert "Replace it: add --replace" in refused(*common, "--with", str(other))
    with Session(engine=quick, image=named) as session:
        assert session.execute("import firstone").status == "ok"
        assert "runs: end it first" in image("remove", named).stderr
    assert image("build", named, *common, "--with", str(other), "--replace").returncode == 0
    with Session(engine=quick, image=named) as session:
        assert session.execute("import otherone").status == "ok"
        assert session.execute("import firstone").status == "error"


def test_model_is_told_of_the_image_of_its_engine(tmp_path: Path, named: str) -> None:
    for engine, name in (("docker", "firstone"), ("bubblewrap", "otherone")):
        if reason := missing(engine):
            pytest.skip(reason)
        wheel = make_wheel(tmp_path, name, {f"{name}.py": ""})
        built = image("build", named, "--from", "python", "--engine", engine, "--with", str(wheel))
        assert built.returncode == 0, built.stderr
    assert installed(named, "docker") == installed(named) == "installed is firstone"
    assert installed(named, "bubblewrap") == "installed is otherone"
    with Session(engine="bubblewrap", image=named) as session:
        assert "otherone" in PythonExecTool(session).get_definition()["function"]["description"]


def test_index_out_of_reach_is_told(engine: str, named: str) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    said = refused("--from", "python", "--engine", engine, "--with", "tinypackage", **nowhere, PIP_RETRIES="0")
    assert "No package index answers (127.0.0.1:9)" in said


@pytest.mark.usefixtures("by_itself")  # a template would use the image for a while longer
@pytest.mark.parametrize("other", ["otherone", "firstone"])
def test_image_is_replaced_while_a_session_uses_it(engine: str, tmp_path: Path, named: str, other: str) -> None:
    """What the session uses stays until it ends; the next build, or the removal, takes it away."""
    first, second = (make_wheel(tmp_path, name, {f"{name}.py": ""}) for name in ("firstone", other))
    common = ["build", named, "--from", "python", "--engine", engine]
    assert image(*common, "--with", str(first)).returncode == 0
    with Session(engine=engine, image=named) as session:
        built = image(*common, "--with", str(second), "--replace")
        assert built.returncode == 0, built.stderr
        assert session.execute("import firstone").status == "ok"
        with Session(engine=engine, image=named) as later:
            assert later.execute(f"import {other}").status == "ok"
    assert "removed" in image("remove", named).stdout


class ClosedIndex(BaseHTTPRequestHandler):
    """An index that wants a login, and sees which command lines hold the password meanwhile."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.seen.extend(line for line in [path.read_text(errors="replace")] if PASSWORD in line)
        self.send_response(401 if "tinypackage" in self.path else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize(("package", "status"), [("tinypackage", 401), ("otherpackage", 403)])
def test_index_that_wants_another_login_is_told(engine: str, named: str, package: str, status: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), ClosedIndex) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = f"http://me:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
        settings = {"PIP_INDEX_URL": index, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
        said = refused("--from", "python", "--engine", engine, "--with", package, **settings)
        server.shutdown()
    assert f"The package index wants a login (127.0.0.1:{server.server_port}: {status})" in said
    assert PASSWORD not in said
    assert not ClosedIndex.seen, "everybody on the machine reads command lines"


def test_files_say_what_an_image_holds(quick: str, tmp_path: Path, offline: dict[str, str], named: str) -> None:
    (tmp_path / "requirements.txt").write_text("tinypackage<1.1  # the older one\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["tinypackage>=1"]\n')
    common = ["--from", "python", "--engine", quick]
    for file, version in (("requirements.txt", "1.0"), ("pyproject.toml", "1.1")):
        built = image("build", named, str(tmp_path / file), *common, "--replace", **offline)
        assert built.returncode == 0, built.stderr
        assert f"tinypackage=={version} \\" in image("show", named, "--lock").stdout


def test_lines_that_are_not_for_this_machine_are_left_out(
    quick: str, tmp_path: Path, offline: dict[str, str], named: str
) -> None:
    """pip leaves out what has a false marker; what the base has already stays as it is."""
    asked = 'Tiny.Package\ncolorama; sys_platform == "win32"\norjson\n'
    make_wheel(tmp_path / "shelf", "tiny_package", {"tiny_package.py": ""})
    (tmp_path / "requirements.txt").write_text(asked)
    built = image("build", named, str(tmp_path / "requirements.txt"), "--from", "python", "--engine", quick, **offline)
    assert built.returncode == 0, built.stderr
    assert "try it: import tiny_package, orjson in a sandbox" in built.stdout
    with Session(engine=quick, image=named) as session:
        assert session.execute("import tiny_package, orjson").status == "ok"


def test_source_archive_whose_name_has_several_words_is_imported(quick: str, tmp_path: Path, named: str) -> None:
    wheel = make_wheel(tmp_path, "several_words", {"several_words.py": "answer = 42"})
    archive = make_source(tmp_path, "several-words", giving(wheel))
    built = image("build", named, "--from", "python", "--engine", quick, "--with", str(archive))
    assert built.returncode == 0, built.stderr
    assert "try it: import several_words in a sandbox" in built.stdout


def test_build_that_needs_what_the_base_has_gets_it(quick: str, tmp_path: Path, named: str) -> None:
    """A build has what it needs in a directory of its own: the base's packages are not there."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    make_wheel(shelf, "buildsystem", {"buildsystem.py": "import packaging"}, needs="packaging>=20")
    make_wheel(shelf, "packaging", {"packaging.py": "ours = True"}, version="99.0")
    backend = "import buildsystem, packaging\nassert packaging.ours\n"
    wheel = make_wheel(tmp_path, "tinypackage", {"tinypackage.py": ""})
    archive = make_source(tmp_path, "tinypackage", backend + giving(wheel), needs=["buildsystem"])
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONSTRAINT": ""}
    built = image("build", named, "--from", "python", "--engine", quick, "--with", str(archive), **settings)
    assert built.returncode == 0, built.stderr
    assert "packaging" not in image("show", named, "--lock").stdout


def test_build_that_needs_itself_is_told(quick: str, tmp_path: Path, named: str) -> None:
    make_source(tmp_path, "selfish", "", needs=["selfish"])
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONSTRAINT": ""}
    said = refused("--from", "python", "--engine", quick, "--with", "selfish", **settings)
    assert "selfish-1.0.tar.gz needs itself to be built" in said


def test_large_file_of_requirements_is_read(engine: str, tmp_path: Path, named: str) -> None:
    """One argument of a program has 128 KB at most."""
    wheel = make_wheel(tmp_path, "tinypackage", {"tinypackage.py": ""})
    digests = " ".join(f"--hash=sha256:{number:064x}" for number in range(20))
    lines = [f"absent{number}==1.0; sys_platform == 'win32' {digests}\n" for number in range(200)]
    own = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "requirements.txt").write_text("".join([*lines, f"tinypackage==1.0 --hash=sha256:{own}\n"]))
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONSTRAINT": ""}
    file = str(tmp_path / "requirements.txt")
    built = image("build", named, file, "--from", "python", "--engine", engine, **settings)
    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"hostile.py": "raise ValueError('not today')"}, "`import hostile` fails: ValueError: not today"),
        ({"hostile.py": "import os; os._exit(3)"}, "cannot be imported"),
    ],
)
def test_image_that_does_not_work_gets_no_name(
    engine: str, tmp_path: Path, named: str, files: dict[str, str], words: str
) -> None:
    wheel = make_wheel(tmp_path, "hostile", files)
    assert words in refused("--from", "python", "--engine", engine, "--with", str(wheel))
    assert not left_of(named)


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM scratch\nCOPY Dockerfile /\n", "python3"),
        ("FROM kernel-sandbox/no-such-image\n", "Docker has no kernel-sandbox/no-such-image, of FROM. There are: "),
        ("FROM datascience\n", "FROM kernel-sandbox/datascience"),
        ("FROM kernel-sandbox/python\nCOPY absent /\n", "COPY absent"),
        (f"FROM kernel-sandbox/python\n{BROKEN}", "said by it"),
    ],
)
def test_dockerfile_that_makes_no_image_is_one_message(tmp_path: Path, named: str, dockerfile: str, words: str) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    (tmp_path / "said").write_text("raise ValueError('said by it')")
    assert words in refused(str(tmp_path / "Dockerfile"))


@pytest.mark.usefixtures("docker")
def test_dockerfile_of_ones_own_is_built_and_used(tmp_path: Path, named: str) -> None:
    (tmp_path / "Dockerfile").write_text("FROM kernel-sandbox/python\nENV COLOUR=blue\nCOPY note /note\n")
    for text in ("old", "new"):
        (tmp_path / "note").write_text(text)
        built = image("build", named, str(tmp_path / "Dockerfile"))
        assert built.returncode == 0, built.stderr
        with Session(engine="docker", image=named) as session:
            assert (
                session.execute("import os; os.environ['COLOUR'], open('/note').read()").text == f"('blue', '{text}')"
            )
    assert "ipykernel" in image("show", named).stdout


@pytest.mark.skipif(os.getuid() != 0, reason="a small disk is mounted by root")
def test_full_disk_is_told_and_nothing_is_left(quick: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "tinypackage", {"tinypackage.py": ""})
    with small_disk(tmp_path / "disk", "60m", files=100_000) as disk:
        (disk / "environments").mkdir()
        base = environments.place_of("python")
        (disk / "environments" / base.name).symlink_to(base)
        said = refused("--from", "python", "--engine", quick, "--with", str(wheel), KERNEL_SANDBOX_PREFIX=str(disk))
        assert f"There is too little room in {disk}/environments" in said
        assert [path.name for path in (disk / "environments").iterdir()] == [base.name]
