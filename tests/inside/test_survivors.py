"""Which processes can still run code: those that have not begun to end, whatever the list of processes shows."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

from kernel_sandbox.inside import survivors

FIRST_THREAD_ENDS = """import ctypes, threading, time
threading.Thread(target=lambda: (time.sleep(0.2), print('alone', flush=True), time.sleep(60))).start()
ctypes.CDLL(None).pthread_exit(None)"""

HOPS = """import os, time
end = time.monotonic() + 0.5
while time.monotonic() < end:
    if os.fork(): os._exit(0)
print('over', flush=True)"""

LISTENS = """import socket, time
held = b'x' * (300 << 20)
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname()[1], flush=True)
time.sleep(60)"""


def runs(pid: int) -> bool:
    return pid in (survivors.running(set(survivors.processes()) - {pid}) or [])


def said(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])


def test_process_that_was_killed_runs_nothing_more() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert runs(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid in survivors.processes()
        while runs(process.pid):  # what else begins on this machine at that moment has it look again
            pass


def test_process_whose_first_thread_has_ended_still_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "alone\n"
        assert runs(process.pid)
        process.kill()


def test_process_that_lives_on_in_its_children_gets_past_no_look() -> None:
    known = set(survivors.processes())
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", HOPS], stdout=subprocess.PIPE) as process:
        while not said(process):
            assert survivors.running(known) != [] or said(process)


def test_process_that_was_killed_holds_its_port_until_it_counts_as_gone() -> None:
    """Its files are closed after its memory has been given back."""
    with subprocess.Popen([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert runs(process.pid)
        process.kill()
        while survivors.holding(set(survivors.processes()) - {process.pid}, set()):
            pass
        socket.create_server(("127.0.0.1", port)).close()
        assert process.pid in survivors.processes()
