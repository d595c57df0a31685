"""What images are made from, and where it is unpacked: locks, digests, signatures, and nothing of it on the host."""

from __future__ import annotations

import ast
import re
import socket
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.sandbox.engines.image_names import LABEL, images_folder, lock_digest
from kernel_sandbox.setup import debian_root, docker_images, environment_builder, environment_files
from tests.conftest import missing
from tests.redteam.without.supply import HOSTILE, ignore, unsigned_mirror
from tests.registry import image_of, serving

if TYPE_CHECKING:
    import docker

ROOT = Path(__file__).parents[2]
SERVER = images_folder() / "server"
OF_DEBIAN = ("r",)
"""Images that hold no package of Python's: their locks are empty."""
LOCKS = [images_folder() / "pip.txt", *sorted(images_folder().glob("*/requirements.txt"))]
LOCKS = [lock for lock in LOCKS if lock.parent.name not in OF_DEBIAN]
LOCKS += [SERVER / "packages.txt", SERVER / "build.txt"]
PINNED = re.compile(r"^([\w.-]+)(\[[\w,]+\])?==(\S+) \\$", re.MULTILINE)


# Locks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_lock_holds_exact_versions_with_hashes_and_nothing_else(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    entries = "\n".join(lines).split("\n")
    pins = [line for line in entries if not line.startswith("    --hash=")]
    assert all(PINNED.match(line) for line in pins)
    hashes = [line for line in entries if line.startswith("    --hash=")]
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    assert len(hashes) >= len(pins) > 0


def test_lock_of_the_server_fits_what_the_service_asks_for() -> None:
    pinned = {canonicalize_name(found[1]): found[3] for found in PINNED.finditer((SERVER / "packages.txt").read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["server"], *extras["mcp"], *extras["trace"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert "kernel-sandbox" not in pinned


@pytest.mark.parametrize("dockerfile", sorted(images_folder().glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_pip_installs_into_an_image_only_what_has_a_known_hash(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    installs = re.findall(r"[^;\n]* install [^;]*", text)
    by_pip = [command for command in installs if "pip" in command]
    assert by_pip
    for command in by_pip:
        own_wheel = "kernel_sandbox-*.whl" in command  # made from this checkout
        assert "--no-index" in command
        assert "--no-deps" in command
        assert own_wheel or "--require-hashes" in command


# Bases


def test_base_that_is_pulled_has_a_digest() -> None:
    assert re.fullmatch(r"python@sha256:[0-9a-f]{64}", docker_images.PYTHON_BASE)
    digest = docker_images.PYTHON_BASE.partition("@")[2]
    assert f"ARG BASE=python:3.11-slim-bookworm@{digest}\n" in (SERVER / "Dockerfile").read_text()


@pytest.fixture
def client() -> docker.DockerClient:
    try:
        return connect()
    except EngineError as exc:
        pytest.skip(str(exc))


def test_base_is_pulled_by_its_digest(client: docker.DockerClient) -> None:
    meant = image_of("meant", str(client.version()["Arch"]))
    with serving(meant) as registry:
        name = f"{registry}/python@{meant.digest}"
        assert docker_images.choose_base(client, "python", ignore, name) == ("python", name)
    # It is there now: no registry is asked.
    assert docker_images.choose_base(client, "python", ignore, name) == ("python", name)
    client.images.remove(name)


def test_image_on_an_older_official_base_is_made_anew(client: docker.DockerClient) -> None:
    labels = {"lock": lock_digest("python"), "base": "python", "base-reference": docker_images.PYTHON_BASE}

    def is_up_to_date(**changes: str) -> bool:
        found = {"Config": {"Labels": {f"{LABEL}.{name}": value for name, value in (labels | changes).items()}}}
        return docker_images._is_up_to_date(client, found, "python", "auto")

    assert is_up_to_date()
    assert not is_up_to_date(**{"base-reference": f"python@sha256:{'0' * 64}"})
    assert not is_up_to_date(**{"base-reference": "python:3.11-slim-bookworm"})


def test_base_with_another_digest_is_refused(client: docker.DockerClient) -> None:
    architecture = str(client.version()["Arch"])
    meant, other = image_of("meant", architecture), image_of("other", architecture)
    with serving(other) as registry, pytest.raises(EngineError, match=r"cannot be pulled .*--base debian"):
        docker_images.choose_base(client, "python", ignore, f"{registry}/python@{meant.digest}")
    assert not [image for image in client.images.list() if registry in str(image.attrs["RepoDigests"])]


# Debian's packages


@pytest.fixture
def scratch() -> Iterator[Path]:
    if reason := missing_debootstrap():
        pytest.skip(reason)
    with debian_root._scratch_directory() as root:
        yield root


def missing_debootstrap() -> str | None:
    try:
        debian_root._check_host(connect())
    except EngineError as exc:
        return str(exc)
    return None


def test_packages_that_nobody_signed_are_not_even_listed(scratch: Path) -> None:
    with unsigned_mirror() as (mirror, asked), pytest.raises(EngineError, match=r"[Ss]ignature|Release"):
        debian_root._debootstrap(scratch, mirror, ignore)
    assert any("Release" in path for path in asked)
    assert not any("Packages" in path for path in asked)


def test_machine_without_debians_keys_makes_no_root(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_root, "KEYRING", tmp_path / "gone.gpg")
    with pytest.raises(EngineError, match="debian-archive-keyring"):
        debian_root._check_host(connect())
    with unsigned_mirror() as (mirror, asked), pytest.raises(EngineError, match="keyring"):
        debian_root._debootstrap(scratch, mirror, ignore)
    assert asked == []


def test_host_is_read_only_while_debians_packages_are_unpacked(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a mount of its own is, as /dev/shm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "debootstrap").write_text(HOSTILE)
    (programs / "debootstrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("ROOT", str(scratch))
    for outside in (tmp_path, Path("/dev/shm"), Path("/var/tmp"), Path("/etc")):
        monkeypatch.setenv("OUTSIDE", str(outside))
        debian_root._debootstrap(scratch, None, ignore)
        assert (scratch / "inside").read_text() == "unpacked\n"
        assert not (outside / "bookworm").exists()
        assert not (outside / "escaped").exists()


# Wheels

NOSY = """import os, pathlib, socket, sys
found = []
for attempt in (lambda: pathlib.Path({canary!r}).write_text('it ran here'),
                lambda: pathlib.Path({secret!r}).read_text(),
                lambda: socket.create_connection(('127.0.0.1', {port}), 3),
                lambda: pathlib.Path('/usr/bin/planted').write_text('in the root'),
                lambda: os.setuid(1)):
    try:
        found.append(repr(attempt()))
    except OSError:
        found.append('refused')
pathlib.Path('/opt/venv/told').write_text(' '.join(found))
sys.exit('it is done')
"""


@pytest.fixture
def new_root(tmp_path: Path) -> Path:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    environment_files.make_root(tmp_path / "root")
    return tmp_path / "root"


def pip_that_runs(directory: Path, source: str) -> Path:
    """Write the worst that could be installed: a pip that does as it likes."""
    wheels = directory / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "pip-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pip/__main__.py", source)
    return wheels


def test_what_unpacks_wheels_sees_nothing_of_the_host(new_root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("what only the host knows")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        places = {name: str(tmp_path / name) for name in ("canary", "secret")}
        wheels = pip_that_runs(tmp_path, NOSY.format(**places, port=listener.getsockname()[1]))
        with pytest.raises(EngineError, match="it is done"):
            environment_builder._install(new_root, wheels, Path("/dev/null"), ignore)
    assert (new_root / "opt/venv/told").read_text() == " ".join(["refused"] * 5)
    assert not (tmp_path / "canary").exists()


def test_link_that_is_unpacked_leads_the_host_nowhere(new_root: Path, tmp_path: Path) -> None:
    """What comes after the sandbox writes to site-packages, and removes directories there."""
    wheels = pip_that_runs(tmp_path, f"import os; os.symlink({str(tmp_path)!r}, '/opt/venv/lib')")
    with pytest.raises(EngineError, match="made a link"):
        environment_builder._install(new_root, wheels, Path("/dev/null"), ignore)


def test_documents_of_a_root_that_lead_out_of_it_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root/usr/share").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("the host's")
    (tmp_path / "root/usr/share/doc").symlink_to(tmp_path / "kept")
    debian_root._strip_documentation(tmp_path / "root")
    assert (tmp_path / "kept/file").exists()


UNPACKERS = {"zipfile", "tarfile", "gzip", "bz2", "lzma", "zlib", "unpack_archive", "get_archive"}
WRITES_ONLY = {"image_builder.py"}
"""What makes an archive, and opens none."""


def test_no_module_of_the_host_unpacks_an_archive() -> None:
    package = ROOT / "kernel_sandbox"
    found = set()
    for path in package.rglob("*.py"):
        if "guest" in path.parts or "inside" in path.parts:
            continue  # these run in a sandbox
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            if UNPACKERS & set(names):
                found.add(path.name)
    assert found == WRITES_ONLY
    assert not re.search(r"extract|mode=\"r", (package / "setup/image_builder.py").read_text())


# Reports


def test_holes_are_reported_in_private() -> None:
    text = (ROOT / ".github" / "SECURITY.md").read_text()
    address = re.search(r"\*\*([\w.+-]+@[\w.-]+)\*\*", text)
    assert address
    assert ("placeholder" in text) == address[1].endswith(".invalid"), (
        "until the owner puts an address there, it says so"
    )
    for link in re.findall(r"\]\((\.\./[^)]+)\)", text):
        assert (ROOT / ".github" / link).exists()
