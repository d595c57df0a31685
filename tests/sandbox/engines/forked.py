"""Sessions that a template forks, and what the kernel says of the processes below this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import control_groups
from kernel_sandbox.spec.values import SandboxSpec

FILTERS = "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('Seccomp_filters')])"
"""A sandbox that was forked has the filter of its template, and its own."""
HOST = """
import sys
from kernel_sandbox import Session
sessions = [Session(engine="bubblewrap", image="python") for _ in range(2)]
for session in sessions:
    session.open()
print(sessions[1].execute(sys.argv[1]).text, flush=True)
sys.stdin.read()
"""


def opened(image: str = "python", env: Mapping[str, str] | None = None, **spec: Any) -> Session:
    """Return a session of a kind that no other test has: what one does to its template is not another's."""
    kind = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    return Session(engine="bubblewrap", spec=SandboxSpec(image=image, env={"KIND": kind, **(env or {})}, **spec))


def is_forked(session: Session) -> bool:
    return session.execute(FILTERS).text == "2\n"


def children(process: int) -> list[int]:
    return [
        int(child) for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()
    ]


def keepers() -> list[int]:
    """The keepers below this process, by what the kernel says, the youngest last."""
    found = [child for child in children(os.getpid()) if b"keeper" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return sorted(found, key=lambda process: int(Path(f"/proc/{process}/stat").read_text().split()[21]))


def templates() -> list[int]:
    """The templates of this process: who is below its keepers."""
    return [template for keeper in keepers() for template in children(keeper)]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def of_group(process: int) -> list[int]:
    found = [process]
    for parent in found:
        found += children(parent)
    return found


@contextmanager
def running_host() -> Iterator[subprocess.Popen[str]]:
    """Another process, with a template and two sessions; the second of them is forked."""
    command = [sys.executable, "-c", HOST, FILTERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "2\n"
        yield host


def groups(processes: list[int]) -> list[Path]:
    """Where the control groups are that these processes are in, and that were made for sandboxes and templates."""
    texts = [Path(f"/proc/{process}/cgroup").read_text() for process in processes]
    names = {line.rpartition("/")[2] for text in texts for line in text.splitlines()}
    return [place for name in names if name.startswith("kernel-sandbox-") for place in control_groups.places(name)]
