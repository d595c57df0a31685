"""The magics in plain IPython, which has a terminal and no MIME bundles, and inside a running event loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernel_sandbox.text.ansi import plain_text
from tests.conftest import missing
from tests.doors.magic.host import SETUP

IPYTHON = [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=nocolor"]


@pytest.fixture(autouse=True)
def needed() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)


def run_script(tmp_path: Path, *cells: str) -> tuple[str, str, int]:
    """Run cells as IPython runs a file, and give its stdout, stderr and status."""
    lines = [f"get_ipython().run_cell({cell!r})" for cell in (SETUP, *cells)]
    (tmp_path / "cells.ipy").write_text("\n".join(lines) + "\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    env |= {"IPYTHONDIR": str(tmp_path / ".ipython"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*IPYTHON, tmp_path / "cells.ipy"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    return plain_text(done.stdout), done.stderr, done.returncode


def test_text_stands_in_for_bundles(tmp_path: Path) -> None:
    shown, errors, status = run_script(
        tmp_path,
        "%%sandbox\nprint('hello')\nimport pandas as pd\npd.DataFrame({'n': [1]})",
        "%%sandbox\nimport matplotlib.pyplot as plt\nplt.plot([1]);",
        "%%sandbox\nhandle = display('first', display_id=True)\nhandle.update('last')",
        "%%sandbox\n1/0",
        "n = 5",
        "%%sandbox -i n -o m\nm = n * 2",
        "print('m is', m)",
    )
    assert status == 0, errors
    assert "hello\n   n\n0  1\n" in shown
    assert "<Figure size 640x480 with 1 Axes>" in shown
    assert shown.index("'first'") < shown.index("'last'")
    assert "ZeroDivisionError: division by zero" in shown
    assert "kernel_sandbox/" not in shown + errors
    assert "m is 10" in shown


def test_agent_is_told_in_lines(tmp_path: Path) -> None:
    shown, errors, status = run_script(
        tmp_path,
        "import pandas as pd\ndf = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'] * 20, 'sold': [3, 5, 4] * 20})",
        "%ask --data df what goes with sold?",
    )
    assert status == 0, errors
    assert "offline is asked …" in shown
    assert shown.index("cell 1  ") < shown.index("1. city: correlation ratio 0.866 (2 groups, 60 rows)")
    assert "<div" not in shown
    assert "✓ offline · " in shown


def test_sandbox_that_does_not_start_is_told_in_a_line(tmp_path: Path) -> None:
    shown, errors, _ = run_script(tmp_path, "%sandbox start --image absent")
    assert "ImageNotFound: The bubblewrap engine has no image 'absent'" in shown
    assert "Traceback" not in shown + errors


LOOP = """
import asyncio, sys
from IPython.core.interactiveshell import InteractiveShell
async def main():
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "kernel_sandbox")
    shell.run_line_magic("config", "KernelSandboxMagics.engine = 'bubblewrap'")
    shell.run_cell_magic("sandbox", "-o x", "x = 6 * 7")
    print("x is", shell.user_ns["x"])
    shell.run_line_magic("unload_ext", "kernel_sandbox")
asyncio.run(main())
"""


def test_magics_work_inside_a_running_event_loop() -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, timeout=60, check=False)
    assert "x is 42" in done.stdout, done.stderr


CTRL_C = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "kernel_sandbox")
shell.run_line_magic("config", "KernelSandboxMagics.engine = 'bubblewrap'")
shell.run_cell("%%sandbox\\nkept = 5")
shell.run_cell("%%sandbox\\nprint('on', flush=True)\\nwhile True: pass")
shell.run_cell("%%sandbox\\nprint('kept is', kept)")
"""


def test_ctrl_c_interrupts_the_sandbox() -> None:
    with subprocess.Popen([sys.executable, "-c", CTRL_C], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        while "on" not in shell.stdout.readline():
            pass
        time.sleep(0.3)
        shell.send_signal(signal.SIGINT)
        rest = shell.stdout.read()
    assert "KeyboardInterrupt" in rest
    assert rest.endswith("kept is 5\n")


def test_package_does_not_import_ipython_until_it_is_loaded() -> None:
    code = "import sys, kernel_sandbox, kernel_sandbox.doors.cli\nassert 'IPython' not in sys.modules\n"
    code += "assert callable(kernel_sandbox.load_ipython_extension)\nassert 'IPython' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
