"""What this machine itself gives to sandboxes, whichever engine starts them: for doctor.py.

Python and its packages, Jupyter's side, room on the disk, the clock, settings for certificates.
"""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host import programs
from kernel_sandbox.host.run_directory import base_directory, stale_directories
from kernel_sandbox.sandbox.engines.base import Finding
from kernel_sandbox.setup.capacity import shortages
from kernel_sandbox.setup.kernelspec import PROVISIONER, exposed, installed
from kernel_sandbox.spec.pool import PoolSettings
from kernel_sandbox.spec.values import Limits
from kernel_sandbox.text.amounts import format_size

PACKAGES = ("kernel-sandbox", "jupyter_client", "jupyter_core", "nbformat", "pandas", "docker")
REINSTALL = "install kernel-sandbox again from where you have it: pip install --force-reinstall --no-deps DIRECTORY"
"""Not by its name, which on an index may be somebody else's."""
ROOM_FOR_BUILD = 3 * 1024**3
"""Bytes that a build of the largest image takes for its downloads and its context, with something to spare."""
LEAST_ROOM = 256 * 1024**2
CLOCK_TOLERANCE = 60.0
"""Seconds by which two clocks, or a clock and a file, may disagree."""
CERTIFICATE_SETTINGS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def examine_host() -> Iterator[Finding]:
    """Look at all of it. Never raises."""
    yield from _python()
    yield from _search_paths()
    yield from _jupyter()
    yield from _rooms()
    yield from _pool()
    yield _clock()
    yield from _certificates()


def _python() -> Iterator[Finding]:
    detail = f"{platform.python_version()} in {sys.prefix}, on {platform.system()} {platform.machine()}"
    yield Finding("Python", "ok", detail)
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        others = [name for name in missing if name != PACKAGES[0]]
        remedy = f"pip install {' '.join(others)}" if others else REINSTALL
        yield Finding("Packages", "problem", f"missing: {', '.join(missing)}", remedy)
    yield Finding("Packages", "ok", ", ".join(versions))


def _search_paths() -> Iterator[Finding]:
    if names := programs.relative_entries():
        detail = (
            f"{', '.join(names)} mean the working directory too. Sandboxes do without; other programs run and read "
        )
        detail += "what somebody has put there"
        yield Finding("Search paths", "note", detail, "take the empty and the relative entries out")


def _jupyter() -> Iterator[Finding]:
    names = {point.name for point in entry_points(group="jupyter_client.kernel_provisioners")}
    if PROVISIONER not in names:
        yield Finding("Provisioner", "problem", "Jupyter does not find it in this environment", REINSTALL)
    remedy = "kernel-sandbox kernelspec install"
    for known in exposed():
        detail = f"{known.directory}: its command imports modules that lie beside a notebook, on this machine"
        yield Finding(f"Kernelspec {known.name}", "problem", detail, remedy)
    found = installed()
    if found:
        yield Finding("Kernelspecs", "ok", ", ".join(f"{known.name} ({known.directory})" for known in found))
    else:
        yield Finding("Kernelspecs", "note", "none: Jupyter does not offer the sandboxed kernel", remedy)


def _rooms() -> Iterator[Finding]:
    try:
        base = base_directory()
        stale = sum(1 for _ in stale_directories())
    except SandboxError as exc:
        yield Finding("Run directory", "problem", str(exc))
    else:
        yield _room("Run directory", base, LEAST_ROOM)
        if stale:
            yield Finding("Run directory", "note", f"{stale} of dead owners", "kernel-sandbox gc")
    try:
        yield _room("Temporary files", Path(tempfile.gettempdir()), ROOM_FOR_BUILD)
    except OSError as exc:
        yield Finding("Temporary files", "problem", str(exc), "free some room in /tmp, or set TMPDIR")


def _room(subject: str, place: Path, wanted: int) -> Finding:
    free = shutil.disk_usage(place).free
    detail = f"{place}, {format_size(free)} free"
    if free < LEAST_ROOM:
        return Finding(subject, "problem", detail, f"free some room below {place}")
    if free < wanted:
        return Finding(subject, "note", f"{detail}; an image build may need {format_size(wanted)}", "set TMPDIR")
    return Finding(subject, "ok", detail)


def _pool() -> Iterator[Finding]:
    """Compare what a pool of the default size may take with what there is."""
    sessions = PoolSettings().sessions
    short = list(shortages(sessions, Limits()))
    for line in short:
        yield Finding("A pool", "note", line)
    if not short:
        yield Finding("A pool", "ok", f"{sessions} sessions find what their limits let them take")


def _clock() -> Finding:
    """Judge the clock by files: a wrong one makes every certificate look expired, or not yet valid."""
    now = time.time()
    newest = max(path.stat().st_mtime for path in Path(__file__).parents[1].rglob("*.py"))
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    if newest > now + CLOCK_TOLERANCE:
        detail = f"{shown}, which is before this package was installed: downloads will fail on their certificates"
        return Finding("Clock", "problem", detail, "set the clock: timedatectl set-ntp true, or date -s")
    return Finding("Clock", "ok", shown)


def _certificates() -> Iterator[Finding]:
    """Look at the settings by which downloads (pip's, for a build) find the certificates that they trust."""
    given = {name: os.environ[name] for name in CERTIFICATE_SETTINGS if os.environ.get(name)}
    wrong = {name: reason for name, place in given.items() if (reason := _unusable(Path(place)))}
    for name, reason in wrong.items():
        yield Finding("Certificates", "problem", f"{name}={given[name]}: {reason}", f"unset {name}, or correct it")
    good = [f"{name}={place}" for name, place in given.items() if name not in wrong]
    if good or not wrong:
        yield Finding("Certificates", "ok", ", ".join(good) or "the system's")


def _unusable(place: Path) -> str:
    """Return why a file or directory of certificates cannot be used; an empty text where it can."""
    if not place.exists():
        return "it does not exist"
    if place.is_dir():
        return ""
    try:
        ssl.create_default_context(cafile=str(place))
    except (ssl.SSLError, OSError) as exc:
        return f"it holds no certificates ({exc.strerror or exc})"
    return ""
