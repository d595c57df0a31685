"""%%sandbox through a real ipykernel: what the front end is sent, and when."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.doors.magic.host import SETUP, Host, host_kernel

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_cells_share_their_variables_and_not_the_hosts(host: Host) -> None:
    host.run("mine = 1")
    host.run("%%sandbox\nx = 41")
    assert host.run("%%sandbox\nx + 1").bundle == {"text/plain": "42"}
    assert "NameError" in host.run("%%sandbox\nmine").failure
    assert "NameError" in host.run("x").failure


def test_streams_arrive_before_the_cell_ends(host: Host) -> None:
    ran = host.run("%%sandbox\nimport time, sys\nfor n in range(4):\n    print(n, flush=True)\n    time.sleep(0.4)")
    times = [seconds for seconds, kind, _ in ran.messages if kind == "stream"]
    assert ran.stream() == "0\n1\n2\n3\n"
    assert times[0] < 1.0 < times[-1]
    assert len(times) == 4


def test_stderr_stays_stderr(host: Host) -> None:
    ran = host.run("%%sandbox\nimport sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (ran.stream(), ran.stream("stderr")) == ("out\n", "err\n")


def test_terminal_commands_are_dropped_and_colours_stay(host: Host) -> None:
    ran = host.run("%%sandbox\nprint('a\\x1b[31mred\\x1b[0m \\x1b]52;c;c2VjcmV0\\x07\\x1b[2Jb')")
    assert ran.stream() == "a\x1b[31mred\x1b[0m b\n"


def test_displays_are_updated_in_place_under_ids_of_their_own(host: Host) -> None:
    ran = host.run("%%sandbox\nhandle = display('one', display_id='same')\nhandle.update('two')")
    (shown,), (updated,) = ran.of("display_data"), ran.of("update_display_data")
    assert shown["transient"] == updated["transient"]
    assert shown["transient"]["display_id"].endswith("-same")
    assert updated["data"] == {"text/plain": "'two'"}
    later = host.run("%%sandbox\nhandle.update('three')")
    assert later.of("update_display_data")[0]["transient"] == shown["transient"]


def test_output_is_cleared(host: Host) -> None:
    ran = host.run("%%sandbox\nfrom IPython.display import clear_output\nprint(1)\nclear_output(wait=True)\nprint(2)")
    assert ran.of("clear_output") == [{"wait": True}]


def test_figure_comes_as_png(host: Host) -> None:
    ran = host.run("%%sandbox\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);")
    assert base64.b64decode(ran.bundle["image/png"]).startswith(b"\x89PNG")


def test_dataframe_is_rebuilt_and_escaped(host: Host) -> None:
    source = "import pandas as pd\npd.DataFrame({'<i>k</i>': ['<img src=x onerror=alert(1)>'], 'n': [1.5]})"
    html = host.run(f"%%sandbox\n{source}").bundle["text/html"]
    assert html.startswith("<div><table")
    assert "<img" not in html
    assert "&lt;i&gt;k&lt;/i&gt;" in html
    assert "1.5" in html


def test_long_dataframe_says_how_long_it_is(host: Host) -> None:
    html = host.run("%%sandbox\nimport pandas as pd\npd.DataFrame({'n': range(5000)})").bundle["text/html"]
    assert "10 of 5,000 rows × 1 columns" in html
    assert html.count("<tr") == 11


def test_traceback_of_the_sandbox_is_all_that_is_shown(host: Host) -> None:
    ran = host.run("%%sandbox\nprint('before')\n1/0")
    (error,) = ran.of("error")
    assert ran.stream() == "before\n"
    assert (ran.status, error["ename"], error["evalue"]) == ("error", "ZeroDivisionError", "division by zero")
    assert "kernel_sandbox" not in ran.failure
    assert "Traceback (most recent call last)" in ran.failure


def test_unknown_magic_in_the_sandbox_fails_the_cell(host: Host) -> None:
    assert host.run("%%sandbox\n%nonsense").status == "error"


def test_interrupt_ends_the_sandboxs_cell_and_nothing_else(host: Host) -> None:
    host.run("%%sandbox\nkept = 7")
    pressed: list[float] = []

    def press(kind: str, content: dict[str, Any]) -> None:
        if kind == "stream" and not pressed:
            pressed.append(time.perf_counter())
            host.interrupt()

    ran = host.run("%%sandbox\nprint('on', flush=True)\nwhile True:\n    pass", on_message=press)
    assert time.perf_counter() - pressed[0] < 3
    assert ran.of("error")[0]["ename"] == "KeyboardInterrupt"
    assert host.run("%%sandbox\nkept").bundle == {"text/plain": "7"}
    assert host.run("mine").status == "ok"


STUBBORN = """%%sandbox --session stubborn
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('on', flush=True)
while True:
    pass"""


def test_second_interrupt_gives_up_waiting_and_restart_recovers(host: Host) -> None:
    presses = 0

    def press(kind: str, content: dict[str, Any]) -> None:
        nonlocal presses
        if kind == "stream" and not presses:
            presses = 1
            host.interrupt()
            time.sleep(0.5)
            host.interrupt()

    started = time.perf_counter()
    ran = host.run(STUBBORN, on_message=press)
    assert time.perf_counter() - started < 20
    assert "`%sandbox restart` ends it" in ran.failure
    assert host.run("%sandbox restart -s stubborn").status == "ok"
    assert host.run("%%sandbox -s stubborn\n1 + 1").bundle == {"text/plain": "2"}
    host.run("%sandbox shutdown -s stubborn")


def test_timeout_is_the_sandboxs_error(host: Host) -> None:
    ran = host.run("%%sandbox --timeout 0.5\nwhile True:\n    pass")
    assert ran.of("error")[0]["ename"] in ("CellTimeout", "KeyboardInterrupt")
    assert "0.5 s" in ran.failure


def test_death_names_the_way_out(host: Host) -> None:
    ran = host.run("%%sandbox -s brief\nimport os\nos._exit(3)")
    assert "status 3" in ran.failure
    assert "`%sandbox restart` starts a fresh kernel." in ran.failure
    assert "restart()" not in ran.failure
    again = host.run("%%sandbox -s brief\n1").failure
    assert "The cell did not run." in again
    assert "%sandbox restart" in again
    host.run("%sandbox restart --session brief")
    asked = host.run("%%sandbox -s brief\n1")
    assert (asked.status, asked.stream("stderr")) == ("ok", "")
    host.run("%sandbox shutdown -s brief")


def test_restart_that_nobody_asked_for_is_told_with_the_next_cell(host: Host) -> None:
    stubborn = STUBBORN.replace("%%sandbox", "%%sandbox --timeout 0.5")
    assert host.run(stubborn).status == "error"
    told = host.run("%%sandbox -s stubborn\n'signal' in dir()")
    assert told.bundle == {"text/plain": "False"}
    assert "fresh kernel" in told.stream("stderr")
    assert host.run("%%sandbox -s stubborn\n1").stream("stderr") == ""
    host.run("%sandbox shutdown -s stubborn")


FILE = "get_ipython().magics_manager.registry['KernelSandboxMagics'].sessions.find('two').session.connection_file"


def test_another_client_of_the_session_keeps_its_output_and_is_not_interrupted(host: Host) -> None:
    host.run("%%sandbox -s two\nimport time; ran = []")
    client = BlockingKernelClient(connection_file=host.run(f"print({FILE})").stream().strip())
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=20)
        client.execute("for n in range(20): print('theirs', flush=True); time.sleep(0.1)\nran.append('theirs')")
        while client.get_iopub_msg(timeout=20)["msg_type"] != "stream":
            pass
        stopping = threading.Timer(0.7, host.interrupt)
        stopping.start()
        given_up = host.run("%%sandbox -s two\nran.append('mine')")
        assert "did not run. Run it again." in given_up.failure
        assert given_up.stream() == ""
        assert client.get_shell_msg(timeout=20)["content"]["status"] == "ok"
        assert host.run("%%sandbox -s two\nprint(ran)").stream() == "['theirs']\n"
    finally:
        client.stop_channels()
        host.run("%sandbox shutdown -s two")


def test_run_all_stops_at_a_failing_cell() -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = [SETUP, "%%sandbox\n1/0", "print('never')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])  # type: ignore[no-untyped-call]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert notebook.cells[2].outputs == []
    assert [output.output_type for output in notebook.cells[1].outputs] == ["error"]


def test_host_kernel_ends_its_sandboxes() -> None:
    import subprocess

    with host_kernel() as host:
        host.run(SETUP)
        host.run("%%sandbox\nimport os")
        token = host.run("import os; print(os.getpid())").stream().strip()
        assert int(subprocess.run(["pgrep", "-cP", token], capture_output=True, text=True, check=False).stdout) >= 1
        children = subprocess.run(["pgrep", "-P", token], capture_output=True, text=True, check=False).stdout.split()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = subprocess.run(
            ["ps", "-o", "pid=,stat=", "-p", ",".join(children)], capture_output=True, text=True, check=False
        )
        if not [line for line in left.stdout.splitlines() if "Z" not in line]:
            return
        time.sleep(0.1)
    raise AssertionError(left.stdout)


def test_settings_and_help(host: Host) -> None:
    assert "KernelSandboxMagics.html" in host.run("%config KernelSandboxMagics").stream()
    assert "--timeout" in host.run("%%sandbox --help\n1").stream()
    assert "'trusted'" in host.run("%config KernelSandboxMagics.html = 'never'").stream("stderr")


def test_unknown_option_is_one_line(host: Host) -> None:
    ran = host.run("%%sandbox --bogus\n1")
    assert ran.status == "error"
    assert ran.stream("stderr") == (
        "UsageError: unrecognized arguments: --bogus. `%%sandbox --help` shows what there is.\n"
    )


def test_options_of_an_open_session_are_not_ignored(host: Host) -> None:
    assert "open with --image datascience" in host.run("%%sandbox --image python\n1").failure


def test_extension_unloads_and_loads_again() -> None:
    with host_kernel() as host:
        host.run(SETUP)
        host.run("%%sandbox\nx = 1")
        assert host.run("%unload_ext kernel_sandbox").status == "ok"
        assert "not found" in host.run("%sandbox status").stream("stderr")
        host.run(SETUP)
        assert "No sandbox is open" in host.run("%sandbox status").stream()


def test_braces_and_dollars_reach_the_sandbox_untouched(host: Host) -> None:
    host.run("secret = 'host'")
    assert host.run("%%sandbox\nprint('{secret} $secret')").stream() == "{secret} $secret\n"
