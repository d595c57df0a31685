"""Builds a source archive to a wheel, in a session without a network: all of its code is the archive's own.

`python3 source_builder.py ARCHIVE PIP_WHEEL WHEELS TARGET`: a line of JSON on standard output.

    {"needs": [...]}    what it needs to be built, which is not among WHEELS
    {"wheel": NAME}     the wheel, in TARGET

The build system is the archive's (PEP 517): its static requirements first, then what its backend asks for.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

DEFAULT = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}


def unpack(archive: str, target: Path) -> Path:
    """Unpack, and return the project's directory."""
    if archive.endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(target)
    else:
        with tarfile.open(archive) as tar:
            # Debian's Python 3.11.2 has no filters; either way it can reach no more than its code can, which runs next.
            options: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(target, **options)
    (project,) = [path for path in target.iterdir() if path.is_dir()]
    return project


def build_system(project: Path) -> dict[str, Any]:
    described = project / "pyproject.toml"
    told = tomllib.loads(described.read_text()).get("build-system", {}) if described.exists() else {}
    return DEFAULT | told


def install(pip: str, wheels: str, needed: list[str], place: Path) -> bool:
    """Install what is needed from the wheels at hand; False where something is missing."""
    command = [sys.executable, "-I", f"{pip}/pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    command += [f"--find-links={wheels}", f"--target={place}", "--only-binary=:all:", "--upgrade", *needed]
    return not needed or subprocess.run(command, capture_output=True, check=False).returncode == 0


def main(archive: str, pip: str, wheels: str, target: str) -> dict[str, Any]:
    scratch = Path(target).parent
    project = unpack(archive, scratch / "unpacked")
    system = build_system(project)
    place = scratch / "needed"
    if not install(pip, wheels, system["requires"], place):
        return {"needs": system["requires"]}
    os.chdir(project)
    backends = [str(project / each) for each in system.get("backend-path", ())]
    sys.path[:0] = [*backends, str(place)]
    os.environ["PYTHONPATH"] = str(place)
    name, _, attribute = system.get("build-backend", DEFAULT["build-backend"]).partition(":")
    backend: Any = importlib.import_module(name)
    for part in filter(None, attribute.split(".")):
        backend = getattr(backend, part)
    more: list[str] = getattr(backend, "get_requires_for_build_wheel", list)()
    if not install(pip, wheels, more, place):
        return {"needs": [*system["requires"], *more]}
    importlib.invalidate_caches()
    return {"wheel": backend.build_wheel(target)}


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(main(*sys.argv[1:5])), file=answer, flush=True)
