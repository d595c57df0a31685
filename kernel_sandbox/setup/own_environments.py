"""Makes a bubblewrap environment of one's own: an existing one's files, linked, and new packages beside them.

What a new package brings can write to no file that another environment has: its wheel is unpacked and compiled in a
directory of its own, by programs that import none of it, and the host then moves plain files into the copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines import control_groups
from kernel_sandbox.sandbox.engines.environments import PREFIX_VARIABLE, Environment, shelf
from kernel_sandbox.setup.build_sandbox import PYTHON, run, sealed
from kernel_sandbox.setup.environment_builder import make_readable
from kernel_sandbox.setup.package_fetch import LockedPackage, cached
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.spec.values import Limits

CHECK = Path(__file__).parents[1] / "inside" / "wheel_check.py"
MOST_FILES = 300_000
SPARE = 256 * 1024**2
"""Bytes that stay free on the disk."""
BARE = "/opt/python/bin/python3"
"""The interpreter that finds no package: code of one can begin to run with any that does (site)."""
LIMITS = Limits(memory="3g")


def install(base: Environment, packages: Sequence[LockedPackage], pip: Path, scratch: Path, report: Report) -> Path:
    """Unpack and compile packages, in a sandbox; return the directory that holds what is to lie in /opt/venv."""
    report(Progress("install packages"))
    wheels, new = scratch / "wheels", scratch / "new"
    wheels.mkdir()
    new.mkdir()
    for package in packages:
        shutil.copyfile(cached(package), wheels / package.file)
    shutil.copyfile(pip, wheels / pip.name)
    lock = scratch / "requirements.txt"
    lock.write_text("".join(package.line for package in packages))
    given = {"/tmp/wheels": wheels, "/tmp/requirements.txt": lock}
    room = max(shutil.disk_usage(scratch).free - SPARE, 0)
    check = [BARE, "-I", "-S", "-c", CHECK.read_text(), "/tmp/wheels", str(room), str(MOST_FILES)]
    short = f"There is too little room in {shelf()}: make some, or set {PREFIX_VARIABLE} to another directory"
    _run(base.root, check, given, new, short)
    command = [PYTHON, "-I", f"/tmp/wheels/{pip.name}/pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-index", "--find-links=/tmp/wheels", "--no-deps", "--require-hashes", "--no-compile"]
    command += ["--no-cache-dir", "--root-user-action=ignore", "--ignore-installed", "--no-warn-script-location"]
    command += ["--prefix=/tmp/new", "--requirement=/tmp/requirements.txt"]
    _run(base.root, command, given, new, "The packages could not be installed")
    report(Progress("compile"))
    command = [BARE, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    # Its status tells of files that are no Python on purpose.
    with contextlib.suppress(EngineError):
        _run(base.root, [*command, "-s", "/tmp/new", "-p", "/opt/venv", "/tmp/new"], given, new, "")
    return new


def _run(root: Path, command: list[str], given: Mapping[str, Path], new: Path, failed: str) -> None:
    """Run a step with the limits of a session, as far as this host holds them."""
    variables = {"PYTHONNODEBUGRANGES": "1"}
    line = sealed(root, command, writable={"/tmp/new": new}, readable=given, variables=variables)
    group = control_groups.create(f"kernel-sandbox-build-{secrets.token_hex(4)}", LIMITS)
    try:
        run([*group.entering, *line], failed)
    finally:
        control_groups.remove(group.directories)


def assemble(base: Environment, new: Path, root: Path, report: Report) -> None:
    """Make a root of the base's files, by links to them, and move the new ones there."""
    report(Progress("assemble"))
    shutil.copytree(base.root, root, symlinks=True, copy_function=_link)
    _move(new, root / "opt/venv")


def _link(source: str, target: str) -> None:
    """Link a file where the file system has room for one more name of it, else copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _move(source: Path, target: Path) -> None:
    """Move plain files and directories; what was there of the same name was another file, of which this is no copy."""
    make_readable(source)
    for entry in sorted(source.iterdir()):
        mode = entry.lstat().st_mode
        place = target / entry.name
        if stat.S_ISDIR(mode):
            if place.exists() and not place.is_dir():
                place.unlink()
            place.mkdir(exist_ok=True)  # the links that a base has lead to directories of its own
            _move(entry, place)
        elif stat.S_ISREG(mode):
            if place.is_dir() and not place.is_symlink():
                raise EngineError(f"A package brings a file {entry.name[:100]!r} where the image has a directory.")
            entry.replace(place)
        else:
            raise EngineError(f"A package brings {entry.name[:100]!r}, which is neither a file nor a directory.")


def place_of_own(name: str, digest: str) -> Path:
    """Return where such an environment lies."""
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        raise EngineError(f"{digest!r} is no digest.")
    return shelf() / f"{name}-{digest}"


def write_facts(directory: Path, facts: Mapping[str, Any], lock: str) -> None:
    """Write what an environment tells of itself, and its lock."""
    for name, text in (("requirements.txt", lock), ("environment.json", json.dumps(dict(facts), indent=1))):
        (directory / f".{name}").write_text(text)
        (directory / f".{name}").replace(directory / name)  # others read it meanwhile
