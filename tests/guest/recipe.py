"""The guest's disk: Debian 13 with systemd, Docker and what the checks need, made once and natively.

What is this machine's own (the package mirror, pip's settings, certificates) is read here and used while the disk is
made; nothing of it is on the disk. Booting and talking to the guest is machine.py's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLONE = "/srv/kernel-sandbox"
"""Where HEAD is in the guest."""
PREPARE = Path(__file__).with_name("inside") / "prepare.sh"
LOCKS = ("images/pip.txt", "images/python/requirements.txt", "images/datascience/requirements.txt")
PACKAGES = """linux-image-cloud-amd64 systemd-sysv libpam-systemd dbus dbus-user-session udev kmod
openssh-server ca-certificates docker.io docker-cli iptables apparmor bubblewrap debootstrap python3 python3-venv
python3-pip git iproute2 procps sudo curl strace gcc libc6-dev file less zip unzip bc xxd bsdextrautils time xz-utils
bzip2 zstd"""
SIZE = "24G"
"""Of the disk; what is not written takes no room."""
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "bwrap": "bubblewrap",
    "git": "git",
}
"""What this machine must have, and the Debian packages with it."""
ROOM = 12 * 1024**3
"""Bytes that making the disk takes for a while."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class CannotMake(Exception):
    """The guest cannot be made or started here; the message says what to do."""


def require_programs() -> None:
    """Raise CannotMake with the line that installs what is missing."""
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name, path=_PATH) is None]
    if missing:
        line = f"apt-get install --no-install-recommends {' '.join(missing)}"
        raise CannotMake(f"This machine lacks {', '.join(missing)}. Install it, as root: {line}")


def digest() -> str:
    """Return what the disk depends on, as one word: the recipe, the package's dependencies, the images' packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = {name: project[name] for name in ("dependencies", "optional-dependencies")}
    parts = [Path(__file__).read_bytes(), PREPARE.read_bytes(), json.dumps(packages).encode()]
    parts += [(ROOT / name).read_bytes() for name in LOCKS]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def is_made(directory: Path) -> bool:
    """Return whether there is a disk here that this recipe made."""
    made = directory / "recipe"
    return made.is_file() and made.read_text() == digest()


def make(directory: Path) -> None:
    """Make the disk, the kernel and the key to log in with. Raises CannotMake, or CalledProcessError."""
    require_programs()
    if os.getuid() != 0:
        raise CannotMake("The disk holds files of root's and of other users: make it as root.")
    directory.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(directory).free < ROOM:
        raise CannotMake(f"{directory} has less than {ROOM >> 30} GB free: make room, or name another with --dir.")
    tree, made_by = directory / "tree", digest()
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("recipe", "disk.img", "key", "key.pub"):
        (directory / name).unlink(missing_ok=True)
    try:
        _make_tree(tree)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key"))
        (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(directory / "key.pub", tree / "root/.ssh/authorized_keys")
        _run("git", "clone", "-q", "--no-hardlinks", str(ROOT), f"{tree}{CLONE}")
        _prepare(tree)
        for name in ("vmlinuz", "initrd"):
            shutil.copy(next((tree / "boot").glob(f"{name}*-*")), directory / name)
        _run("truncate", "-s", SIZE, str(directory / "disk.img"))
        lazy = "lazy_itable_init=1,lazy_journal_init=1"
        _run("mkfs.ext4", "-q", "-F", "-E", lazy, "-d", str(tree), str(directory / "disk.img"))
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    (directory / "recipe").write_text(made_by)


def _make_tree(tree: Path) -> None:
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES.split())}"]
    # A mirror may be older than its own Release files allow.
    options += ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false"]
    options += ["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"]
    _run("mmdebstrap", "--quiet", *options, "trixie", str(tree), _mirror())


def _mirror() -> str:
    """Return where this machine gets Debian's packages."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return next((uri for uri in told if uri.rstrip("/").endswith("/debian")), "http://deb.debian.org/debian")


def _prepare(tree: Path) -> None:
    """Run prepare.sh in the tree, with this machine's network, certificates and pip settings."""
    line = ["bwrap", "--bind", str(tree), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    line += ["--cap-add", "ALL", "--die-with-parent", "--unshare-pid", "--chdir", "/"]
    line += ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf", "--ro-bind", "/etc/ssl/certs", "/etc/ssl/certs"]
    line += ["--ro-bind", str(PREPARE), "/run/prepare.sh"]
    settings = (
        "/etc/pip.conf",
        str(Path("~/.config/pip/pip.conf").expanduser()),
        os.environ.get("PIP_CONFIG_FILE", ""),
    )
    if used := [place for place in settings if Path(place).is_file()]:
        line += ["--ro-bind", used[-1], "/run/pip.conf", "--setenv", "PIP_CONFIG_FILE", "/run/pip.conf"]
    left_out = ("KERNEL_SANDBOX", "PYTHON", "PIP_FIND_LINKS")  # directories of this machine, and what is its own
    ours = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    ours |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    _run(*line, "--", "/bin/sh", "/run/prepare.sh", environment=ours)


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment or {**os.environ, "PATH": _PATH})
