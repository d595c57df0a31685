"""What the bubblewrap engine needs of this machine: what is wrong with it, and the command that mends it."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines import control_groups, scopes
from kernel_sandbox.sandbox.engines.base import Finding
from kernel_sandbox.spec.values import Limits

INSTALLERS = {
    "apt-get": ["apt-get", "install", "-y", "bubblewrap"],
    "dnf": ["dnf", "install", "-y", "bubblewrap"],
    "apk": ["apk", "add", "bubblewrap"],
    "pacman": ["pacman", "-S", "--noconfirm", "bubblewrap"],
    "zypper": ["zypper", "--non-interactive", "install", "bubblewrap"],
}
SWITCHES = {
    "kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    "user/max_user_namespaces": ("0", "user.max_user_namespaces=10000"),
}
"""Settings below /proc/sys that forbid user namespaces: the value that does, and what to set instead."""
LINGERING = Path("/var/lib/systemd/linger")
"""Has a file for each user whose systemd runs without a login (loginctl(1))."""
NO_NAMESPACE = re.compile(r"namespace|uid map|gid map|Operation not permitted|setuid", re.IGNORECASE)


def install_command() -> list[str]:
    """Return the command, for root, that installs bubblewrap with this system's package manager; perhaps empty."""
    return next((command for name, command in INSTALLERS.items() if programs.find(name)), [])


def install_remedy() -> str:
    command = " ".join(install_command())
    if not command:
        return "install the package bubblewrap with the system's package manager"
    return command if os.getuid() == 0 else f"sudo {command}"


def namespace_remedy() -> str:
    """Return the command, or the words, that allow user namespaces here."""
    for name, (forbidding, setting) in SWITCHES.items():
        path = Path("/proc/sys", name)
        if path.exists() and path.read_text().strip() == forbidding:
            return f"{'' if os.getuid() == 0 else 'sudo '}sysctl -w {setting}"
    return (
        "let this container make namespaces (docker run --security-opt seccomp=unconfined --security-opt "
        "apparmor=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN), or use Docker: --engine docker"
    )


def start_failure(said: str) -> str:
    """Return why bubblewrap did not start a sandbox, and what to do; `said` is its standard error."""
    if sys.platform != "linux":
        return "bubblewrap is for Linux only: use Docker (--engine docker)."
    if programs.find("bwrap") is None:
        return f"bubblewrap is not installed. Install it: {install_remedy()}"
    last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
    if NO_NAMESPACE.search(said):
        return f"bubblewrap may not make a sandbox here ({last}). To allow it: {namespace_remedy()}"
    return f"bubblewrap did not start a sandbox: {last}. See what is wrong: kernel-sandbox doctor --engine bubblewrap"


def examine_host() -> list[Finding]:
    """Look at all of it. Never raises."""
    if sys.platform != "linux" or programs.find("bwrap") is None:
        return [Finding("bubblewrap", "problem", start_failure("").partition(".")[0], install_remedy())]
    return [*_program(), *_overlays(), *_control_groups(), *_kernel()]


def _program() -> Iterator[Finding]:
    version = _run(["bwrap", "--version"]).stdout.strip()
    yield Finding("bubblewrap", "ok", f"{version.removeprefix('bubblewrap ')} at {programs.find('bwrap')}")
    done = _try("true")
    if done.returncode:
        yield Finding("Namespaces", "problem", done.stderr.strip()[-300:], namespace_remedy())
    else:
        how = "made by root" if os.getuid() == 0 else "in a user namespace"
        yield Finding("Namespaces", "ok", f"mount, pid, net, ipc, uts, {how}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env=programs.environment())


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in namespaces such as a sandbox begins with."""
    trial = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--cap-add", "ALL"]
    trial += ["--unshare-user", "--uid", "0", "--gid", "0"] if os.getuid() != 0 else []
    trial += ["--ro-bind", "/", "/", "--proc", "/proc", "--", *command]
    return _run(trial)


def _overlays() -> Iterator[Finding]:
    made = _try("mount", "-t", "overlay", "-o", "lowerdir=/usr:/etc", "overlay", "/proc").returncode == 0
    if made:
        yield Finding("Overlays", "ok", "no sandbox learns which files another opens")
    else:
        detail = "none in a sandbox: one can tell which modules another imports, and a session lists that as weakened"
        yield Finding("Overlays", "note", detail, "use a kernel with overlayfs: 5.11 or newer where you are not root")


def _control_groups() -> Iterator[Finding]:
    group = control_groups.create(f"kernel-sandbox-doctor-{secrets.token_hex(4)}", Limits())
    control_groups.remove(group.directories)
    version = 2 if group.unified else 1
    manager = scopes.manager() if group.unified else None
    missing = [name for name in control_groups.CONTROLLERS if name not in group.held]
    if missing:
        instead = "limits per process hold instead, and a session lists what is weakened"
        detail = f"version {version}: {', '.join(missing)} cannot be limited; {instead}"
        yield Finding("Control groups", "note", detail, _group_remedy(group.unified, manager))
        return
    yield Finding("Control groups", "ok", f"version {version}: memory, cpu and process limits hold")
    if manager is not None and os.getuid() != 0 and not _lingers():
        detail = "the user's systemd ends sandboxes when you have logged out everywhere, those of nohup and tmux too"
        yield Finding("Control groups", "note", detail, "where they should go on: loginctl enable-linger")


def _lingers() -> bool:
    """Whether this user's systemd runs on without a login; True where the user has no name to look for."""
    try:
        return Path(LINGERING, getpass.getuser()).exists()
    except (KeyError, OSError):
        return True


def _group_remedy(unified: bool, manager: scopes.Manager | None) -> str:
    """Return what gives sandboxes the limits that they lack."""
    if os.getuid() == 0:
        return "make /sys/fs/cgroup writable (in a container: run it with --privileged), or use Docker"
    if not scopes.RUNNING.is_dir():
        return "run as root"
    if not unified:
        return "boot with control groups version 2 (systemd.unified_cgroup_hierarchy=1), or run as root"
    if manager is None:
        return "sudo loginctl enable-linger $USER, so that the user's systemd runs"
    return "let systemd hand them down: Delegate=cpu memory pids in /etc/systemd/system/user@.service.d/delegate.conf"


def _kernel() -> Iterator[Finding]:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    if actions.exists():
        yield Finding("Seccomp", "ok", "this kernel filters system calls")
    else:
        yield Finding(
            "Seccomp", "problem", "this kernel cannot filter system calls", "use a kernel with CONFIG_SECCOMP"
        )
    modules = Path("/sys/kernel/security/lsm")
    active = modules.read_text().strip() if modules.exists() else ""
    if "apparmor" in active or "selinux" in active:
        yield Finding("LSM", "ok", active)
    else:
        yield Finding("LSM", "note", "no AppArmor or SELinux on this host: one layer less")
