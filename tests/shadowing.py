"""A working directory whose modules have the names of ours and of the standard library's, and tell of their import."""

from __future__ import annotations

from pathlib import Path

NAMES = (
    "argparse",
    "asyncio",
    "compileall",
    "json",
    "kernel_sandbox",
    "nbformat",
    "pip",
    "signal",
    "socket",
    "zipfile",
)


PROGRAMS = (
    *("apt-get", "bwrap", "debootstrap", "docker", "docker-credential-x", "jupyter", "ldd", "pip", "python3", "sh"),
    *("tar", "true", "unshare"),
)


def shadow_programs(directory: Path, canary: Path) -> None:
    """Put programs there that write their names into a file."""
    for name in PROGRAMS:
        (directory / name).write_text(f"#!/bin/sh\necho {name} >> {canary}\nexit 1\n")
        (directory / name).chmod(0o755)


def shadow_entry_point(directory: Path) -> Path:
    """Put metadata there that name a kernel's provisioner as ours does; return the file in which it writes its name."""
    canary = directory / "provisioned"
    (directory / "planted.py").write_text(f"open({str(canary)!r}, 'w').close()\nraise ImportError('planted')\n")
    metadata = directory / "kernel_sandbox-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: kernel-sandbox\nVersion: 9\n")
    (metadata / "entry_points.txt").write_text(
        "[jupyter_client.kernel_provisioners]\nkernel-sandbox = planted:Planted\n"
    )
    return canary


def shadow(directory: Path, canary: Path | None = None) -> Path:
    """Put the modules there, and return the file in which each writes its name."""
    canary = canary or directory / "canary"
    for name in NAMES:
        source = f"with open({str(canary)!r}, 'a') as file:\n    file.write('{name} ')\nraise ImportError('{name}')\n"
        (directory / f"{name}.py").write_text(source)
    return canary
