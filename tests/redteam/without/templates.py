"""What keeps a template's sandboxes apart, and an image's package in a template within its walls."""

from __future__ import annotations

import json
import time
from typing import Any

from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH, shelf
from tests.redteam.without import seams
from tests.redteam.without.edits import edit_guest, edit_keeper
from tests.redteam.without.removal import Ground, Removal
from tests.sandbox.engines.spoiled import spoiled

IN_TEMPLATE = """
import builtins, os, sys
if "kernel_sandbox.inside.template" in sys.modules:
    import ctypes
    from kernel_sandbox.inside import confinement, offspring
"""


def _ask_packages(ground: Ground, attack: str, question: str, sessions: int = 1) -> list[Any]:
    """Have a package of the image make an attack where a template imports it; ask the sandboxes that come of it."""
    ground.patch.setenv(SWITCH, "first")
    body = "".join(f"    {line}\n" for line in attack.splitlines())
    answers = []
    try:
        with spoiled("python", {"hostile_package.py": IN_TEMPLATE + body}):
            for _ in range(sessions):
                with ground.session(preload=("hostile_package",)) as session:
                    answers.append(json.loads(session.execute(f"import json; print(json.dumps({question}))").text))
    finally:
        shelf().end_all()
    return answers


class Unquestioning:
    """Believes what a fork says of itself."""

    def __init__(self, *of: Any) -> None:
        pass

    def check_beginning(self, monitor: int) -> None:
        pass

    def check_namespaces(self, monitor: int) -> None:
        pass

    def check_confined(self, monitor: int, first: int, due: Any) -> None:
        pass


def believed(ground: Ground) -> None:
    ground.replace(seams.TEMPLATE_ORIGIN, Unquestioning)


def keep_privileges(ground: Ground) -> bool:
    attack = "confinement.drop_capabilities = lambda: None"
    capabilities = "[line.split()[1] for line in open('/proc/1/status') if line.startswith('CapEff')]"
    return any(held != ["0" * 16] for held in _ask_packages(ground, attack, capabilities))


def with_the_hosts_processes(ground: Ground) -> None:
    edit_keeper(ground, seams.EMPTY_PROC, '"); confinement.mount("proc", f"{NEW}/proc", NOTHING)')


def see_the_hosts_processes(ground: Ground) -> bool:
    attack = 'builtins.found = [name for name in os.listdir("/proc") if name.isdigit()]'
    return bool(_ask_packages(ground, attack, "getattr(__import__('builtins'), 'found', [])")[0])


def not_forgetting(ground: Ground) -> None:
    edit_guest(ground, seams.TEMPLATE_FORGOTTEN, "common_memory.renew()\n        gc.enable()")


def draw_what_a_neighbour_draws(ground: Ground) -> bool:
    key = "bytes(__import__('multiprocessing').current_process().authkey).hex()"
    one, other = _ask_packages(ground, "import multiprocessing", key, sessions=2)
    return bool(one == other)


def endless_patience(ground: Ground) -> None:
    ground.replace(seams.TEMPLATE_PATIENCE, 8.0)


def hold_up_who_opens_a_session(ground: Ground) -> bool:
    attack = "import time\noffspring.run = lambda *order: time.sleep(60)"
    began = time.monotonic()
    _ask_packages(ground, attack, "1")
    spent = time.monotonic() - began
    began = time.monotonic()
    with ground.session():
        alone = time.monotonic() - began
    return spent - 2 * alone > 7


REMOVALS: dict[str, Removal] = {
    "forks judged from outside": Removal(
        severity="Escape", engines=("bubblewrap",), remove=believed, succeeds=keep_privileges
    ),
    "templates see no process": Removal(
        severity="HostLeak", engines=("bubblewrap",), remove=with_the_hosts_processes, succeeds=see_the_hosts_processes
    ),
    "random state renewed": Removal(
        severity="Lateral", engines=("bubblewrap",), remove=not_forgetting, succeeds=draw_what_a_neighbour_draws
    ),
    "templates waited for two seconds": Removal(
        severity="PeerDoS", engines=("bubblewrap",), remove=endless_patience, succeeds=hold_up_who_opens_a_session
    ),
}
