"""What images are made from: the base by its digest, Debian's packages by their signatures, wheels in a sandbox."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.docker_client import connect, translated_errors
from kernel_sandbox.setup import debian_root, docker_images, environment_files, wheels
from kernel_sandbox.setup.progress import Progress
from tests.redteam.without import seams
from tests.redteam.without.removal import Ground, Removal
from tests.registry import image_of, serving


def ignore(progress: Progress) -> None:
    return


# The base


def by_tag(ground: Ground) -> None:
    def pull(client: Any, image: str, report: object) -> str:
        repository = image.partition("@")[0]
        with translated_errors():
            client.api.pull(repository, tag="3.11")
        return f"{repository}:3.11"

    ground.replace(seams.BASE_IMAGE, pull)


def give_another_base(ground: Ground) -> bool:
    """A registry, or who stands before it, answers with another image than the one that was meant."""
    client = connect()
    architecture = str(client.version()["Arch"])
    meant, other = image_of("meant", architecture), image_of("other", architecture)
    with serving(other) as registry:
        try:
            taken = docker_images.choose_base(client, "python", ignore, f"{registry}/python@{meant.digest}")[1]
        except EngineError:
            return False
        client.images.remove(taken)
    return True


# Debian's packages


def change_command(ground: Ground, change: Callable[[list[str]], list[str]]) -> None:
    honest = seams.DEBOOTSTRAP_COMMAND.current
    ground.replace(seams.DEBOOTSTRAP_COMMAND, lambda root, mirror: change(honest(root, mirror)))


def unforced(ground: Ground) -> None:
    words = {"--force-check-gpg": "--no-check-gpg"}
    change_command(ground, lambda command: [words.get(word, word) for word in command])


PACKAGE_LIST = b"Package: hostile\nArchitecture: all\n"


@contextlib.contextmanager
def unsigned_mirror() -> Iterator[tuple[str, list[str]]]:
    """An archive without signatures, and the paths that it is asked for."""
    name, asked = f"main/binary-{_architecture()}/Packages", []
    listed = f" {hashlib.sha256(PACKAGE_LIST).hexdigest()} {len(PACKAGE_LIST)} {name}\n"
    release = f"Suite: bookworm\nCodename: bookworm\nComponents: main\nSHA256:\n{listed}".encode()

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            endings = {"/Release": release, f"/{name}": PACKAGE_LIST}
            content = next((found for ending, found in endings.items() if self.path.endswith(ending)), None)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/debian", asked
        finally:
            server.shutdown()
            thread.join()


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def give_packages_that_nobody_signed(ground: Ground) -> bool:
    """From a mirror, or from who stands before one."""
    with unsigned_mirror() as (mirror, asked), seams.NEW_ROOT.current() as root:
        with pytest.raises(EngineError):  # it has one package, and that not
            seams.DEBOOTSTRAP.current(root, mirror, ignore)
        return any("Packages" in path for path in asked)


def unsealed(ground: Ground) -> None:
    change_command(
        ground, lambda command: ['shift; exec "$@"' if word == debian_root.SEAL else word for word in command]
    )


HOSTILE = """#!/bin/sh
for last; do :; done
echo unpacked > "$ROOT/inside"
echo unpacked > "$OUTSIDE/$last" || echo unpacked > "$OUTSIDE/escaped"
exit 0
"""


def write_beside_the_root(ground: Ground) -> bool:
    """As a package would whose names lead out of the new root, if dpkg or tar let them."""
    programs = ground.path / "bin"
    programs.mkdir()
    (programs / "debootstrap").write_text(HOSTILE)
    (programs / "debootstrap").chmod(0o755)
    ground.patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    ground.patch.setenv("OUTSIDE", str(ground.path))
    with seams.NEW_ROOT.current() as root:
        ground.patch.setenv("ROOT", str(root))
        seams.DEBOOTSTRAP.current(root, None, ignore)
        assert (root / "inside").exists()
    return (ground.path / "bookworm").exists() or (ground.path / "escaped").exists()


# Wheels


def unhashed(ground: Ground) -> None:
    honest = seams.PIP_COMMAND.current

    def command(target: Path, requirements: list[Path], tags: list[str]) -> list[str]:
        bare = []
        for number, path in enumerate(requirements):
            bare.append(ground.path / f"{number}.txt")
            bare[-1].write_text(re.sub(r"[\s\\]*--hash=\S+", "", path.read_text()))
        return [word for word in honest(target, bare, tags) if word != "--require-hashes"]

    ground.replace(seams.PIP_COMMAND, command)


def give_another_wheel(ground: Ground) -> bool:
    """An index, or who stands before it, has another file under a name and version of the lock."""
    with zipfile.ZipFile(ground.path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny.py", "print('another')")
    lock = ground.path / "requirements.txt"
    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(b'the file that was meant').hexdigest()}\n")
    for name, value in {
        "XDG_CACHE_HOME": ground.path / "cache",
        "PIP_NO_INDEX": 1,
        "PIP_FIND_LINKS": ground.path,
    }.items():
        ground.patch.setenv(name, str(value))
    try:
        taken = wheels.fetch([lock], "x86_64", ignore)
    except EngineError:
        return False
    return any(taken.iterdir())


def on_the_host(ground: Ground) -> None:
    def plain(root: Path, command: list[str], *, readable: Mapping[str, Path] | None = None, **_: object) -> list[str]:
        for place, path in (readable or {}).items():
            command = [word.replace(place, str(path)) for word in command]
        return [sys.executable, *command[1:]]

    ground.replace(seams.BUILD_SANDBOX, plain)


def evil_wheels(directory: Path, canary: Path) -> Path:
    """Write a pip that runs on its own account as soon as it is started."""
    packages = directory / "wheels"
    packages.mkdir()
    with zipfile.ZipFile(packages / "pip-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pip/__main__.py", f"open({str(canary)!r}, 'w').write('it ran here')\n")
    return packages


def run_while_it_is_installed(ground: Ground) -> bool:
    root, canary = ground.path / "root", ground.path / "canary"
    environment_files.make_root(root)
    with contextlib.suppress(EngineError):
        seams.INSTALLATION.current(root, evil_wheels(ground.path, canary), Path("/dev/null"), ignore)
    return canary.exists()


REMOVALS = {
    "base image by digest": Removal(severity="Escape", remove=by_tag, succeeds=give_another_base),
    "Debian's signatures forced": Removal(
        severity="Escape", remove=unforced, succeeds=give_packages_that_nobody_signed
    ),
    "host read-only while debs are unpacked": Removal(
        severity="Escape", remove=unsealed, succeeds=write_beside_the_root
    ),
    "packages by their hashes": Removal(severity="Escape", remove=unhashed, succeeds=give_another_wheel),
    "wheels unpacked in a sandbox": Removal(
        severity="Escape", remove=on_the_host, succeeds=run_while_it_is_installed, engines=("bubblewrap",)
    ),
}
