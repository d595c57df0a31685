"""What a package of an image can do while a sandbox starts: no more than a cell."""

from __future__ import annotations

import json

from kernel_sandbox import Session
from tests.sandbox.engines.spoiled import spoiled

KEPT = """import builtins, ctypes
def kept():
    \"\"\"Return the sets of capabilities by the kernel's own calls: a template has no /proc of itself.\"\"\"
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno())
    bounding = [number for number in range(64) if libc.prctl(23, number, 0, 0, 0) == 1]
    ambient = [number for number in range(64) if libc.prctl(47, 1, number, 0, 0) == 1]
    return [*sets], bounding, ambient
builtins.seen = getattr(builtins, "seen", []) + [kept()]
"""
WITH_PTH = {"attack.pth": "import attack\n", "attack.py": KEPT}


def test_package_that_python_runs_at_each_start_has_no_capability(either_way: str) -> None:
    with spoiled("python", WITH_PTH), Session(engine="bubblewrap", image="python") as session:
        told = session.execute("import builtins, json; print(json.dumps(builtins.seen))").text
    assert json.loads(told)
    assert all(seen == [[0] * 6, [], []] for seen in json.loads(told))


def test_interpreter_of_a_kernel_is_as_everywhere(quick: str) -> None:
    with Session(engine=quick, image="python") as session:
        flags = session.execute("import sys; print(sys.flags.isolated, sys.flags.no_site, sys.prefix, sys.executable)")
        assert flags.text.split() == ["0", "0", "/opt/venv", "/opt/venv/bin/python3"]
