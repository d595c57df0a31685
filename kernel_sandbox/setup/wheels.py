"""The packages of an image: downloaded once on the host, by the user's own pip, for the engine's machine.

pip reads the user's settings by itself (PIP_* variables, pip.conf, proxies, SSL_CERT_FILE), and a build that gets its
wheels in the context needs no network and no certificates. The image builder calls `fetch`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import deque
from pathlib import Path

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import directories, programs
from kernel_sandbox.setup.progress import Progress, Report

STAGE = "download packages"
PYTHON_VERSION = "3.11"
"""Of both bases; the locks are made for it."""
GLIBC = 36
"""The minor version of Debian 12's C library: wheels for it and for older ones run there."""
ROOM = 512 * 1024**2
"""Bytes that must be free for a download that nothing more is known of."""
OLDER_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}
"""The names of manylinux before PEP 600, for the architectures that the images are made for."""


def cache_directory() -> Path:
    """Return where downloaded wheels are kept; all below may be deleted at any time."""
    return directories.cache() / "wheels"


def fetch(requirements: list[Path], architecture: str, report: Report, *, room: int = ROOM) -> Path:
    """Return a directory with the wheel of every locked package, from the cache or from the user's index.

    `architecture` is "x86_64" or "aarch64"; `room` is the bytes that must be free for a download. Raises EngineError
    when pip is missing or fails; the cache then holds nothing of the attempt.
    """
    return _fetch(requirements, architecture, _tags_of_images(architecture), report, room, None)


def fetch_for_this_machine(requirements: list[Path], report: Report, *, room: int = ROOM, instead: Path) -> Path:
    """Return a directory with the wheels for the interpreter and the C library that run this. Raises EngineError.

    Where the cache cannot take them (a home that is read-only or full), the wheels come below `instead`.
    """
    machine = f"{sys.implementation.cache_tag} {sysconfig.get_platform()} {'-'.join(platform.libc_ver())}"
    return _fetch(requirements, machine, [], report, room, instead)


def _fetch(
    requirements: list[Path], kind: str, tags: list[str], report: Report, room: int, instead: Path | None
) -> Path:
    digest = hashlib.sha256(kind.encode())
    for path in requirements:
        digest.update(path.read_bytes())
    complete = cache_directory() / digest.hexdigest()[:32]
    if _is_there(complete):
        report(Progress(STAGE, "all of them are in the cache"))
        return complete
    complete = _directory_with_room(room, instead) / complete.name
    with tempfile.TemporaryDirectory(dir=complete.parent, prefix=".part-") as scratch:
        download = Path(scratch) / "wheels"
        _run_pip(_pip_command(download, requirements, tags), _count(requirements), report)
        _keep(download, complete)
    return complete


def _is_there(directory: Path) -> bool:
    try:
        return directory.is_dir()
    except OSError:  # a directory above cannot be looked into
        return False


def _directory_with_room(room: int, instead: Path | None) -> Path:
    cache, problem = cache_directory(), "too little room there"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            problem = "it cannot be written"
        elif shutil.disk_usage(cache).free > room:
            return cache
    except OSError as exc:
        problem = exc.strerror or str(exc)
    if instead is None:
        remedy = f"make room ({room // 1024**2} MB), or set XDG_CACHE_HOME to another directory"
        raise EngineError(f"Packages cannot be downloaded to {cache} ({problem}): {remedy}.")
    instead.mkdir(parents=True, exist_ok=True)
    return instead


def _keep(download: Path, complete: Path) -> None:
    """Move a finished download to its place; another build may have been there first, with the same files."""
    try:
        download.rename(complete)
    except OSError:
        if not complete.is_dir():
            raise


def _count(requirements: list[Path]) -> int:
    return sum(len(re.findall(r"^[\w.-]+==", path.read_text(), re.MULTILINE)) for path in requirements)


def _platforms(architecture: str) -> list[str]:
    """Name the platforms whose wheels run on the images' base, the newest first, as `pip download` wants them."""
    modern = [f"manylinux_2_{minor}_{architecture}" for minor in range(GLIBC, 4, -1)]
    return modern + [f"{name}_{architecture}" for name in OLDER_TAGS[architecture]]


def _tags_of_images(architecture: str) -> list[str]:
    tags = ["--implementation=cp", f"--python-version={PYTHON_VERSION}"]
    return tags + [f"--platform={name}" for name in _platforms(architecture)]


def _pip_command(target: Path, requirements: list[Path], tags: list[str]) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise EngineError(
            "The packages of an image are downloaded with pip, which this Python does not have. "
            f"Get it with: {sys.executable} -P -m ensurepip (or, in an environment that uv made: uv pip install pip)"
        )
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    # The locks hold no environment markers, which pip would evaluate for this machine and not for the image.
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar=off", f"--dest={target}"]
    return command + tags + [f"--requirement={path}" for path in requirements]


def _run_pip(command: list[str], total: int, report: Report) -> None:
    """Run pip to its end and report each package. Raises EngineError with pip's own last lines."""
    environment = programs.environment(PYTHONUNBUFFERED="1", NO_COLOR="1")
    last: deque[str] = deque(maxlen=12)
    done = 0
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                last.append(line.rstrip())
                # "Collecting name==version" from an index, "Processing path" from a local directory of wheels.
                if match := re.match(r"(?:Collecting|Processing) (?:\S*/)?(\S+)", line):
                    done += 1
                    report(Progress(STAGE, match[1], done, total))
        except BaseException:
            pip.kill()  # Popen's own exit would leave it running after Ctrl-C
            raise
    if pip.returncode:
        text = "\n".join(last)
        raise EngineError(f"pip could not download the packages of the image:\n{text}\nIts settings: pip config list")
