"""What a package of an image can do while a sandbox starts: no more than a cell."""

from __future__ import annotations

from kernel_sandbox import Session
from tests.sandbox.engines.spoiled import spoiled

KEPT = """import builtins
def kept():
    with open("/proc/self/status") as file:
        return file.read()
builtins.seen = getattr(builtins, "seen", []) + [kept()]
"""
WITH_PTH = {"attack.pth": "import attack\n", "attack.py": KEPT}
TOLD = "import builtins; print(*[line for text in builtins.seen for line in text.splitlines() if line[:3] == 'Cap'])"


def test_package_that_python_runs_at_each_start_has_no_capability(quick: str) -> None:
    with spoiled("python", WITH_PTH), Session(engine=quick, image="python") as session:
        told = session.execute(TOLD).text.split()
    assert set(told[1::2]) == {"0" * 16}
    assert set(told[::2]) == {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"}


def test_interpreter_of_a_kernel_is_as_everywhere(quick: str) -> None:
    with Session(engine=quick, image="python") as session:
        flags = session.execute("import sys; print(sys.flags.isolated, sys.flags.no_site, sys.prefix, sys.executable)")
        assert flags.text.split() == ["0", "0", "/opt/venv", "/opt/venv/bin/python3"]
