"""Tiny wheels and source archives for tests, made without pip and without a network."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(directory: Path, name: str, files: Mapping[str, str], version: str = "1.0", needs: str = "") -> Path:
    """Write a wheel of pure Python; `files` are its modules. pip does not insist on hashes in RECORD."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    about = f"{name}-{version}.dist-info"
    described = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{about}/RECORD"
    described[record] = "".join(f"{each},,\n" for each in [*described, record])
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in described.items():
            wheel.writestr(inside, text)
    return path


def make_source(directory: Path, name: str, backend: str, version: str = "1.0", needs: Sequence[str] = ()) -> Path:
    """Write a source archive whose build backend is a module of its own: all that it runs."""
    path = directory / f"{name}-{version}.tar.gz"
    project = f'[build-system]\nrequires = {list(needs)!r}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    described = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with tarfile.open(path, "w:gz") as tar:
        for inside, text in {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": described}.items():
            member = tarfile.TarInfo(f"{name}-{version}/{inside}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def giving(wheel: Path) -> str:
    """Write a build backend that builds a wheel which is there already."""
    return (
        "from pathlib import Path\n"
        "def build_wheel(target, config_settings=None, metadata_directory=None):\n"
        f"    Path(target, {wheel.name!r}).write_bytes({wheel.read_bytes()!r})\n"
        f"    return {wheel.name!r}\n"
    )
