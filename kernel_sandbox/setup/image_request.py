"""What an image of one's own is asked to hold, read and judged before anything is done. Pure, but for files it names.

`kernel-sandbox image build NAME --from BASE --with POLARS --with ./x.whl --apt graphviz`, or with a FILE.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.image_names import OWN_NAME, image_names
from kernel_sandbox.spec.languages import language_of_image
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.spelling import did_you_mean

REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?[ \t]*(?:\[[\w \t,.-]*\])?[ \t]*"
    r"(?:(?:===|[<>=!~]=|[<>])[ \t]*[\w.*+!-]+[ \t]*(?:,[ \t]*(?:===|[<>=!~]=|[<>])[ \t]*[\w.*+!-]+[ \t]*)*)?"
    r"(?:;(?:(?![ \t]-)[\w \t\"'()<>=!~.,+*-])*)?(?:[ \t]+--hash=sha256:[0-9a-f]{64})*",
    re.ASCII,
)
"""PEP 508 without addresses, with the hashes of a lock: one line of a requirements file, which can hold no option.

pip takes options from such a file, addresses of indexes too, splits it wherever Unicode ends a line, and puts variables
of its environment in, which hold passwords: nothing of a marker but what markers are made of.
"""
APT_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}")
WHEEL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*-[A-Za-z0-9.!+_]+(?:-\d\w*)?-[\w.]+-[\w.]+-[\w.]+\.whl")
SOURCE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.(?:tar\.gz|tgz|zip)")
MOST_LINES = 1000
LARGEST_FILE = 1024 * 1024
FILES = "requirements.txt, pyproject.toml or Dockerfile"


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What one image is to hold beside its base."""

    name: str
    base: str
    """An image of this package; nothing with a Dockerfile."""
    requirements: tuple[str, ...] = ()
    """Lines of a requirements file, without files of the host."""
    files: tuple[Path, ...] = ()
    """Wheels and source archives of the host."""
    apt: tuple[str, ...] = ()
    """Packages of Debian."""
    dockerfile: Path | None = None
    """What makes the image, instead of all that."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Everything that was asked for, in words."""
        return (*self.requirements, *(path.name for path in self.files), *(f"apt:{name}" for name in self.apt))


def read_request(
    name: str,
    *,
    base: str | None = None,
    packages: Sequence[str] = (),
    apt: Sequence[str] = (),
    file: Path | None = None,
) -> ImageRequest:
    """Read what is asked for. Raises EngineError where it cannot be built, with what to do."""
    if not (packages or apt or file):
        raise EngineError(
            f"This package has no image {name!r}.{did_you_mean(name, image_names())} For one of your own, say what it "
            f"is to hold: --with PACKAGE, --apt PACKAGE or a file ({FILES})."
        )
    _require_name(name)
    if file is not None and file.name.lower().endswith("dockerfile"):
        if packages or apt or base:
            raise EngineError("A Dockerfile says itself what goes into the image: leave --from, --with and --apt out.")
        _read_text(file)
        return ImageRequest(name, "", dockerfile=file)
    base = base or SandboxSpec().image
    if base not in image_names():
        known = ", ".join(image_names())
        raise EngineError(f"{base!r} is nothing to build on.{did_you_mean(base, image_names())} There are: {known}.")
    lines = [*(_read_file(file) if file is not None else ()), *packages]
    requirements, files = _sorted(lines)
    language = language_of_image(base)
    if (requirements or files) and not language.is_python:
        raise EngineError(
            f"{base} is for {language.title}, and takes no packages of Python's. Packages of Debian: --apt PACKAGE, "
            f"with --engine docker. Anything else: a Dockerfile that begins with FROM kernel-sandbox/{base}."
        )
    for package in apt:
        if not APT_NAME.fullmatch(package):
            raise EngineError(f"{package!r} is no name of a Debian package.")
    return ImageRequest(name, base, requirements, files, tuple(dict.fromkeys(apt)))


def _require_name(name: str) -> None:
    if name in image_names():
        raise EngineError(f"{name} is an image of this package: give yours another name.")
    if not OWN_NAME.fullmatch(name):
        raise EngineError(
            f"{name!r} cannot be an image's name: small letters and digits, parted by single . _ or -, at most 40."
        )


def _sorted(lines: Iterable[str]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Return the lines that are requirements, and those that name files. Raises EngineError for an address."""
    requirements, files = [], []
    for line in lines:
        if "://" in line or " @ " in line:
            raise EngineError(f"{line[:200]!r} is an address: download it, and give the file (--with ./FILE.whl).")
        if line.endswith((".whl", ".tar.gz", ".tgz", ".zip")) or line.startswith((".", "/", "~")):
            files.append(_package_file(line))
        elif REQUIREMENT.fullmatch(line):
            requirements.append(line)
        else:
            raise EngineError(f"{line[:200]!r} is no package: write polars, 'polars>=1.4' or ./FILE.whl.")
    return tuple(dict.fromkeys(requirements)), tuple(dict.fromkeys(files))


def _package_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise EngineError(f"There is no file {text}.")
    if not (WHEEL_FILE.fullmatch(path.name) or SOURCE_FILE.fullmatch(path.name)):
        raise EngineError(f"{path.name} is neither a wheel (NAME-1.0-py3-none-any.whl) nor a source archive (.tar.gz).")
    return path


def _read_file(path: Path) -> list[str]:
    """Return the packages that a file asks for."""
    text = _read_text(path)
    lines = _of_project(path, text) if path.suffix == ".toml" else _of_requirements(path, text)
    if not lines:
        raise EngineError(f"{path} asks for no package.")
    return lines[:MOST_LINES]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise EngineError(f"{path} has more than 1 MB: that is no {FILES}.")
        return path.read_text()
    except FileNotFoundError:
        raise EngineError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise EngineError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}.") from exc


def _of_requirements(path: Path, text: str) -> list[str]:
    """Return the lines of a requirements file (pip's format), without comments, continued ones joined."""
    lines = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare.startswith("-"):
            raise EngineError(
                f"{path} holds {bare.split()[0][:40]!r}: name the packages only. Which index they come from is in "
                "pip's settings (pip config)."
            )
        if bare:
            is_file = bare.startswith(".") or bare.endswith(".whl")
            lines.append(str(path.parent / bare) if is_file and not bare.startswith("/") else bare)
    return lines


def _of_project(path: Path, text: str) -> list[str]:
    """Return a project's dependencies (PEP 621)."""
    try:
        project = tomllib.loads(text).get("project", {})
    except tomllib.TOMLDecodeError as exc:
        raise EngineError(f"{path} is no TOML: {exc}.") from exc
    listed = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise EngineError(f"{path}: project.dependencies is no list of texts.")
    if "dependencies" in (project.get("dynamic") or ()):
        raise EngineError(
            f"{path}: its dependencies are dynamic, found by running it: write them into a requirements.txt."
        )
    return listed
