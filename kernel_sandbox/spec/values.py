"""What a sandbox may do and use: frozen values, and the one place where defaults live.

Engines, the session and every door read these; nothing here does I/O. A spec crosses into a kernelspec as
plain JSON (`SandboxSpec.to_config`, `from_config`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.spec.forms import require_items, require_policy
from kernel_sandbox.text.amounts import format_size

DATA_DIRECTORY = "/mnt/data"
"""Where a session's files live inside the sandbox, and the kernel's working directory."""
INPUT_DIRECTORY = "/mnt/input"
"""Below it, `Mount`s appear, read-only."""
HOME_DIRECTORY = "/home/sandbox"
PYTHON_KERNEL = "python3"
"""What images call the kernelspec of their ipykernel."""

SMALLEST_MEMORY = 128 * 1024**2
"""A kernel and PID 1 take half of this before the first cell."""
PLACES = {DATA_DIRECTORY: "data_size", "/tmp": "tmp_size", HOME_DIRECTORY: "home_size", "/dev/shm": "shm_size"}
"""The writable places of a sandbox, and the limit of each."""
SHARES = {"data_size": 4, "tmp_size": 8, "home_size": 32, "shm_size": 32}
"""What part of the memory each file system gets: together less than half, so that a kernel has room beside them."""
SOCKETS_SHARE = 32
"""What part of the memory the buffers of TCP sockets may take, where the host's kernel counts them apart."""
TERMINALS = 64
"""Pseudo-terminals of one sandbox: each shell command of a cell takes one while it runs."""
_COUNTS = ("pids", "inodes", "open_files", "table_rows")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_size(value: int | str) -> int:
    """Read a size in bytes from a number or a text such as "512m" or "1.5g" (binary units).

    Raises PolicyError for anything else, and for sizes that are not positive.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(value).lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size <= 0 or isinstance(value, bool):
        raise PolicyError(f"{value!r} is not a size: give bytes as a number, or text such as '512m' or '2g'.")
    return size


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may use. Sizes are bytes, or text such as "512m" and "2g"; times are seconds.

    Raises PolicyError for a value that is out of bounds, or for tmpfs sizes whose sum is not below `memory`.
    """

    memory: int | str = "2g"
    """Memory of the whole sandbox, swap included (there is none on top). Files in tmpfs count as memory."""
    cpus: float = 2.0
    """Processors' worth of time; held to what the engine's machine has."""
    pids: int = 128
    """Processes and threads together; a kernel with numpy takes about 15."""
    data_size: int | str | None = None
    """Room under /mnt/data; a quarter of `memory` where not given."""
    tmp_size: int | str | None = None
    """Room under /tmp; an eighth of `memory` where not given."""
    home_size: int | str | None = None
    """Room in the home directory, which every restart empties; 1/32 of `memory` where not given."""
    shm_size: int | str | None = None
    """Room under /dev/shm (multiprocessing and joblib use it); 1/32 of `memory` where not given."""
    inodes: int = 65_536
    """Files in each of those four places."""
    open_files: int = 1024
    """Descriptors of one process; times `pids`, what a sandbox may hold of the machine's."""
    start_timeout: float = 60.0
    """From the start of a sandbox, or of a kernel in it, to the first answer."""
    cell_timeout: float | None = 600.0
    """How long a cell may run before it is interrupted; None lets it run for ever."""
    interrupt_grace: float = 3.0
    """How long an interrupted cell may take to end, before the next step (SIGINT, then a restart)."""
    output_bytes: int | str = "16m"
    """What one cell may show: text, and images as they are encoded."""
    session_output_bytes: int | str = "256m"
    """What all cells of a session may show together; all of it is held in the host's memory."""
    on_output_limit: Literal["truncate", "interrupt"] = "truncate"
    """Past a cap: cut the rest and let the code run on, or interrupt the cell."""
    table_rows: int = 200
    """How many rows of a DataFrame travel as data beside its text and HTML; `session.get` brings all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", _read_size("memory", self.memory))
        if self.memory_bytes < SMALLEST_MEMORY:
            raise PolicyError(f"Limits(memory={self.memory}) (bytes): give at least {format_size(SMALLEST_MEMORY)}.")
        for name in (f.name for f in dataclasses.fields(self) if f.name != "memory"):
            value = getattr(self, name)
            if value is None and name in SHARES:
                value = self.memory_bytes // SHARES[name]
            if name.endswith(("_size", "_bytes")):
                object.__setattr__(self, name, _read_size(name, value))
            elif name != "on_output_limit" and not (value is None and name == "cell_timeout"):
                _require_positive(name, value)
                if name in _COUNTS:
                    require_policy(f"Limits({name})", value, int, "a whole number")
        if self.on_output_limit not in ("truncate", "interrupt"):
            raise PolicyError(f"on_output_limit is 'truncate' or 'interrupt', not {self.on_output_limit!r}.")
        _require_room(self)

    @property
    def memory_bytes(self) -> int:
        return parse_size(self.memory)

    @property
    def socket_bytes(self) -> int:
        """What the buffers of TCP sockets may take on top of `memory`, where they do not count as such."""
        return self.memory_bytes // SOCKETS_SHARE

    @property
    def tmpfs_sizes(self) -> dict[str, int]:
        """The writable places of a sandbox and their sizes in bytes."""
        return {place: parse_size(getattr(self, name) or 0) for place, name in PLACES.items()}


def _read_size(name: str, value: Any) -> int:
    try:
        return parse_size(value)
    except PolicyError as exc:
        raise PolicyError(f"Limits({name}={value!r:.100}): {exc}") from None


def _require_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise PolicyError(f"Limits({name}={value!r}): give a positive number.")


def _require_room(limits: Limits) -> None:
    """tmpfs pages count as memory: full file systems must not be able to kill the kernel."""
    total = sum(limits.tmpfs_sizes.values())
    if total >= limits.memory_bytes:
        raise PolicyError(
            f"The file systems together ({format_size(total)}) leave no memory for the kernel "
            f"(memory is {format_size(limits.memory_bytes)}): raise memory, or lower data_size or tmp_size."
        )


@dataclass(frozen=True, slots=True)
class Mount:
    """A host directory or file that appears read-only under /mnt/input.

    Raises PolicyError where the source is missing or the name is not a plain file name.
    """

    source: str | Path
    """The path on the host (on the engine's machine, where that is another one)."""
    name: str = ""
    """Its name under /mnt/input; the source's own name by default."""

    def __post_init__(self) -> None:
        require_policy("Mount(source)", self.source, (str, Path), "a path on the host, such as '/data'")
        require_policy("Mount(name)", self.name, str, "a plain name as text")
        source = Path(self.source).expanduser().absolute()
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "name", self.name or source.name)
        if not re.fullmatch(r"[\w][\w.-]{0,99}", self.name):
            raise PolicyError(f"{self.name!r} cannot be a name under {INPUT_DIRECTORY}: letters, digits, . _ - only.")
        if any(character in str(source) for character in ":\n\0"):
            raise PolicyError(f"{str(source)!r} cannot be mounted: its path holds a colon or a control character.")

    @property
    def target(self) -> str:
        return f"{INPUT_DIRECTORY}/{self.name}"


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Everything that an engine needs to know to start one sandbox."""

    image: str = "datascience"
    """A folder of images/ ("python", "datascience", "full"), or any image the engine has."""
    limits: Limits = field(default_factory=Limits)
    mounts: tuple[Mount, ...] = ()
    network: Literal["none"] = "none"
    """No network but the sandbox's own loopback. There is no other value yet."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables set in the kernel; nothing of the host's environment goes in by itself."""
    workdir: str = DATA_DIRECTORY
    """The kernel's working directory."""
    runtime: str | None = None
    """The OCI runtime: None is the engine's default; "runsc" is gVisor, "kata" Kata Containers."""
    transport: Literal["ipc", "forward"] | None = None
    """How the channels reach inside; None lets the engine's abilities decide."""
    listen: Literal["ipc", "tcp"] = "ipc"
    """What the host's connection file names: unix sockets in a private directory, or ports on 127.0.0.1."""
    strict: bool | None = None
    """What a look from inside at the start refuses (sandbox/promises.py). None: a sandbox with a broken wall (a
    capability, a network, no system call filter); limits that this host cannot hold are listed as weakened. True: those
    too. False: nothing, and all is listed."""
    kernel: str | None = None
    """The kernelspec to start inside the image; None is the one that the image is for: Python's, or the only one."""
    preload: tuple[str, ...] | None = None
    """None: cells load what they import, and the image's libraries are loaded ahead once the kernel was restarted.
    Modules, or none of them: both are loaded before the first kernel is ready, which takes seconds longer; all kernels
    share what was loaded."""

    door: Literal["python", "command line", "service"] = field(default="python", compare=False)
    """Whose words say what raises a limit: arguments, options or settings."""

    def __post_init__(self) -> None:
        _require_forms(self)
        object.__setattr__(self, "mounts", tuple(self.mounts))
        object.__setattr__(self, "env", {str(k): str(v) for k, v in dict(self.env).items()})
        if self.preload is not None:
            object.__setattr__(self, "preload", tuple(self.preload))
            _require_modules(self.preload)
        if self.network != "none":
            raise PolicyError(f"network={self.network!r}: only 'none' is supported; use files or mounts.")
        if self.transport not in (None, "ipc", "forward"):
            raise PolicyError(f"transport={self.transport!r}: 'ipc', 'forward' or None.")
        if self.listen not in ("ipc", "tcp"):
            raise PolicyError(f"listen={self.listen!r}: 'ipc' or 'tcp'.")
        if self.strict not in (None, True, False):
            raise PolicyError(f"strict={self.strict!r}: True, False or None.")
        if not self.image or self.image.startswith("-") or re.search(r"[\s\0]", self.image):
            raise PolicyError(f"{self.image!r} is not an image name.")
        if len({mount.name for mount in self.mounts}) < len(self.mounts):
            raise PolicyError("Two mounts have the same name under /mnt/input: give one of them another name.")

    def to_config(self) -> dict[str, Any]:
        """Write the spec as JSON values, for a kernelspec; only what differs from the defaults. Its door is another."""
        config: dict[str, Any] = _differences(self, SandboxSpec(), skip=("limits", "mounts", "door"))
        limits = _differences(self.limits, Limits(memory=self.limits.memory))
        if self.limits.memory != Limits().memory:
            limits = {"memory": self.limits.memory, **limits}
        mounts = [{"source": str(m.source), "name": m.name} for m in self.mounts]
        return config | ({"limits": limits} if limits else {}) | ({"mounts": mounts} if mounts else {})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SandboxSpec:
        """Read what `to_config` wrote. Raises PolicyError for unknown keys and bad values."""
        values = dict(config)
        try:
            values["limits"] = Limits(**values.get("limits", {}))
            values["mounts"] = tuple(Mount(**mount) for mount in values.get("mounts", ()))
            return cls(**values)
        except TypeError as exc:
            raise PolicyError(f"The sandbox configuration is not understood: {exc}") from exc


def _require_forms(spec: SandboxSpec) -> None:
    """Refuse values of another type than the fields': further inside they would fail without a name."""
    require_policy("limits", spec.limits, Limits, "Limits, such as Limits(memory='1g')")
    require_items("mounts", spec.mounts, Mount, "Mounts, such as [Mount('/data')]")
    require_policy("env", spec.env, Mapping, "variables by their names, such as {'A': '1'}")
    for name in ("image", "workdir", "network", "listen"):
        require_policy(name, getattr(spec, name), str, "a text")
    for name in ("runtime", "transport", "kernel"):
        require_policy(name, getattr(spec, name), (str, type(None)), "a text, or None")
    if spec.preload is not None:
        require_items("preload", spec.preload, str, "names of modules, such as ['numpy']")


def _require_modules(names: Iterable[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII):
            raise PolicyError(f"{name!r} is not the name of a module that could be loaded.")


def _differences(
    value: Limits | SandboxSpec, default: Limits | SandboxSpec, skip: tuple[str, ...] = ()
) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(value) if f.name not in skip]
    return {name: getattr(value, name) for name in names if getattr(value, name) != getattr(default, name)}
