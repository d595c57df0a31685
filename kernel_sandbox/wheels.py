"""The packages of an image: downloaded once on the host, by the user's own pip, for the engine's machine.

pip reads the user's settings by itself (PIP_* variables, pip.conf, proxies, SSL_CERT_FILE), and a build that gets its
wheels in the context needs no network and no certificates. The image builder calls `fetch`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

from kernel_sandbox.errors import EngineError
from kernel_sandbox.progress import Progress, Report

STAGE = "download packages"
PYTHON_VERSION = "3.11"
"""Of both bases; the locks are made for it."""
GLIBC = 36
"""The minor version of Debian 12's C library: wheels for it and for older ones run there."""
OLDER_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "aarch64": ("manylinux2014",)}
"""The names of manylinux before PEP 600, for the architectures that the images are made for."""


def cache_directory() -> Path:
    """Return where downloaded wheels are kept; all below may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kernel-sandbox" / "wheels"


def fetch(requirements: list[Path], architecture: str, report: Report) -> Path:
    """Return a directory with the wheel of every locked package, from the cache or from the user's index.

    `architecture` is "x86_64" or "aarch64". Raises EngineError when pip is missing or fails; the cache then holds
    nothing of the attempt.
    """
    digest = hashlib.sha256(architecture.encode())
    for path in requirements:
        digest.update(path.read_bytes())
    complete = cache_directory() / digest.hexdigest()[:32]
    if complete.is_dir():
        report(Progress(STAGE, "all of them are in the cache"))
        return complete
    complete.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=complete.parent, prefix=".part-") as scratch:
        download = Path(scratch) / "wheels"
        _run_pip(_pip_command(download, requirements, architecture), _count(requirements), report)
        _keep(download, complete)
    return complete


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


def _pip_command(target: Path, requirements: list[Path], architecture: str) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise EngineError(
            "The packages of an image are downloaded with pip, which this Python does not have. "
            f"Get it with: {sys.executable} -m ensurepip (or, in an environment that uv made: uv pip install pip)"
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    # The locks hold no environment markers, which pip would evaluate for this machine and not for the image.
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar=off", f"--dest={target}"]
    command += ["--implementation=cp", f"--python-version={PYTHON_VERSION}"]
    command += [f"--platform={name}" for name in _platforms(architecture)]
    return command + [f"--requirement={path}" for path in requirements]


def _run_pip(command: list[str], total: int, report: Report) -> None:
    """Run pip to its end and report each package. Raises EngineError with pip's own last lines."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
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
