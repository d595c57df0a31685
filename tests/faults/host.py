"""A host process that is killed at a point of a session's life: `python -m tests.faults.host ENGINE POINT PATH`.

It kills itself, so that it dies exactly there: SIGKILL leaves no more time to a process that sends it to itself. Prints
the session's id first. PATH is the notebook; two cells are complete when a point after the start is reached.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernel_sandbox import Session
from tests.places import owner_of

Asked = Callable[..., bool]


@dataclass(frozen=True)
class Point:
    """A function of the package, before or after whose call the process dies."""

    place: str
    """module:Class.name"""
    after: bool = False
    when: Asked = lambda *args, **kwargs: True
    """Whether a call with these arguments is the one."""


def asks(op: str) -> Asked:
    """Whether PID 1 is asked for this operation."""
    return lambda mux, payload: json.loads(payload)["op"] == op


def large(channel: Any, data: bytes, **kwargs: Any) -> bool:
    """Whether this is the fourth piece of a large file."""
    if len(data) < 1024 * 1024:
        return False
    large.pieces = getattr(large, "pieces", 0) + 1  # type: ignore[attr-defined]
    return bool(large.pieces == 4)  # type: ignore[attr-defined]


STARTS: dict[str, dict[str, Point]] = {
    "engine starting": {
        "docker": Point("kernel_sandbox.host.run_directory:RunDirectory.__init__", after=True),
        "bubblewrap": Point("kernel_sandbox.sandbox.engines.control_groups:create", after=True),
    },
    "sandbox made, not started": {
        "docker": Point("kernel_sandbox.sandbox.engines.docker:DockerSandbox.attach"),
        "bubblewrap": Point("kernel_sandbox.sandbox.engines.bubblewrap:BubblewrapSandbox.adopt", after=True),
    },
    "sandbox starting": {
        "docker": Point("kernel_sandbox.sandbox.engines.docker:DockerSandbox.send"),
        "bubblewrap": Point("kernel_sandbox.sandbox.engines.bubblewrap:BubblewrapSandbox.send"),
    },
    "kernel starting": dict.fromkeys(
        ("docker", "bubblewrap"), Point("kernel_sandbox.inside.mux:Mux.open", after=True, when=asks("start"))
    ),
}
LATER = {
    "uploading": Point("kernel_sandbox.inside.mux:Channel.send", after=True, when=large),
    "saving the notebook": Point("pathlib:Path.replace", when=lambda path, _: path.name.startswith(".transcript-")),
    "restarting": Point("kernel_sandbox.inside.mux:Mux.open", after=True, when=asks("stop")),
    "closing": Point("kernel_sandbox.sandbox.gate:Gate.aclose", after=True),
}
POINTS = (*STARTS, "idle", "cell running", *LATER)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: Point) -> None:
    """Make the process die at a point."""
    owner, name = owner_of(point.place)
    function = getattr(owner, name)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        chosen = point.when(*args, **kwargs)
        if chosen and not point.after:
            die()
        result = await function(*args, **kwargs)
        if chosen:
            die()
        return result

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        chosen = point.when(*args, **kwargs)
        if chosen and not point.after:
            die()
        result = function(*args, **kwargs)
        if chosen:
            die()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


def reach(session: Session, point: str) -> None:
    """Do what leads to a point of a session that is open."""
    if point in LATER:
        arm(LATER[point])
    if point == "cell running":
        for _ in session.stream("import time\nprint('on', flush=True)\ntime.sleep(600)"):
            die()
    elif point == "uploading":
        session.files.write("large.bin", bytes(64 * 1024 * 1024))
    elif point == "saving the notebook":
        session.execute("print('x' * 1_000_000)")
    elif point == "restarting":
        session.restart()
    elif point == "closing":
        session.close()
    die()


def main(engine: str, point: str, path: str) -> None:
    session = Session(engine=engine, image="python", save=path)
    print(session.id, flush=True)
    if point in STARTS:
        arm(STARTS[point][engine])
    session.open()
    session.execute("first = 1\nprint('first')")
    session.execute("first + 1")
    reach(session, point)


if __name__ == "__main__":
    main(*sys.argv[1:])
