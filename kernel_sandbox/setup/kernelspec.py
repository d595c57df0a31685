"""Kernelspecs that name our provisioner, written to where Jupyter looks for them.

JupyterLab, nbclient, papermill and `jupyter console` then start the kernel in a sandbox. The only module that imports
jupyter_core; starting kernels is the provisioner's work.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir, jupyter_path

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines.image_names import interrupt_mode
from kernel_sandbox.spec.languages import language_of_image
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.spelling import did_you_mean

DEFAULT_NAME = "python-sandbox"
DISPLAY_NAME = "Python (sandbox)"
PROVISIONER = "kernel-sandbox"
"""The entry point of kernel_sandbox.doors.jupyter.provisioner, in pyproject.toml."""
LOGO = Path(__file__).with_name("logo-svg.svg")
INSTALL = "kernel-sandbox kernelspec install"
UNOFFERED = "Jupyter lacks the sandboxed kernel: it would run these cells on your machine."

# jupyter_client.kernelspec._is_valid_kernel_name; a dot or a dash in front would make awkward paths.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class InstalledKernelspec:
    """A kernelspec of ours that Jupyter finds."""

    name: str
    display_name: str
    directory: Path
    config: dict[str, Any]
    """What the provisioner is given: the engine, and SandboxSpec.to_config()."""
    exposed: bool
    """Whether front ends that run its command import modules of the notebook's directory, on this machine."""


def user_directory() -> Path:
    """Return where kernelspecs of this user are (JUPYTER_DATA_DIR decides, then the platform)."""
    return Path(jupyter_data_dir()) / "kernels"


def prefix_directory(prefix: str | Path = sys.prefix) -> Path:
    """Return where kernelspecs of an installation are; without an argument, of the running environment."""
    return Path(prefix) / "share" / "jupyter" / "kernels"


def default_directory() -> Path:
    """Return where a kernelspec goes unless told: into the running environment if it is a virtual one."""
    return prefix_directory() if sys.prefix != sys.base_prefix else user_directory()


def names_for(image: str) -> tuple[str, str]:
    """Return what a kernel of an image is called unless told: its name, and what people see."""
    offered = language_of_image(image).kernelspec
    return offered["name"], offered["display_name"]


def kernelspec_document(engine: str | None, spec: SandboxSpec, display_name: str = DISPLAY_NAME) -> dict[str, Any]:
    """Write a kernelspec as JSON values.

    `argv` is what a front end that knows no provisioners runs: the same sandbox, by a process of our own. Named by this
    interpreter's path: such front ends would take the one that the user has chosen, in which we may not be. They start
    it in the notebook's directory, whose json.py is none of ours.
    """
    config = {**({"engine": engine} if engine else {}), **spec.to_config()}
    provisioner = {"provisioner_name": PROVISIONER, "config": config}
    command = [
        sys.executable,
        isolation(),
        "-m",
        "kernel_sandbox.doors.jupyter.launcher",
        "-f",
        "{connection_file}",
        "--config",
        json.dumps(config),
    ]
    return {
        "argv": command,
        "display_name": display_name,
        "language": language_of_image(spec.image).name,
        "interrupt_mode": interrupt_mode(spec.image),
        "kernel_protocol_version": "5.5",
        "metadata": {"debugger": False, "kernel_provisioner": provisioner},
    }


@functools.cache
def isolation() -> str:
    """Return what keeps the notebook's directory out of Python's search path: -I, which leaves PYTHONPATH out too.

    Where only a PYTHONPATH or the user's own packages have us, -P, which does without the directory alone.
    """
    look = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('kernel_sandbox', 'jupyter_core'))))"
    command = [sys.executable, "-I", "-c", look]
    done = subprocess.run(command, cwd="/", env=programs.environment(), capture_output=True, check=False)
    return "-P" if done.returncode else "-I"


def install(
    directory: Path,
    *,
    name: str = DEFAULT_NAME,
    display_name: str = DISPLAY_NAME,
    engine: str | None = None,
    spec: SandboxSpec | None = None,
) -> Path:
    """Write a kernelspec below `directory`, in the place of an earlier one of ours, and give its directory.

    Raises SandboxError for a bad name, one that another kernelspec has, and where it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise SandboxError(f"{name!r} cannot name a kernelspec: use letters, digits, dots, dashes and underscores.")
    target = directory / name.lower()
    if target.exists() and _read(target) is None:
        raise SandboxError(f"{target} holds another kernelspec: choose another --name.")
    document = kernelspec_document(engine, spec or SandboxSpec(), display_name)
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "kernel.json").write_text(json.dumps(document, indent=1) + "\n")
        shutil.copyfile(LOGO, target / LOGO.name)
    except OSError as exc:
        raise SandboxError(f"{target} cannot be written ({exc.strerror}): try --user or --prefix.") from exc
    return target


def installed() -> list[InstalledKernelspec]:
    """List the kernelspecs of ours that Jupyter finds; of two with the same name, the one that it takes."""
    found: dict[str, InstalledKernelspec] = {}
    for kernelspec in _everywhere():
        found.setdefault(kernelspec.name, kernelspec)
    return list(found.values())


def is_offered() -> bool:
    """Return whether the kernelspec that transcripts name is what Jupyter finds under that name, and sandboxed."""
    places = (place / DEFAULT_NAME for place in _places())
    first = next((directory for directory in places if (directory / "kernel.json").exists()), None)
    return first is not None and _read(first) is not None


def warning() -> str:
    """Return what to do before a transcript is opened in Jupyter; empty where its kernel is offered there."""
    return "" if is_offered() else f"{UNOFFERED} First: {INSTALL}"


def exposed() -> list[InstalledKernelspec]:
    """List the kernelspecs of ours whose command imports what lies beside a notebook, the hidden ones included."""
    return [kernelspec for kernelspec in _everywhere() if kernelspec.exposed]


def mend(kernelspec: InstalledKernelspec) -> None:
    """Give an exposed kernelspec's command its isolation; all else in it stays. Raises SandboxError where it cannot."""
    path = kernelspec.directory / "kernel.json"
    try:
        document = json.loads(path.read_text())
        document["argv"].insert(1, isolation())
        path.write_text(json.dumps(document, indent=1) + "\n")
    except (OSError, ValueError) as exc:
        raise SandboxError(f"{path} cannot be replaced ({getattr(exc, 'strerror', None) or exc}).") from exc


def _everywhere() -> Iterator[InstalledKernelspec]:
    """Yield every kernelspec of ours below Jupyter's directories, in the order in which it looks."""
    for place in _places():
        for directory in sorted(place.iterdir()) if place.is_dir() else ():
            kernelspec = _read(directory)
            if kernelspec is not None:
                yield kernelspec


def _places() -> Iterator[Path]:
    """Yield Jupyter's directories of kernelspecs, but those that are elsewhere in each working directory."""
    yield from (path for path in map(Path, jupyter_path("kernels")) if path.is_absolute())


def remove(name: str) -> Path:
    """Remove the kernelspec of this name that Jupyter finds first, and give its directory.

    Raises SandboxError where there is none of ours, or it cannot be removed.
    """
    kernelspec = next((known for known in installed() if known.name == name.lower()), None)
    if kernelspec is None:
        meant = did_you_mean(name, (known.name for known in installed()))
        raise SandboxError(
            f"There is no sandboxed kernelspec {name!r}.{meant} They are listed by: kernel-sandbox kernelspec list"
        )
    try:
        shutil.rmtree(kernelspec.directory)
    except OSError as exc:
        raise SandboxError(f"{kernelspec.directory} cannot be removed: {exc.strerror}.") from exc
    return kernelspec.directory


def _read(directory: Path) -> InstalledKernelspec | None:
    """Read a kernelspec; None for one that is not ours or cannot be read."""
    try:
        document = json.loads((directory / "kernel.json").read_text())
        provisioner = document["metadata"]["kernel_provisioner"]
        if provisioner["provisioner_name"] != PROVISIONER:
            return None
        display_name, config = str(document.get("display_name", "")), dict(provisioner.get("config", {}))
        exposed = _is_exposed(document.get("argv"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return InstalledKernelspec(directory.name, display_name, directory, config, exposed)


def _is_exposed(command: Any) -> bool:
    """Whether a command runs a module by a Python that looks for it in the working directory first."""
    return isinstance(command, list) and "-m" in command and not {"-P", "-I"} & {*command[: command.index("-m")]}
