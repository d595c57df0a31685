"""Images: their locks, what the built ones hold, and the build itself, against the engine that runs here."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.sandbox.engines import image_names as images
from kernel_sandbox.sandbox.engines.docker_client import connect, registry_answers, translated_errors
from kernel_sandbox.setup import docker_images, wheels
from kernel_sandbox.setup.debian_root import REFERENCE, debian_mirror, parse_sources
from kernel_sandbox.setup.image_builder import build_context, run_build
from kernel_sandbox.setup.progress import Progress
from tests.languages import CELLS
from tests.setup.test_supply import OF_DEBIAN
from tests.shadowing import shadow

if TYPE_CHECKING:
    import docker

NAMES = ("datascience", "python")
"""Those that `tests/run` builds for Python; the long tests have `full`."""
ALL = tuple(sorted((*NAMES, "full", *(cells.image for cells in CELLS.values()))))
PINNED = re.compile(r"^([\w.-]+)==(\S+) \\$", re.MULTILINE)
FOLDER = images.images_folder()
LOCKS = [FOLDER / "pip.txt", *(FOLDER / name / "requirements.txt" for name in ALL if name not in OF_DEBIAN)]


@pytest.fixture(scope="module")
def client() -> docker.DockerClient:
    try:
        return connect()
    except EngineError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module", params=NAMES)
def image(request: pytest.FixtureRequest, client: docker.DockerClient) -> str:
    return built(client, request.param)


@pytest.fixture(scope="module")
def science(client: docker.DockerClient) -> str:
    return built(client, "datascience")


def built(client: docker.DockerClient, name: str) -> str:
    """The reference of an image that the engine has, or a skip that says how it gets it."""
    info = next(info for info in docker_images.list_images(client) if info.name == name)
    if not info.built:
        pytest.skip(f"the engine has no {info.reference}: kernel-sandbox image build {name}")
    return info.reference


def run(client: docker.DockerClient, image: str, *command: str, user: str = "12345:12345") -> str:
    """What a command prints in a container that is as shut as a sandbox. It must succeed."""
    homes = {"/tmp": "", "/home/sandbox": "uid=12345,gid=12345"}
    container = client.containers.run(
        image, list(command), network_mode="none", read_only=True, user=user, tmpfs=homes, detach=True
    )
    try:
        # Not run's own output: it follows the log, and loses the end of a short one now and then.
        status = container.wait()["StatusCode"]
        output = bytes(container.logs()).decode()
    finally:
        container.remove(force=True)
    assert status == 0, output
    return output


def ignore(moment: Progress) -> None:
    """Takes a build's progress and shows nobody."""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_lock_has_a_hash_for_all_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)
    assert len(PINNED.findall(text)) == text.count("==") > 0
    assert "://" not in text
    assert "--index" not in text
    assert ";" not in text, "an environment marker would be evaluated for the host"


def test_lock_of_python_holds_what_a_kernel_needs_and_no_more() -> None:
    small, large = (
        dict(PINNED.findall((FOLDER / name / "requirements.txt").read_text())) for name in ("python", "datascience")
    )
    assert not {"debugpy", "psutil"} & small.keys()
    assert not {"pip", "setuptools"} & large.keys()
    assert int(small["ipykernel"].split(".")[0]) >= 7


def test_reference_names_ours_and_leaves_others() -> None:
    assert images.image_names() == ALL
    assert images.reference("python") == "kernel-sandbox/python:latest"
    assert images.reference("example/other:1") == "example/other:1"
    with pytest.raises(ImageNotFound, match="no image of this package"):
        images.lock_digest("../python")


@pytest.mark.parametrize("name", ALL)
def test_images_say_what_room_they_take(name: str) -> None:
    assert 2 * images.label_size(name, "downloads") < images.label_size(name, "room") < 8 * 1024**3


def test_list_says_what_is_built(client: docker.DockerClient, image: str) -> None:
    info = next(info for info in docker_images.list_images(client) if info.reference == image)
    assert info.built
    assert info.base in ("python", "debian")
    assert 10**8 < (info.size or 0) < 4 * 10**9
    assert info.created is not None
    labels = client.images.get(image).labels
    assert labels["org.kernel-sandbox.image"] == info.name
    assert info.stale == (labels["org.kernel-sandbox.lock"] != images.lock_digest(info.name))


def test_image_has_no_setuid_file(client: docker.DockerClient, image: str) -> None:
    assert run(client, image, "sh", "-c", "find / -xdev -perm /6000; echo looked", user="0") == "looked\n"


def test_image_has_neither_pip_nor_compiler(client: docker.DockerClient, image: str) -> None:
    modules = ["pip", "ensurepip._bundled", "setuptools"]
    probe = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n.split('.')[0])])"
    for python in ("python3", "/opt/venv/bin/python"):
        assert run(client, image, python, "-c", probe, *modules).strip() == "[]"
    tools = ["pip", "pip3", "gcc", "cc", "c++", "ld", "as", "make"]
    script = 'for tool in "$@"; do command -v "$tool"; done; command -v python3'
    assert run(client, image, "sh", "-c", script, "sh", *tools).split() == ["/opt/venv/bin/python3"]


def test_image_is_python_311_for_nobody(client: docker.DockerClient, image: str) -> None:
    config = client.images.get(image).attrs["Config"]
    assert config["User"] == "65534:65534"
    assert config["WorkingDir"] in ("/", "")
    assert "preload" in " ".join(config["Labels"])
    version = "import sys; print(sys.version_info[:2], sys.prefix)"
    assert run(client, image, "python3", "-c", version).strip() == "(3, 11) /opt/venv"


def test_image_files_can_be_read_by_everybody(client: docker.DockerClient, image: str) -> None:
    script = "find /opt /mnt /home /opt/kernel-sandbox/run ! -type l ! -perm -o=r; ls -d /mnt/data /mnt/input"
    assert run(client, image, "sh", "-c", script, user="0").split() == ["/mnt/data", "/mnt/input"]


def test_image_has_all_bytecode(client: docker.DockerClient, image: str) -> None:
    """-v says "code object from X.py" where an import had to compile, and "X.pyc matches X.py" where not."""
    said = run(client, image, "python3", "-v", "-c", "import ipykernel.kernelapp, ipykernel.ipkernel")
    assert said.count(".pyc matches") > 300
    assert re.findall(r"code object from '(/.*\.py)'", said) == []


def test_datascience_imports_its_libraries(client: docker.DockerClient, science: str) -> None:
    code = """if True:
        import numpy.testing, pandas.testing, scipy.stats, scipy.optimize, matplotlib.pyplot, seaborn, sklearn.ensemble
        import statsmodels.api, pyarrow.parquet, openpyxl, PIL.Image, sympy, io
        frame = pandas.DataFrame({"x": [1, 2, 3], "y": [2.0, 4.0, 6.5]})
        for write, read in ((frame.to_excel, pandas.read_excel), (frame.to_parquet, pandas.read_parquet)):
            buffer = io.BytesIO()
            write(buffer, index=False)
            pandas.testing.assert_frame_equal(read(buffer), frame)
        fit = statsmodels.api.OLS(frame.y, statsmodels.api.add_constant(frame.x)).fit()
        seaborn.scatterplot(frame, x="x", y="y").figure.savefig(io.BytesIO())
        print(round(fit.params["x"], 2), sympy.integrate(sympy.Symbol("t")))"""
    assert run(client, science, "python3", "-W", "error::ImportWarning", "-c", code).split()[-2:] == ["2.25", "t**2/2"]


def test_datascience_home_has_the_font_list(client: docker.DockerClient, science: str) -> None:
    code = "import logging; logging.basicConfig(level=10); import matplotlib.pyplot"
    script = 'cp -R /opt/kernel-sandbox/home/. "$HOME"; exec python3 -c "$1"'
    said = run(client, science, "sh", "-c", script, "sh", code)
    assert "Using fontManager instance from /home/sandbox/.cache/matplotlib/fontlist-" in said
    assert "generated new fontManager" not in said


def test_second_build_does_nothing(client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    built(client, "python")
    docker_images.build("python", client=client, progress=ignore)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    moments: list[Progress] = []
    again = docker_images.build("python", client=client, progress=moments.append)
    assert again.up_to_date
    assert again.seconds < 2
    assert [moment.detail for moment in moments] == ["kernel-sandbox/python:latest is up to date"]


def test_wheels_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is a directory with one wheel, made here: an honest pip, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"tiny==1.0 --hash=sha256:{make_wheel(tmp_path / 'tiny-1.0-py3-none-any.whl')}\n")
    moments: list[Progress] = []
    canary = shadow(tmp_path)
    monkeypatch.chdir(tmp_path)
    first = wheels.fetch([lock], "x86_64", moments.append)
    assert not canary.exists()
    assert [(moment.done, moment.total) for moment in moments] == [(1, 1)]
    assert [path.name for path in first.iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert wheels.fetch([lock], "x86_64", moments.append) == first
    assert moments[-1].detail == "all of them are in the cache"


def make_wheel(path: Path) -> str:
    """Write the smallest wheel that pip downloads, and return its SHA-256."""
    code = """if True:
        import hashlib, pathlib, sys, zipfile
        with zipfile.ZipFile(sys.argv[1], "w") as wheel:
            wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
            wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())"""
    return subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True).stdout.strip()


def test_failed_download_leaves_nothing_and_quotes_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(EngineError, match="No matching distribution found for"):
        wheels.fetch([FOLDER / "python" / "requirements.txt"], "aarch64", ignore)
    assert list(wheels.cache_directory().iterdir()) == []


def leftovers(client: docker.DockerClient, marker: str) -> set[str]:
    """The engine's untagged images, and the containers whose command holds the marker."""
    with translated_errors():
        containers = client.api.containers(all=True)
        untagged = client.api.images(filters={"dangling": True}, quiet=True)
    return {*untagged} | {one["Id"] for one in containers if marker in one["Command"]}


def test_broken_build_quotes_the_step_and_leaves_nothing(client: docker.DockerClient) -> None:
    base = built(client, "python")
    dockerfile = b"ARG BASE\nFROM ${BASE}\nENV A=1\nRUN echo before; echo the reason; exit 3\n"
    before = leftovers(client, "echo before")
    with build_context({"Dockerfile": dockerfile}) as context, pytest.raises(EngineError) as failure:
        run_build(client, context, tag="kernel-sandbox-test/broken:latest", base=base, labels={}, report=ignore)
    assert "failed at RUN echo before" in str(failure.value)
    assert re.search(r"before\nthe reason\n.*non-zero code: 3", str(failure.value))
    assert leftovers(client, "echo before") <= before


def test_interrupted_build_leaves_nothing(client: docker.DockerClient) -> None:
    base = built(client, "python")

    def interrupt(moment: Progress) -> None:
        if moment.detail == "started":
            raise KeyboardInterrupt

    before, started = leftovers(client, "echo started"), time.monotonic()
    dockerfile = b"ARG BASE\nFROM ${BASE}\nENV A=2\nRUN echo started; sleep 60\n"
    with build_context({"Dockerfile": dockerfile}) as context, pytest.raises(KeyboardInterrupt):
        run_build(client, context, tag="kernel-sandbox-test/cut:latest", base=base, labels={}, report=interrupt)
    assert time.monotonic() - started < 15
    assert leftovers(client, "echo started") <= before


def test_build_labels_and_reports_steps(client: docker.DockerClient) -> None:
    base, tag = built(client, "python"), "kernel-sandbox-test/tiny:latest"
    moments: list[Progress] = []
    files: dict[str, bytes | Path] = {"Dockerfile": b"ARG BASE\nFROM ${BASE}\nCOPY a/b /b\n", "a/b": b"text"}
    with build_context(files) as context:
        run_build(client, context, tag=tag, base=base, labels={"test": "yes"}, report=moments.append)
    try:
        assert client.images.get(tag).labels["test"] == "yes"
        assert run(client, tag, "cat", "/b") == "text"
        assert (1, 4, "ARG BASE") in [(moment.done, moment.total, moment.detail) for moment in moments]
    finally:
        client.images.remove(tag)


def test_registry_that_is_silent_is_not_waited_for(client: docker.DockerClient) -> None:
    """A port that is listened on and never answered: what a firewall that drops packets looks like."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not registry_answers(client, f"127.0.0.1:{port}/python:3.11", 1.0)
    assert registry_answers(client, f"127.0.0.1:{port}/python:3.11", 10.0)


def test_base_falls_back_to_debian_and_says_so(client: docker.DockerClient) -> None:
    closed = f"127.0.0.1:1/python@sha256:{'0' * 64}"
    with pytest.raises(EngineError, match="--base debian"):
        docker_images.choose_base(client, "python", ignore, closed)
    if not client.images.list(REFERENCE):
        pytest.skip(f"the engine has no {REFERENCE}: kernel-sandbox image build python --base debian")
    moments: list[Progress] = []
    assert docker_images.choose_base(client, "auto", moments.append, closed) == ("debian", REFERENCE)
    assert any("cannot be pulled" in moment.detail and "Debian" in moment.detail for moment in moments)


DEB822 = """\
# A vendor that uses Debian's suite names for an archive of its own.
Types: deb
URIs: https://apt.vendor.example/tools
Suites: bookworm
Components: main

Types: deb deb-src
URIs: http://first.example/debian
Enabled: no
Suites: bookworm
Components: main

Types: deb deb-src
# The one.
URIs: http://mirror.example/pool-of-debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Types: deb
"""

ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb-src http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] https://user:word@inner.example/d12/ bookworm main contrib # ours
"""  # noqa: E501

UBUNTU = "deb http://archive.example/ubuntu noble main universe\ndeb http://archive.example/ubuntu noble-updates main\n"


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list.d/debian.sources", DEB822, "http://mirror.example/pool-of-debian"),
        ("sources.list", ONE_LINE, "https://user:word@inner.example/d12/"),
        ("sources.list", "deb http://mirror.example/debian/ trixie main\n", "http://mirror.example/debian/"),
        ("sources.list", UBUNTU, None),
        ("sources.list.d/notes.txt", ONE_LINE, None),
        ("sources.list", "", None),
    ],
)
def test_mirror_is_the_one_of_apt(tmp_path: Path, name: str, text: str, mirror: str | None) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert debian_mirror(tmp_path) == mirror


def test_sources_are_read_in_both_formats() -> None:
    found = parse_sources(DEB822, ".sources")
    assert [(source.suite, source.components) for source in found if "mirror" in source.uri] == [
        ("bookworm", ("main", "contrib")),
        ("bookworm-updates", ("main", "contrib")),
    ]
    assert not any("first.example" in source.uri for source in found)
    line = parse_sources("deb [arch=amd64] http://mirror.example/debian bookworm main\n", ".list")[0]
    assert (line.uri, line.suite, line.components, line.options) == (
        *("http://mirror.example/debian", "bookworm", ("main",)),
        "arch=amd64",
    )
