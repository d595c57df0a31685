"""Packages that attack while an image of one's own is built: their build backend, what they unpack to, their import.

Each builds an image by the command, and looks on the host for what the attack wanted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import environments
from tests.setup.test_own_images import image, left_of, refused
from tests.setup.test_own_images import named as named
from tests.wheels import make_source, make_wheel

ATTACK = """
import contextlib, glob, json, os, socket, subprocess, sys
found = {"read": [], "written": [], "reached": [], "environment": sorted(os.environ)}
for path in [SECRET, "/proc/1/root" + SECRET, "/proc/self/cwd/../../../.." + SECRET]:
    with contextlib.suppress(OSError):
        found["read"].append(open(path).read())
for path in [PLANTED, "/proc/1/root" + PLANTED, "/opt/venv/planted", "/etc/planted", "/usr/planted"]:
    with contextlib.suppress(OSError):
        open(path, "w").close()
        found["written"].append(path)
for address in [("127.0.0.1", PORT), ("localhost", PORT)]:
    with contextlib.suppress(OSError):
        socket.create_connection(address, 2).close()
        found["reached"].append(address)
with contextlib.suppress(OSError):
    subprocess.Popen(["sleep", MARK], start_new_session=True)
"""
BACKEND = (
    ATTACK
    + """
def build_wheel(target, config_settings=None, metadata_directory=None):
    import zipfile
    about = "hostile-1.0.dist-info"
    files = {
        "hostile.py": f"found = {found!r}",
        f"{about}/METADATA": "Metadata-Version: 2.1\\nName: hostile\\nVersion: 1.0\\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\\nGenerator: it\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(f"{target}/hostile-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "hostile-1.0-py3-none-any.whl"
"""
)
MARK = f"98{os.getpid()}"
"""Seconds that a process of the attack sleeps: by these it is known."""


class Prey:
    """What an attack is after on the host: a secret, a place to write, a listener, a process table."""

    def __init__(self, place: Path) -> None:
        self.secret, self.planted = place / "secret", place / "planted"
        self.secret.write_text("the host's secret")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)

    def aimed(self, source: str) -> str:
        values = {"SECRET": str(self.secret), "PLANTED": str(self.planted), "MARK": MARK}
        port = self.listener.getsockname()[1]
        return "".join(f"{name} = {value!r}\n" for name, value in values.items()) + f"PORT = {port}\n{source}"

    def is_untouched(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            return False
        alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if MARK in _read(path)]
        return not self.planted.exists() and not alive


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


@pytest.fixture
def prey(tmp_path: Path) -> Iterator[Prey]:
    hunted = Prey(tmp_path)
    yield hunted
    hunted.listener.close()


def found_by(engine: str, name: str) -> dict[str, list[str]]:
    """Return what the attack has seen, as it stands in the image."""
    with Session(engine=engine, image=name) as session:
        told: dict[str, list[str]] = json.loads(
            session.execute("import json, hostile; print(json.dumps(hostile.found))").text
        )
        return told


def test_build_of_a_source_archive_reaches_nothing_of_the_host(
    engine: str, tmp_path: Path, prey: Prey, named: str
) -> None:
    archive = make_source(tmp_path, "hostile", prey.aimed(BACKEND))
    built = image(
        "build", named, "--from", "python", "--with", str(archive), "--engine", engine, HOSTS_SECRET="kept", AWS_KEY="x"
    )
    assert built.returncode == 0, built.stderr
    found = found_by(engine, named)
    assert (found["read"], found["written"], found["reached"]) == ([], [], [])
    assert not {"HOSTS_SECRET", "AWS_KEY"} & set(found["environment"])
    assert prey.is_untouched()


def test_import_of_a_new_package_reaches_nothing_of_the_host(
    engine: str, tmp_path: Path, prey: Prey, named: str
) -> None:
    files = {"hostile.py": prey.aimed(ATTACK), "hostile.pth": "import hostile", "sitecustomize.py": "import hostile"}
    wheel = make_wheel(tmp_path, "hostile", files)
    built = image("build", named, "--from", "python", "--with", str(wheel), "--engine", engine, HOSTS_SECRET="kept")
    assert built.returncode == 0, built.stderr
    assert prey.is_untouched()
    found = found_by(engine, named)
    assert (found["read"], found["written"], found["reached"]) == ([], [], [])
    assert "HOSTS_SECRET" not in found["environment"]
    assert prey.is_untouched()


def test_source_that_the_index_has_is_built_without_a_network_too(
    quick: str, tmp_path: Path, prey: Prey, named: str
) -> None:
    """pip would build it as soon as it wants to know what it needs; where it resolves there is a network."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    make_source(shelf, "hostile", prey.aimed(BACKEND))
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONSTRAINT": ""}
    built = image("build", named, "--from", "python", "--with", "hostile", "--engine", quick, **settings)
    assert built.returncode == 0, built.stderr
    assert "build from source: hostile-1.0.tar.gz" in built.stdout
    assert found_by(quick, named)["reached"] == []
    assert prey.is_untouched()


LEAK = """
def get_requires_for_build_wheel(config_settings=None):
    return ["six;\\n--extra-index-url http://127.0.0.1:PORT/${PIP_INDEX_URL}/\\nsix"]
"""


def test_source_archive_sends_pip_nowhere(quick: str, tmp_path: Path, prey: Prey, named: str) -> None:
    """The addresses of indexes hold passwords, and pip takes options and variables from a file of requirements."""
    port = str(prey.listener.getsockname()[1])
    archive = make_source(tmp_path, "hostile", LEAK.replace("PORT", port))
    settings = {"PIP_INDEX_URL": "http://me:password@127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    said = refused("--from", "python", "--engine", quick, "--with", str(archive), **settings)
    assert "hostile-1.0.tar.gz needs 'six;" in said
    assert prey.is_untouched()


ENDLESS = {
    "files": "with open('/mnt/data/fill', 'wb') as file:\n    while True: file.write(bytes(2**20))",
    "memory": "kept = bytearray(2**40)",
    "a wheel of another name": "def build_wheel(target, *rest):\n    return '../../../etc/passwd'",
    "nothing": "import os; os._exit(0)",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_build_that_takes_too_much_or_lies_is_one_message(quick: str, tmp_path: Path, named: str, kind: str) -> None:
    archive = make_source(tmp_path, "hostile", ENDLESS[kind])
    free = shutil.disk_usage(environments.shelf()).free
    said = refused("--from", "python", "--engine", quick, "--with", str(archive))
    assert "hostile-1.0.tar.gz could not be built to a wheel" in said
    assert shutil.disk_usage(environments.shelf()).free > free - 500 * 1024**2
    assert not left_of(named)


def bomb(directory: Path) -> Path:
    """Write a wheel that says it unpacks to a thousand gigabytes."""
    path = make_wheel(directory, "hostile", {"hostile.py": ""})
    with zipfile.ZipFile(path, "a") as wheel:
        for number in range(300):
            wheel.writestr(f"hostile_data/{number}", "")
        for member in wheel.infolist():
            member.file_size = 4_000_000_000
    return path


def test_wheel_that_unpacks_to_more_than_there_is_room_for_is_refused(engine: str, tmp_path: Path, named: str) -> None:
    said = refused("--from", "python", "--engine", engine, "--with", str(bomb(tmp_path)))
    assert "would unpack to more than there is room for" in said or "cannot be read" in said
    assert not left_of(named)


@pytest.mark.parametrize(
    "member", ["../../../../../../tmp/{mark}", "/tmp/{mark}", "hostile-1.0.data/data/../../../{mark}"]
)
def test_wheel_with_files_elsewhere_is_refused(quick: str, tmp_path: Path, named: str, member: str) -> None:
    wheel = make_wheel(tmp_path, "hostile", {"hostile.py": "", member.format(mark=MARK): "planted"})
    done = image("build", named, "--from", "python", "--engine", quick, "--with", str(wheel))
    assert not Path("/tmp", MARK).exists()
    assert not list(environments.prefix().glob(f"**/{MARK}")) or done.returncode == 0


def test_package_that_brings_files_of_others_changes_its_own_image_only(quick: str, tmp_path: Path, named: str) -> None:
    """An environment is made of links to its base's files: a write through one would change every image."""
    wheel = make_wheel(tmp_path, "hostile", {"hostile.py": "found = {}", "orjson/__init__.py": "changed = True"})
    assert image("build", named, "--from", "python", "--engine", quick, "--with", str(wheel)).returncode == 0
    with Session(engine=quick, image="python") as session:
        assert session.execute("import orjson; hasattr(orjson, 'changed'), orjson.dumps(1)").text == "(False, b'1')"
