"""What sandboxes need of this machine: looked at, judged, and with the step that mends it.

`kernel-sandbox doctor` shows the findings. What is the engine's own business, its `examine` says. Nothing here raises
because something is wrong.
"""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from kernel_sandbox.engines import get_engine
from kernel_sandbox.engines.base import Finding
from kernel_sandbox.engines.docker_client import connect
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.images import ImageInfo, list_images
from kernel_sandbox.kernelspec import PROVISIONER, installed
from kernel_sandbox.policy import SandboxSpec, format_size
from kernel_sandbox.reactor import portal
from kernel_sandbox.run_directory import base_directory, stale_directories

PACKAGES = ("kernel-sandbox", "jupyter_client", "jupyter_core", "pyzmq", "nbformat", "pandas", "docker")
ROOM_FOR_BUILD = 3 * 1024**3
"""Bytes that a build of the largest image takes for its downloads and its context, with something to spare."""
LEAST_ROOM = 256 * 1024**2
CERTIFICATE_SETTINGS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def examine(engine: str = "docker") -> list[Finding]:
    """Look at everything, and say what was found; the engine first. Raises EngineError for an unknown engine."""
    findings = list(portal().call(get_engine(engine).examine))
    if engine == "docker" and not any(finding.verdict == "problem" for finding in findings[:1]):
        findings += _images()
    return [*findings, *_python(), *_jupyter(), *_rooms(), *_certificates()]


def _images() -> Iterator[Finding]:
    try:
        found = list_images(connect())
    except SandboxError as exc:
        yield Finding("Images", "problem", str(exc))
        return
    for info in found:
        yield _image(info)


def _image(info: ImageInfo) -> Finding:
    subject, remedy = f"Image {info.name}", f"kernel-sandbox image build {info.name}"
    if not info.built:
        # Only the one that a session takes by default must be there.
        return Finding(subject, "problem" if info.name == SandboxSpec().image else "note", "not built", remedy)
    detail = f"{format_size(info.size or 0)}, base {info.base or 'unknown'}"
    if info.stale:
        return Finding(subject, "note", f"{detail}, older than the files that it is made from", remedy)
    return Finding(subject, "ok", detail)


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
        yield Finding("Packages", "problem", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    yield Finding("Packages", "ok", ", ".join(versions))


def _jupyter() -> Iterator[Finding]:
    names = {point.name for point in entry_points(group="jupyter_client.kernel_provisioners")}
    if PROVISIONER not in names:
        remedy = "pip install --force-reinstall --no-deps kernel-sandbox"
        yield Finding("Provisioner", "problem", "Jupyter does not find it in this environment", remedy)
    found = installed()
    if found:
        yield Finding("Kernelspecs", "ok", ", ".join(f"{known.name} ({known.directory})" for known in found))
    else:
        remedy = "kernel-sandbox kernelspec install"
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
    yield _room("Temporary files", Path(tempfile.gettempdir()), ROOM_FOR_BUILD)


def _room(subject: str, place: Path, wanted: int) -> Finding:
    free = shutil.disk_usage(place).free
    detail = f"{place}, {format_size(free)} free"
    if free < LEAST_ROOM:
        return Finding(subject, "problem", detail, f"free some room below {place}")
    if free < wanted:
        return Finding(subject, "note", f"{detail}; an image build may need {format_size(wanted)}", "set TMPDIR")
    return Finding(subject, "ok", detail)


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
    """Say why a file or directory of certificates cannot be used; nothing where it can."""
    if not place.exists():
        return "it does not exist"
    if place.is_dir():
        return ""
    try:
        ssl.create_default_context(cafile=str(place))
    except (ssl.SSLError, OSError) as exc:
        return f"it holds no certificates ({exc.strerror or exc})"
    return ""
