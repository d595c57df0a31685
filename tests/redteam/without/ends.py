"""The end of a sandbox whose owner is gone, and what the look from inside is for.

`python -m tests.redteam.without.ends ENGINE CONTROL…` is such an owner: it opens a session without these controls,
says its id, and waits to be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import EngineError
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.host.run_directory import remove_stale_directories
from kernel_sandbox.sandbox.engines import docker, get_engine
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam import census
from tests.redteam.canaries import Canaries
from tests.redteam.cells import opened_sessions
from tests.redteam.without import seams
from tests.redteam.without.edits import drop_options, edit_guest, edit_keeper, edit_prepare, set_config
from tests.redteam.without.removal import BOTH, Ground, Removal
from tests.redteam.without.walls import reach_a_listener_of_the_host

PATIENCE = 2.0
"""Seconds after which a sandbox without an owner counts as left behind."""


def immortal(ground: Ground) -> None:
    edit_guest(ground, seams.SERVING, f"{seams.SERVING.text}        while True: signal.pause()\n")
    drop_options(ground, "--die-with-parent")
    edit_prepare(ground, seams.DEATH_SIGNAL, "pass")
    edit_keeper(ground, seams.KEEPER_WITHOUT_HOST, "        if not message: signal.pause()\n")
    edit_guest(ground, seams.TEMPLATE_WITHOUT_HOST, "        if not message: signal.pause()\n")


def restarted(ground: Ground) -> None:
    set_config(ground, RestartPolicy={"Name": "always", "MaximumRetryCount": 0}, AutoRemove=False)


def nobodys(ground: Ground) -> None:
    honest = seams.CONTAINER_LABELS.current

    def without_owner(*args: Any) -> dict[str, str]:
        return {name: value for name, value in honest(*args).items() if not name.endswith(".owner")}

    ground.replace(seams.CONTAINER_LABELS, without_owner)


def outlive_its_owner(ground: Ground) -> bool:
    """The owner is killed at once, with no time for anything."""
    with _orphan(ground) as session_id:
        return _is_left(ground.engine, session_id)


def be_there_for_ever(ground: Ground) -> bool:
    """Neither its owner's end nor the next process, which looks for what dead owners left, ends it."""
    with _orphan(ground) as session_id:
        portal().call(get_engine(ground.engine).collect_garbage)
        return _is_left(ground.engine, session_id)


@contextlib.contextmanager
def _orphan(ground: Ground) -> Any:
    command = [sys.executable, "-m", "tests.redteam.without.ends", ground.engine, *ground.removed]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert host.stdin is not None
    assert host.stdout is not None
    with host, host.stdin, host.stdout:
        session_id = host.stdout.readline().decode().strip()
        host.kill()
    assert session_id
    opened_sessions.add(session_id)
    try:
        yield session_id
    finally:
        if ground.engine == "docker":
            for found in connect().containers.list(all=True, filters={"label": f"{docker.LABEL}.session={session_id}"}):
                found.remove(force=True)
        portal().call(get_engine(ground.engine).collect_garbage)
        remove_stale_directories()


def _is_left(engine: str, session_id: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while (left := census.running(engine, [session_id])) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(left)


def unlooked(ground: Ground) -> None:
    ground.replace(seams.PROMISES, lambda facts, spec: [])


def run_in_a_broken_sandbox(ground: Ground) -> bool:
    """One with the host's network: with the look from inside it is never used."""
    with contextlib.suppress(EngineError):
        return reach_a_listener_of_the_host(dataclasses.replace(ground, strict=None))
    return False


REMOVALS = {
    "dead-man's switch": Removal(severity="HostDoS", engines=BOTH, remove=immortal, succeeds=outlive_its_owner),
    "restart policy and removal": Removal(severity="HostDoS", remove=restarted, succeeds=outlive_its_owner),
    # Only what outlives its owner is looked for by its label. bubblewrap's record is not in the sandbox's hands.
    "owner labels": Removal(
        severity="HostDoS", remove=nobodys, succeeds=be_there_for_ever, also=("dead-man's switch",)
    ),
    # It is for walls that do not stand.
    "self-check": Removal(severity="Lateral", remove=unlooked, succeeds=run_in_a_broken_sandbox, also=("no network",)),
}


def main() -> None:
    from tests.redteam.removals import REMOVALS as ALL

    engine, *controls = sys.argv[1:]
    ground = Ground(engine, pytest.MonkeyPatch(), Canaries(""), Path())
    for name in controls:
        ALL[name].remove(ground)
    with ground.session() as session:
        print(session.id, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
