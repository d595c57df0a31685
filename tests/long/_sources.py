"""The suites' source distributions: fetched by pip, checked against their pins, unpacked."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
PINS = HERE / "suites.txt"
NEEDS = HERE / "suites-need.txt"


def pins() -> dict[str, str]:
    """Return the pinned version of each distribution."""
    lines = [line.split()[0] for line in PINS.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def fetch(cache: Path) -> dict[str, Path]:
    """Fetch what is not there yet, and return each distribution's directory. Raises CalledProcessError."""
    archives, sources = cache / "archives", cache / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    found = {name: sources / f"{name}-{version}" for name, version in pins().items()}
    if not all(source.is_dir() for source in found.values()):
        # pip builds no wheel, but wants to know the metadata. It checks the hashes of what is there already, too.
        pip("download", "--no-deps", "--no-binary", ",".join(found), "-r", str(PINS), "-d", str(archives))
        for source in found.values():
            with tarfile.open(archives / f"{source.name}.tar.gz") as archive:
                archive.extractall(sources, filter="data")
    return found


def install_needs(cache: Path) -> Path:
    """Install what the suites import beside this environment, and return the directory. Raises CalledProcessError."""
    target = cache / "needs"
    if not target.is_dir():
        pip("install", "--no-deps", "--target", str(target), "-r", str(NEEDS))
    return target


def pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "-q", *arguments], check=True)
