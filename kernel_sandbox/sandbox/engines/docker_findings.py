"""What a Docker engine says of itself, and whether that is what a sandbox needs. Pure; engines/docker.py asks."""

from __future__ import annotations

from typing import Any

from kernel_sandbox.sandbox.engines.base import Finding
from kernel_sandbox.text.amounts import format_size


def findings(facts: dict[str, Any]) -> list[Finding]:
    """Judge what `docker info` says of an engine, for `kernel-sandbox doctor`."""
    security = ", ".join(facts.get("SecurityOptions") or []) or "none"
    cgroup = facts.get("CgroupVersion", "1")
    memory = facts.get("MemoryLimit", False)
    found = [
        Finding("Docker engine", "ok", f"{facts.get('ServerVersion')} on {facts.get('OperatingSystem')}"),
        Finding("Runtimes", "ok", f"{', '.join(facts.get('Runtimes') or {})} (default {facts.get('DefaultRuntime')})"),
        Finding("Machine", "ok", f"{facts.get('NCPU')} processors, {format_size(facts.get('MemTotal') or 0)} memory"),
    ]
    if memory and facts.get("PidsLimit", False):
        found.append(Finding("Control groups", "ok", f"version {cgroup}: memory, cpu and process limits hold"))
    else:
        remedy = "enable the memory and pids controllers (kernel command line: cgroup_enable=memory)"
        found.append(Finding("Control groups", "problem", f"version {cgroup}: limits do not hold", remedy))
    if "seccomp" in security:
        found.append(Finding("Security options", "ok", security))
    else:
        remedy = "use an engine that was built with seccomp"
        found.append(Finding("Security options", "problem", f"{security}: no seccomp filter", remedy))
    if "apparmor" not in security and "selinux" not in security:
        found.append(Finding("LSM", "note", "no AppArmor or SELinux on this host: one layer less"))
    return found
