"""Packages of this machine's distribution for an environment of bubblewrap: downloaded by its apt, which verifies them.

All that they need comes along, the C library first: what is unpacked is of one piece, whatever this machine has
installed. apt works in a directory of this user's and changes nothing of the system's. `inside/debian_unpacker.py`
unpacks them, in a sandbox; no package's own programs run.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import directories, programs
from kernel_sandbox.setup.build_sandbox import PYTHON, run, sealed
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.text.characters import visible

UNPACKER = Path(__file__).parents[1] / "inside" / "debian_unpacker.py"
STAGE = "Debian's packages"
LINES_KEPT = 6
_CHOSEN = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.MULTILINE)
"""A package that apt would install: its name, version and architecture (apt-get(8), --simulate)."""


def fetch(packages: Sequence[str], target: Path, report: Report) -> None:
    """Put packages, and all that they need, into an empty directory. Raises EngineError where there is no such apt."""
    if programs.find("apt-get") is None:
        raise EngineError(
            "This image is made of Debian's packages, for which this machine has no apt: build it in Docker "
            "(--engine docker)."
        )
    with _own_state() as options:
        report(Progress(STAGE, "update the lists"))
        _apt([*options, "update"], "Debian's lists of packages could not be updated")
        chosen = _apt([*options, "--simulate", "install", *packages], f"apt knows no way to {' '.join(packages)}")
        files = [_file(*found) for found in _CHOSEN.findall(chosen)]
        report(Progress(STAGE, f"download {len(files)} packages"))
        _apt([*options, "--yes", "--download-only", "install", *packages], "Debian's packages could not be downloaded")
        for file in files:
            shutil.copyfile(_cache() / "archives" / file, target / file)


def _cache() -> Path:
    """Return where lists and packages are kept; all below may be deleted at any time."""
    return directories.cache() / "debian"


def unpack(root: Path, packages: Sequence[str], finish: Path, report: Report) -> None:
    """Add packages to an environment's root; `finish` is a script of the image's folder for what theirs would do.

    Raises EngineError.
    """
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".debian-") as directory:
        fetch(packages, Path(directory), report)
        report(Progress(STAGE, "unpack"))
        command = [PYTHON, "-I", "-S", "-c", UNPACKER.read_text(), "/tmp/packages", "/tmp/root"]
        given = {"/tmp/packages": Path(directory)}
        run(sealed(root, command, writable={"/tmp/root": root}, readable=given), "The packages could not be unpacked")
    own = {f"/{name}": root / name for name in ("etc", "usr", "var", "opt")}
    command = ["/bin/sh", "-euc", finish.read_text()]
    given = {"/tmp/image": finish.parent}
    run(sealed(root, command, writable=own, readable=given), "The packages could not be set up")


@contextlib.contextmanager
def _own_state() -> Iterator[list[str]]:
    """Give apt's options for a state of this user's, in which nothing is installed yet; one at a time has it."""
    place = _cache()
    try:
        for name in ("lists/partial", "archives/partial"):
            (place / name).mkdir(parents=True, exist_ok=True)
        (place / "status").write_text("")
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            settings = {
                "Dir::State::lists": f"{place}/lists",
                "Dir::State::status": f"{place}/status",
                "Dir::State::extended_states": f"{place}/extended_states",
                "Dir::Cache": str(place),
                "Dir::Cache::archives": f"{place}/archives",
                "Debug::NoLocking": "1",
                "APT::Install-Recommends": "0",
                "Acquire::Languages": "none",
                "APT::Sandbox::User": "",  # its own user could not write there
            }
            yield [f"--option={name}={value}" for name, value in settings.items()]
    except OSError as exc:
        problem = exc.strerror or str(exc)
        raise EngineError(f"Packages cannot be downloaded to {place} ({problem}): make room there.") from exc


def _apt(arguments: list[str], failed: str) -> str:
    """Run apt-get to its end, and return what it said. Raises EngineError with the last of that."""
    command = ["apt-get", "--quiet", *arguments]
    environment = programs.environment(LC_ALL="C.UTF-8", DEBIAN_FRONTEND="noninteractive")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode:
        said = "\n".join(visible(line) for line in (done.stdout + done.stderr).strip().splitlines()[-LINES_KEPT:])
        raise EngineError(f"{failed}:\n{said}")
    return done.stdout


def _file(name: str, version: str, architecture: str) -> str:
    """Return what apt calls a package's file (apt-pkg, AcqArchive)."""
    return f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
