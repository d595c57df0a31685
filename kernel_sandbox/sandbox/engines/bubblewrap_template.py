"""A template of the bubblewrap engine, from the host: started behind its walls, and asked for sandboxes.

inside/keeper.py makes the walls, inside/template.py imports and forks, inside/offspring.py is what it forks. What
a template and its offspring say is hostile: it is bounded, waited for in a thread and not for long, and believed of
nothing that the kernel can tell: whose process it is, whose child, and what memory and descriptors it holds.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import json
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from kernel_sandbox.host.forks import making, own
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import bubblewrap_profile, control_groups, registry
from kernel_sandbox.sandbox.engines.base import SOCKETS_INSIDE
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import (
    Due,
    Held,
    Newborn,
    Origin,
    TemplateFailed,
    hear,
    identity,
    parse,
    sockets_of,
)
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.sandbox.engines.environments import Environment
from kernel_sandbox.sandbox.engines.masked_paths import PROC_DIRECTORIES, PROC_FILES
from kernel_sandbox.sandbox.engines.seccomp import template_program
from kernel_sandbox.spec.values import Limits

SLOTS = 16
"""Sandboxes that may be there at a time."""
SERVES = 64
"""Sandboxes that a template is good for: all of them have its address layout."""
LIMITS = Limits(memory="2g", pids=64)
"""Of what a template imports; what a sandbox touches first is charged to the sandbox."""
RAISED_WITHIN = 60.0
"""Seconds in which an image's modules are imported beside whatever else the machine does."""
PATIENCE = 2.0
"""Seconds in which a sandbox is there; then bubblewrap starts one."""
LINE = 8192
KEEPER = ("command_line", "confinement", "keeper")
"""The keeper's sources."""
PYTHON = "/opt/venv/bin/python3"
"""Of the image."""
WORDS_KEPT, MOST_WORDS = 4096, 64
"""Bytes that are kept, and how often more is read of a template that never stops."""
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd"} | {
    name: f"/proc/self/fd/{number}" for number, name in enumerate(("stdin", "stdout", "stderr"))
}


class Template:
    """One process behind its walls: `rise` starts it, `end` ends it, also while it rises."""

    def __init__(self, environment: Environment, boot: bytes) -> None:
        self.nested = os.getuid() != 0
        self.user, self._owner = _users()
        self._environment, self._boot = environment, boot
        self.served, self._turn = 0, threading.Lock()
        self.name = f"kernel-sandbox-template-{secrets.token_hex(8)}"
        self.group = ControlGroup()
        self.keeper = self.process = 0
        self._ends: tuple[socket.socket, ...] = ()
        self._has_ended, self._life = False, threading.Lock()

    def rise(self) -> None:
        """Start it, until it has imported all. Blocks. Raises TemplateFailed and OSError; then nothing is left."""
        with making():
            self._control, keepers = map(own, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            self._door, templates = map(own, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            self._words, said = map(own, socket.socketpair())
            boots = [tuple(map(own, socket.socketpair())) for _ in range(2)]
        given = (boots[0][1], said, keepers, templates, boots[1][1])
        try:
            try:
                self._start(*given)
            finally:
                for end in given:
                    end.close()
            self._wait_until_ready(boots[0][0], boots[1][0])
        except BaseException:
            self.end()
            for end in (self._control, self._door, self._words):
                end.close()  # which `end` knows of only once it was started
            raise
        finally:
            for ours, _ in boots:
                ours.close()

    def _start(self, *given: socket.socket) -> None:
        with self._life:
            if self._has_ended:
                raise TemplateFailed("it is not wanted any more")
            self._ends = (self._control, self._door, self._words)
            registry.add(self._record(None))  # before there is anything that a killed host would leave
            self.group = control_groups.create(self.name, LIMITS)
            _yield_to_others(self.group)
            self.keeper = _start_keeper(self.group, *given)
            registry.add(self._record(self.keeper))

    def _wait_until_ready(self, keepers: socket.socket, templates: socket.socket) -> None:
        deadline = time.monotonic() + RAISED_WITHIN
        for end in (self._control, self._door, keepers, templates):
            end.settimeout(RAISED_WITHIN)
        try:
            keepers.sendall(self._keeper_boot())
            told = _read(self._control, deadline)
            if "map" in told:
                low, high = bubblewrap_profile.USER_RANGE
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{self.keeper}/{name}").write_text(f"{low} {low} {high - low}")
                self._control.send(b"done")
                told = _read(self._control, deadline)
            self.process = int(told["template"])
            templates.sendall(self._boot)
            ready = _read(self._door, deadline)
        except (OSError, KeyError, ValueError, TemplateFailed) as exc:
            raise TemplateFailed(f"{exc} {self.said()}".strip()) from exc
        self._door.settimeout(PATIENCE)
        if ready.get("ready") is not True or ready.get("threads") != 1:
            raise TemplateFailed(f"it cannot be forked: {str(ready)[:200]}")
        self._origin = Origin(self.keeper, self.process, self._environment.root)

    def _record(self, keeper: int | None) -> dict[str, Any]:
        return {
            "id": self.name,
            "session": None,
            "image": self._environment.name,
            "environment": str(self._environment.directory),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "owner": asdict(Owner.current()),
            "process": asdict(Owner.of(keeper)) if keeper else None,
            "first_pid": keeper or 0,
            "groups": [str(path) for path in control_groups.places(self.name)],
        }

    def _keeper_boot(self) -> bytes:
        config = {
            "nested": self.nested,
            "user": self.user,
            "owner": self._owner,
            "root": str(self._environment.root),
            "slots": SERVES,
            "rlimits": bubblewrap_profile.bounds_of_template(self.group),
            "devices": bubblewrap_profile.DEVICES,
            "links": LINKS,
            "masked": [name for name in PROC_FILES if Path("/proc", name).exists()],
            "masked_directories": _masked_directories(),
            "seccomp": bubblewrap_profile.as_text(template_program()),
            "command": [PYTHON, "-c", _source("boot")],
            "env": bubblewrap_profile.ENVIRONMENT,
        }
        sources = {f"kernel_sandbox.inside.{name}": _source(name) for name in KEEPER}
        sources |= {"kernel_sandbox": "", "kernel_sandbox.inside": ""}
        boot = json.dumps({"sources": sources, "entry": "kernel_sandbox.inside.keeper", "config": config}).encode()
        return len(boot).to_bytes(4, "big") + boot

    @property
    def has_ended(self) -> bool:
        return _has_hung_up(self._control) or _has_hung_up(self._door)

    def bear(self, preparation: dict[str, Any], group: ControlGroup, streams: tuple[socket.socket, ...]) -> Newborn:
        """Have a sandbox forked; its standard streams are `streams`. Blocks. Raises TemplateFailed.

        The one that was begun ends by itself then: it waits for a word on a socket that is closed.
        """
        deadline = time.monotonic() + PATIENCE
        with self._turn:
            self.served += 1
            slot = self.served
        order, user = self._order(preparation, group, slot), preparation["user"]
        with making():
            ours, theirs = map(own, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        handles: list[int] = []
        given = [*streams, theirs]
        held = [identity(os.fstat(end.fileno())) for end in given]
        try:
            self._reserve(slot, user)
            passed = array.array("i", [end.fileno() for end in given])
            self._door.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
            theirs.close()
            monitor = hear(ours, "monitor", self.process, deadline, handles)[1]
            self._origin.check_beginning(monitor)
            for directory in group.directories:
                (directory / "cgroup.procs").write_text(str(monitor))
            ours.send(b"go")
            hear(ours, "unshared", self.process, deadline, [], is_process=monitor)
            self._origin.check_namespaces(monitor)
            self._map(monitor, user, deadline)
            ours.send(b"go")
            hear(ours, "watching", self.process, deadline, [], is_process=monitor)
            shared, first = hear(ours, "confined", monitor, deadline, handles)
            due = self._due(held, preparation, group, slot)
            self._origin.check_confined(monitor, first, due)
            for _ in (monitor, first):
                ours.send(b"go")
            shares = ["/dev"] if shared == ["/dev"] else []
            return Newborn(monitor, first, handles[0], handles[1], ours, shares, sockets_of(self.keeper, slot))
        except (OSError, KeyError, ValueError, TemplateFailed) as exc:
            ours.close()
            _dismiss(handles, group)
            raise TemplateFailed(str(exc) or type(exc).__name__) from exc
        finally:
            theirs.close()

    def _order(self, preparation: dict[str, Any], group: ControlGroup, number: int) -> dict[str, Any]:
        slot = f"/run/{number}"
        view = None
        if group.memory is not None:
            kind, place = ("cgroup2", "/sys/fs/cgroup") if group.unified else ("cgroup", "/sys/fs/cgroup/memory")
            view = [kind, place, "" if group.unified else "memory"]
        tmpfs = [(place, options) for place, options in preparation["tmpfs"] if place != SOCKETS_INSIDE]
        return preparation | {
            "tmpfs": tmpfs,
            "masked_directories": _masked_directories(),
            "memory_view": view,
            "image": "/run/image",
            "slot_devices": f"{'/run/0' if self.nested else slot}/dev",
            "slot_sockets": f"{slot}/sockets",
            "sockets": SOCKETS_INSIDE,
            "shared_devices": self.nested,
            "counts": {"max_user_namespaces": 0} | _shares(),
            "groups": not self.nested,
        }

    def _due(self, held: list[Held], preparation: dict[str, Any], group: ControlGroup, slot: int) -> Due:
        user, watched_by = (os.getuid(),) * 2 if self.nested else (preparation["user"], self.user)
        devices = 0 if self.nested else slot
        watching = {identity(Path(f"/proc/{self.keeper}/root/run/0/dev/null").stat()), held[-1]}
        return Due(set(held), watching, user, watched_by, group.directories, preparation["rlimits"], slot, devices)

    def _reserve(self, slot: int, user: int) -> None:
        """Close a slot's sockets to all but its sandbox's user: to what an image has left running in the template, too.

        Without root all have the user of whoever started them.
        """
        if not self.nested:
            place = sockets_of(self.keeper, slot)
            os.chown(place, 0, user)
            place.chmod(0o750)

    def _map(self, monitor: int, user: int, deadline: float) -> None:
        """Have the keeper give a sandbox its user: as root one of its own, otherwise the template's."""
        outside = self.user if self.nested else user
        with self._turn:  # each answer is that to the last order
            self._control.settimeout(max(0.01, deadline - time.monotonic()))
            self._control.send(json.dumps({"map": monitor, "inside": user, "outside": outside}).encode())
            answer = self._control.recv(LINE)
        if answer != b"done":
            raise TemplateFailed(f"its user was not mapped ({answer.decode('utf-8', 'replace')})")

    def said(self) -> str:
        """Return what came on its standard error, or the last of it."""
        text = b""
        self._words.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(MOST_WORDS):
                text = (text + self._words.recv(LINE))[-WORDS_KEPT:]
        return text.decode("utf-8", "replace").strip()

    def end(self) -> None:
        """End it, and with it all of its sandboxes. Does nothing at the second call."""
        with self._life:
            if self._has_ended:
                return
            self._has_ended = True
            for process in (self.process, self.keeper):
                if process:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            for stream in self._ends:
                stream.close()
            if self.keeper:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.keeper, 0)
                self.keeper = 0
            control_groups.remove(self.group.directories)
            registry.remove(self.name)


def _users() -> tuple[int, int]:
    """Draw a user id for a template, and one for the owner of its namespaces."""
    low, high = bubblewrap_profile.USER_RANGE
    drawn = low + secrets.randbelow(high - low - 1)
    return drawn, drawn + 1


def _yield_to_others(group: ControlGroup) -> None:
    """Have imports run when nobody else wants the processor; a sandbox is in another group."""
    for directory in group.directories:
        for file, value in (("cpu.shares", "256"), ("cpu.weight", "25")):
            with contextlib.suppress(OSError):
                if (directory / file).exists():
                    (directory / file).write_text(value)


@functools.cache
def _shares() -> dict[str, int]:
    """Return what each sandbox may watch: all together they have what one user may (inotify(7)).

    What is counted for a namespace counts for whoever made it, too: here for the owner of the template's.
    """
    names = ("max_user_instances", "max_user_watches")
    told = {name: Path("/proc/sys/fs/inotify", name) for name in names}
    shares = {name: int(path.read_text()) // SLOTS for name, path in told.items() if path.exists()}
    return {name.replace("user", "inotify"): max(1, most) for name, most in shares.items()}


@functools.cache
def _masked_directories() -> list[str]:
    return [name for name in PROC_DIRECTORIES if Path("/proc", name).is_dir()]


def _source(name: str) -> str:
    if name == "confinement":
        return bubblewrap_profile._prepare_source()
    return resources.files("kernel_sandbox").joinpath("inside", f"{name}.py").read_text(encoding="utf-8")


def _start_keeper(group: ControlGroup, *ends: socket.socket) -> int:
    """Start the keeper with these at its descriptors 0, 2, 3, 4 and 5."""
    command = [*group.entering, sys.executable, "-I", "-S", "-c", _source("boot")]
    # Above the numbers that they get, so that none is overwritten before its turn.
    high = [fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    try:
        targets = zip(high, (0, 2, 3, 4, 5), strict=True)
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, number, target) for number, target in targets]
        actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0))
        return os.posix_spawn(command[0], command, {"PATH": os.defpath}, file_actions=actions, setsid=True)
    finally:
        for number in high:
            os.close(number)


def _read(stream: socket.socket, deadline: float) -> dict[str, Any]:
    """Read a line in JSON. Raises OSError, TemplateFailed."""
    stream.settimeout(max(0.01, deadline - time.monotonic()))
    return parse(stream.recv(LINE))


def _dismiss(handles: list[int], group: ControlGroup) -> None:
    """Kill what was forked and is not used: another sandbox begins in its control group."""
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    control_groups.clear(group)


def _has_hung_up(stream: socket.socket) -> bool:
    """Whether nobody is at the other end any more."""
    asked = select.poll()
    asked.register(stream, select.POLLRDHUP)
    return bool(asked.poll(0))
