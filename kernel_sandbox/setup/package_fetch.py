"""An image's packages: resolved and downloaded by pip in a sandbox, locked with their hashes, kept in the cache.

What comes back from there is bounded, and files are kept under names that were read here. A package that has only a
source archive is built in a session without a network (`source_builds.py`), and pip is asked once more.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.setup.fetch_failures import explain
from kernel_sandbox.setup.fetch_sandbox import GIVEN, SCRATCH, FetchSandbox
from kernel_sandbox.setup.pip_settings import PipSettings
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.setup.wheels import cache_directory

STAGE = "resolve and download"
MOST_SOURCES = 20
"""Packages of one image that are built from source."""
MOST_PACKAGES = 2000
LONGEST_ANSWER = 4 * 1024**2
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,62}")
WHEEL = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._]{0,99})-([A-Za-z0-9.!+_]{1,64})(?:-\d\w*)?-[\w.]+-[\w.]+-[\w.]{1,150}\.whl"
)
ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,150}\.(?:tar\.gz|tgz|zip|tar\.bz2|tar\.xz)")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package of an image."""

    name: str
    version: str
    file: str
    """The name of its wheel."""
    sha256: str

    @property
    def line(self) -> str:
        """As a lock has it."""
        return f"{self.name}=={self.version} \\\n    --hash=sha256:{self.sha256}\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an image is to hold beside its base."""

    requirements: tuple[str, ...]
    """Lines of a requirements file; a wheel of the host stands there as GIVEN/wheels/FILE."""
    constraints: str
    """The base's lock, without hashes: what is there stays as it is."""
    base: str
    pip: Path
    """pip's own wheel."""
    wheels: Path
    """A directory for wheels that are at hand; those that are built come there."""
    apart: bool = False
    """Whether what the base has is wanted too, as by a build, which has a directory of its own."""


SourceBuilder = Callable[[Path, Path], Path]
"""Builds an archive to a wheel in a directory, and returns that."""


def fetch_packages(
    wanted: Wanted, sandbox: FetchSandbox, settings: PipSettings, build: SourceBuilder, report: Report
) -> list[LockedPackage]:
    """Resolve and download; the files are in the cache then (`cached`). Raises EngineError, which says why not."""
    report(Progress(STAGE, ", ".join(line.removeprefix(f"{GIVEN}/wheels/") for line in wanted.requirements)))
    for _ in range(MOST_SOURCES):
        for wheel in wanted.wheels.iterdir():
            _keep(wheel)
        with tempfile.TemporaryFile(dir=wanted.wheels.parent) as answer:
            said = _ask(wanted, sandbox, settings, answer, report)
            told = _read_line(answer, said)
            if told.get("status") == "resolved":
                return _take_packages(told, answer)
            if told.get("status") == "source":
                archive = _take_source(told, answer, wanted.wheels.parent)
                report(Progress("build from source", archive.name))
                build(archive, wanted.wheels)
                continue
        raise EngineError(explain(told, wanted.base, list(said)))
    raise EngineError(f"More than {MOST_SOURCES} packages would have to be built from source: give wheels of them.")


def _ask(wanted: Wanted, sandbox: FetchSandbox, settings: PipSettings, answer: IO[bytes], report: Report) -> deque[str]:
    """Run the fetcher; return the last that pip said."""
    said: deque[str] = deque(maxlen=12)

    def on_line(line: str) -> None:
        if line.strip() and not line.startswith("WARNING: Location"):
            said.append(line)
        if match := re.match(r"(?:Collecting|Processing|Downloading) (?:\S*/)?(\S+)", line.strip()):
            report(Progress(STAGE, match[1], done=0))

    config = {
        "pip": f"{GIVEN}/{wanted.pip.name}",
        "requirements": "\n".join(wanted.requirements),
        "constraints": wanted.constraints + settings.constraints,
        "apart": wanted.apart,
        "wheels": f"{GIVEN}/wheels",
        "have": [path.name for path in _shelf().iterdir()] if _shelf().is_dir() else [],
        "scratch": SCRATCH,
    }
    sandbox.run(config, {wanted.pip.name: wanted.pip, "wheels": wanted.wheels}, settings, answer, on_line)
    answer.seek(0)
    return said


def _read_line(answer: IO[bytes], said: deque[str]) -> dict[str, Any]:
    try:
        told = json.loads(answer.readline(LONGEST_ANSWER))
        if isinstance(told, dict):
            return told
    except (ValueError, RecursionError):
        pass
    raise EngineError("pip ended without an answer:\n" + "\n".join(said))


def _text(told: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise EngineError(f"A package has a {name} that none should have: {str(value)[:100]!r}.")
    return value


def _take_packages(told: Mapping[str, Any], answer: IO[bytes]) -> list[LockedPackage]:
    listed = told.get("packages")
    if not isinstance(listed, list) or len(listed) > MOST_PACKAGES:
        raise EngineError(f"An image holds at most {MOST_PACKAGES} packages.")
    packages = []
    for each in listed:
        entry = each if isinstance(each, dict) else {}
        name, version = _text(entry, "name", NAME), _text(entry, "version", VERSION)
        package = LockedPackage(name, version, _text(entry, "file", WHEEL), _text(entry, "sha256", SHA256))
        if entry.get("size"):
            _store(answer, int(entry["size"]), package)
        cached(package)
        packages.append(package)
    return packages


def _take_source(told: Mapping[str, Any], answer: IO[bytes], directory: Path) -> Path:
    target = directory / _text(told, "file", ARCHIVE)
    target.write_bytes(answer.read())
    return target


def _shelf() -> Path:
    """Return where single wheels are kept: SHA256/NAME.whl; all below may be deleted at any time."""
    return cache_directory() / "single"


def cached(package: LockedPackage) -> Path:
    """Return where a package's wheel is kept. Raises EngineError where it is not."""
    place = _shelf() / package.sha256 / package.file
    if not place.is_file():
        raise EngineError(f"The wheel {package.file} is not in the cache any more: run the same command again.")
    return place


def _keep(wheel: Path) -> None:
    """Put a wheel of the host into the cache."""
    with wheel.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        source.seek(0)
        _store(source, wheel.stat().st_size, LockedPackage("", "", wheel.name, digest))


def _store(source: IO[bytes], size: int, package: LockedPackage) -> None:
    """Write so many bytes to the cache, if they are what their hash says."""
    place = _shelf() / package.sha256 / package.file
    place.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), size
    with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".part-", delete=False) as part:
        try:
            while left and (chunk := source.read(min(left, 1024**2))):
                digest.update(chunk)
                part.write(chunk)
                left -= len(chunk)
            if left or digest.hexdigest() != package.sha256:
                raise EngineError(f"{package.file} is not what its hash says: the download was cut, or changed.")
            part.flush()
            Path(part.name).replace(place)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            if not any(place.parent.iterdir()):
                place.parent.rmdir()
            raise
