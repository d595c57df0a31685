"""What there is of a session on this machine, seen from outside: containers, processes, control groups, directories."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import docker.errors

from kernel_sandbox.host.reactor import portal
from kernel_sandbox.host.run_directory import remove_stale_directories
from kernel_sandbox.sandbox.engines import get_engine, registry
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import shelf
from kernel_sandbox.sandbox.engines.docker import LABEL
from kernel_sandbox.sandbox.engines.docker_client import connect

CGROUPS = Path("/sys/fs/cgroup")
POLL = 0.005


def seconds_until_none(look: Callable[[], list[str]], limit: float) -> float:
    """Look until nothing is found any more, and return how long that took. Fails after `limit` seconds."""
    started = time.monotonic()
    while found := look():
        assert time.monotonic() - started < limit, f"still there after {limit:g} s: {found}"
        time.sleep(POLL)
    return time.monotonic() - started


def containers(session_id: str) -> list[str]:
    """The ids of a session's containers, in whatever state."""
    filters = {"label": f"{LABEL}.session={session_id}"}
    return [found["Id"] for found in connect().api.containers(all=True, filters=filters)]


def containers_of(sessions: set[str]) -> list[str]:
    """The ids of the containers of any of these sessions."""
    found = connect().api.containers(all=True, filters={"label": f"{LABEL}.session"})
    return [one["Id"] for one in found if one["Labels"][f"{LABEL}.session"] in sessions]


def containers_made(session_id: str, since: float) -> list[str]:
    """The ids of all containers that a session ever had, as the engine remembers it."""
    filters = {"label": f"{LABEL}.session={session_id}", "event": "create", "type": "container"}
    api: Any = connect().api
    events = api.events(since=f"{since:.6f}", until=f"{time.time():.6f}", filters=filters, decode=True)
    return [event["id"] for event in events]


def processes(words: Iterable[str]) -> list[int]:
    """The processes that have one of these words in their command line or in the path of a control group."""
    wanted = [word.encode() for word in words]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                told = (entry / "cmdline").read_bytes() + (entry / "cgroup").read_bytes()
                found += [int(entry.name)] if any(word in told for word in wanted) else []
    return found


def control_groups(words: Iterable[str]) -> list[Path]:
    """The control groups that have one of these words in their name."""
    wanted = tuple(words)
    return [path for path in all_control_groups() if any(word in path.name for word in wanted)]


def all_control_groups() -> Iterator[Path]:
    for root, directories, _ in os.walk(CGROUPS):
        yield from (Path(root, name) for name in directories)


def alive(engine: str, session_id: str) -> list[str]:
    """What of a session's sandbox has a life of its own: none of it may outlive the host process.

    A container that was never started, and a control group without a process, are for the next process to remove.
    """
    there = [f"process {pid}" for pid in processes([session_id])]
    if engine == "docker":
        filters = {"label": f"{LABEL}.session={session_id}"}
        found = connect().api.containers(all=True, filters=filters)
        there += [f"container {one['Id'][:12]} is {one['State']}" for one in found if one["State"] != "created"]
    return there


def traces(session_id: str, words: Iterable[str] = ()) -> list[str]:
    """All that there is of a session outside its run directory; `words` are the ids of its containers."""
    found = [f"process {pid}" for pid in processes([session_id, *words])]
    found += [f"control group {path}" for path in control_groups([session_id, *words])]
    return found + [f"container {identifier[:12]}" for identifier in containers(session_id)]


def left_at(place: Path) -> list[str]:
    """What is in a place for run directories once this process has no templates: they outlive their sessions."""
    shelf().end_all()
    return [str(path) for path in place.glob("kernel-sandbox/*/*")]


def collect(engine: str) -> None:
    """Do what every process does beside its first sandbox: remove what dead owners left."""
    remove_stale_directories()
    portal().call(get_engine(engine).collect_garbage)


def first_process(engine: str, session_id: str) -> int:
    """PID 1 of a session's sandbox, as this machine counts."""
    if engine == "docker":
        (identifier,) = containers(session_id)
        return int(connect().api.inspect_container(identifier)["State"]["Pid"])
    return int(bubblewrap_record(session_id)["first_pid"])


def bubblewrap_record(session_id: str) -> dict[str, Any]:
    (record,) = (record for record in registry.records() if record["session"] == session_id)
    return record


def process_inside(engine: str, session_id: str, inner: int) -> int:
    """The id on this machine of a process that has the id `inner` in the sandbox (proc(5), NSpid)."""
    namespace = Path(f"/proc/{first_process(engine, session_id)}/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                ids = (entry / "status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
                if ids[-1:] == [str(inner)] and (entry / "ns/pid").readlink() == namespace:
                    return int(entry.name)
    raise LookupError(f"no process {inner} in the sandbox")


def all_inside(engine: str, session_id: str) -> list[int]:
    """All processes of a sandbox, PID 1 first."""
    first = first_process(engine, session_id)
    namespace = Path(f"/proc/{first}/ns/pid").readlink()
    found = [first]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(first):
            with contextlib.suppress(OSError):
                found += [int(entry.name)] if (entry / "ns/pid").readlink() == namespace else []
    return found


def own_descriptors() -> int:
    """How many descriptors this process holds, less what only garbage keeps open and the engine client's pool."""
    gc.collect()
    return sum(not _leads_to_an_engine(int(name)) for name in os.listdir("/proc/self/fd"))


def _leads_to_an_engine(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                return str(connection.getpeername()).endswith("docker.sock")
    return False


def orphaned_mounts() -> list[str]:
    """Root file systems of containers of this machine's engine that are no longer there.

    What it mounts below /run/docker/netns is no measure: the engine itself removes that once a minute.
    """
    api: Any = connect().api
    known = set()
    for one in api.containers(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            known.add((api.inspect_container(one["Id"])["GraphDriver"]["Data"] or {}).get("MergedDir"))
    root = api.info()["DockerRootDir"]
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{root}/overlay2/") and point not in known]
