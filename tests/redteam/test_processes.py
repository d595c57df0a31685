"""PID 1, the process that forks kernels, restarts, and the kernel's sockets: none of them is in a cell's hands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_sandbox import Limits, OutOfMemory, Session
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.host.run_directory import remove_stale_directories
from kernel_sandbox.sandbox.engines import get_engine
from tests.redteam import census, kernel_side
from tests.redteam.canaries import Canaries
from tests.redteam.cells import (
    EACCES,
    EPERM,
    arm,
    armed,
    ask,
    attack,
    is_well,
    opened_sessions,
    strike,
    told_of_a_neighbour,
)

OTHERS = """
def others():
    "The processes of the sandbox that are neither this kernel nor its children: PID 1 and the zygote."
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]

def zygote():
    return next(pid for pid in others() if pid != 1 and b"python" in open(f"/proc/{pid}/comm", "rb").read())
"""


@attack("InternalRead")
@pytest.mark.parametrize("name", ["mem", "environ", "maps", "fd", "fd/3", "fd/4", "root", "cwd", "exe", "stack", "io"])
def test_processes_that_are_not_the_kernels_own_cannot_be_read(target: Session, name: str) -> None:
    read = f"""{OTHERS}
def look(path):
    if os.path.islink(path) and not path.split("/")[-1].isdigit():
        os.readlink(path)
    elif os.path.basename(path) == "fd":
        os.listdir(path)
    else:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
answer({{pid: error(look, f"/proc/{{pid}}/{{NAME}}") for pid in (1, zygote())}})
"""
    opened = [pid for pid, error in ask(target, read, NAME=name).items() if error == 0]
    assert opened == [], f"opened /proc/…/{name} of {opened}"


@attack("Integrity")
def test_memory_of_the_process_that_forks_kernels_cannot_be_written(target: Session) -> None:
    """What is written there would be in every later kernel: a restart would not shake it off."""
    write = f"{OTHERS}\nanswer([error(lambda: os.close(os.open(f'/proc/{{pid}}/mem', os.O_RDWR))) for pid in others()])"
    assert set(ask(target, write)) == {EACCES}


@attack("Integrity")
def test_stream_to_the_host_cannot_be_written(fresh: Session) -> None:
    """Bytes on PID 1's standard output would be answers to the host, in PID 1's name."""
    write = """
written = []
for name in ("1", "4", "0", "3", "2"):
    with contextlib.suppress(OSError):
        with open(f"/proc/1/fd/{name}", "wb", 0) as stream:
            stream.write(b"\\xff" * 4096)
            written.append(name)
answer(written)
"""
    execution = strike(fresh, write)
    assert execution.text == "[]\n", f"written, and {execution.cause}"
    assert is_well(fresh)


@attack("SelfDoS")
def test_signals_do_not_reach_pid_1(target: Session) -> None:
    send = "answer([error(os.kill, 1, n) for n in range(1, 65) if n not in (signal.SIGCHLD, 32, 33)])"
    assert set(ask(target, send)) == {0}
    assert target.usage().processes >= 3
    assert is_well(target)


@attack("Escape")
def test_other_processes_cannot_be_traced(target: Session) -> None:
    trace = f"{OTHERS}\nanswer([libc.ptrace(16, pid, 0, 0) for pid in others()])"  # PTRACE_ATTACH
    assert set(ask(target, trace)) == {-1}


@attack("HostLeak")
def test_kernel_has_no_descriptor_of_the_host(target: Session) -> None:
    links = """
found = []
for name in os.listdir("/proc/self/fd"):
    with contextlib.suppress(OSError):
        found.append(os.readlink(f"/proc/self/fd/{name}"))
answer(found)
"""
    strange = [
        link
        for link in ask(target, links)
        if not link.startswith(("/dev/null", "pipe:", "socket:", "anon_inode:", "/proc/", "/dev/urandom", "/dev/pts"))
        and link != "/opt/kernel-sandbox/modules"  # the image's own
    ]
    assert strange == []


@attack("SelfDoS")
@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSTOP"])
def test_restart_does_not_need_the_process_that_forks_kernels(fresh: Session, signal: str) -> None:
    ask(fresh, f"{OTHERS}\nanswer(error(os.kill, zygote(), signal.{signal}))")
    fresh.restart()
    assert is_well(fresh)


@attack("SelfDoS")
def test_kill_of_everything_is_a_kernels_death(fresh: Session, record_property: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    execution = strike(fresh, "os.kill(-1, signal.SIGKILL)")
    record_property("detection", time.monotonic() - started)
    strike(fresh, "os.kill(os.getpid(), signal.SIGKILL)")
    assert {execution.status} <= {"ok", "dead"}
    fresh.restart()
    assert is_well(fresh)


@attack("SelfDoS")
def test_end_of_the_kernel_is_told_by_name(fresh: Session, record_property: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    execution = strike(fresh, "os.kill(os.getpid(), signal.SIGSEGV)")
    record_property("detection", time.monotonic() - started)
    assert execution.status == "dead"
    assert "SIGSEGV" in str(execution.cause)
    assert time.monotonic() - started < 1


@attack("HostDoS")
def test_kernel_out_of_memory_is_told_by_name_and_pid_1_lives(
    cramped: Session, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    execution = strike(cramped, "taken = [bytearray(b'x') * 2**20 for _ in range(640)]")
    record_property("detection", time.monotonic() - started)
    if cramped.weakened:
        assert execution.status in ("dead", "error")
    else:
        assert isinstance(execution.cause, OutOfMemory), execution
    cramped.restart()
    assert is_well(cramped)


@attack("Integrity")
def test_no_process_survives_a_restart(target: Session) -> None:
    spawn = """
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 65):
            with contextlib.suppress(OSError, ValueError): signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            open("/mnt/data/survivor", "w").write(str(os.getpid()))
            while True: time.sleep(0.01)
        os._exit(0)
while not os.path.exists("/mnt/data/survivor"): time.sleep(0.01)
answer(len([name for name in os.listdir("/proc") if name.isdigit()]))
"""
    assert ask(target, spawn) > 20
    target.restart()
    arm(target)
    survivors = ask(target, "answer(len([name for name in os.listdir('/proc') if name.isdigit()]))")
    target.files.delete("survivor")
    assert survivors == 3, f"{survivors} processes after the restart"


@attack("Integrity")
def test_process_that_lives_on_in_its_children_does_not_survive_a_restart(target: Session) -> None:
    """No list of processes shows it: it is another one before the list is read."""
    hop = """
source = "import os, time\\nend = time.monotonic() + 3\\nwhile time.monotonic() < end:\\n"
source += "    if os.fork(): os._exit(0)\\n    with open('/mnt/data/hops', 'w') as f: f.write(str(time.monotonic()))"
for _ in range(2): subprocess.Popen([sys.executable, "-I", "-S", "-c", source], start_new_session=True)
while not os.path.exists("/mnt/data/hops"): time.sleep(0.01)
"""
    for _ in range(3):
        strike(target, hop).raise_for_error()
        target.restart()
        arm(target)
        kept = target.files.read("hops")
        time.sleep(0.1)
        assert target.files.read("hops") == kept, "it still runs after the restart"
        target.files.delete("hops")


TAKEN: dict[str, Callable[[int], object]] = {
    "priority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "policy": lambda pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
    "place among those to be killed": lambda pid: Path(f"/proc/{pid}/oom_score_adj").write_text("700"),
}


@attack("Integrity")
@pytest.mark.parametrize("what", TAKEN)
def test_restart_keeps_no_first_process_that_was_changed(engine: str, what: str) -> None:
    """No cell can do it; here it is done from outside, where the host is root."""
    with armed(engine) as session:
        pid = kernel_side.first_process(session)
        standing = kernel_side.standing(pid)
        try:
            TAKEN[what](pid)
        except PermissionError:
            pytest.skip("the sandbox's processes are another user's: only root can change them")
        session.restart()
        session.files.write("x", b"whole")
        assert session.files.read("x") == b"whole"
        assert kernel_side.standing(kernel_side.first_process(session)) == standing


@attack("Integrity")
def test_other_processes_keep_what_they_have(target: Session) -> None:
    """Neither PID 1 nor the process that forks kernels is given limits, another priority or fewer processors."""
    pid = kernel_side.first_process(target)
    before = kernel_side.standing(pid)
    change = f"""{OTHERS}
def all_of(pid):
    return [
        error(resource.prlimit, pid, resource.RLIMIT_FSIZE, (0, 0)),
        error(os.setpriority, os.PRIO_PROCESS, pid, 19),
        error(os.setpriority, os.PRIO_USER, os.getuid(), 19),
        error(os.sched_setaffinity, pid, {{0}}),
        error(os.sched_setscheduler, pid, os.SCHED_IDLE, os.sched_param(0)),
        error(lambda: open(f"/proc/{{pid}}/oom_score_adj", "w").write("1000")),
    ]
answer(sorted({{number for pid in others() for number in all_of(pid)}}))
"""
    assert set(ask(target, change)) <= {EPERM, EACCES}
    assert kernel_side.standing(pid) == before


@attack("Integrity")
def test_fork_bomb_does_not_survive_a_restart(fresh: Session) -> None:
    bomb = """
if os.fork() == 0:
    os.setsid()
    while True:
        try:
            if os.fork() and os.fork(): os._exit(0)
        except OSError: pass
print("lit")
"""
    strike(fresh, bomb)
    fresh.restart()
    arm(fresh)
    assert ask(fresh, "answer(len([name for name in os.listdir('/proc') if name.isdigit()]))") == 3


@attack("Integrity")
def test_next_kernel_has_a_fresh_home(target: Session) -> None:
    """Without it what a cell leaves in IPython's start-up directory runs in every later kernel."""
    plant = """
import pathlib
startup = pathlib.Path.home() / ".ipython/profile_default/startup"
startup.mkdir(parents=True, exist_ok=True)
(startup / "00-evil.py").write_text("infected = True")
pathlib.Path("/tmp/left").write_text("left"); pathlib.Path("/dev/shm/left").write_text("left")
answer(str(startup))
"""
    ask(target, plant)
    target.restart()
    arm(target)
    found = ask(
        target, "answer(['infected' in globals(), os.path.exists('/tmp/left'), os.path.exists('/dev/shm/left')])"
    )
    assert found == [False, False, False], "what the last kernel left is there"


TREES = {
    "a directory that cannot be entered": "os.mkdir('x'); open('x/y', 'w').close(); os.chmod('x', 0)",
    "three thousand directories in each other": "for _ in range(3000): os.mkdir('d'); os.chdir('d')",
    "a file for each inode": "for n in range(65_000): os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))",
    "places that are shut": "[os.chmod(place, 0) for place in ('/tmp', '/mnt/data', '/dev/shm', '/home/sandbox')]",
    "a link to what must stay": "os.symlink('/mnt/data', 'link'); os.symlink('/', 'root')",
    "names that are no text": "os.mkdir(b'\\xff\\n\\x1b'); os.close(os.open(b'\\xff\\n\\x1b/\\xfe', os.O_CREAT))",
}


@attack("HostDoS")
@pytest.mark.parametrize("tree", TREES)
def test_no_tree_of_files_holds_up_a_restart_or_the_end(
    engine: str, tree: str, record_property: Callable[[str, object], None]
) -> None:
    with armed(engine) as session:
        session.files.write("stays", "it stays")
        strike(session, f"os.chdir('/tmp')\n{TREES[tree]}").raise_for_error()
        started = time.monotonic()
        session.restart()
        restarted = time.monotonic() - started
        left = session.execute("import os; print(os.listdir('/tmp'))").text
        stays = session.files.read("stays")
        strike(session, f"import os; os.chdir('/tmp')\n{TREES[tree]}").raise_for_error()
        started = time.monotonic()
    ended = time.monotonic() - started
    record_property("detection", max(restarted, ended))
    assert census.running(engine, [session.id]) == []
    assert (left, stays) == ("[]\n", b"it stays")
    assert max(restarted, ended) < 10


REPLACE = """
directory = "/opt/kernel-sandbox/run/" + max(os.listdir("/opt/kernel-sandbox/run"))
path = directory + "/s-1"
"""


@attack("Lateral")
def test_sockets_cannot_be_replaced(fresh: Session) -> None:
    replace = f"""{REPLACE}
attempts = {{
    "unlink": lambda: os.unlink(path),
    "rename": lambda: os.rename(path, directory + "/s-9"),
    "symlink": lambda: os.symlink("/etc/passwd", directory + "/s-6"),
    "chmod": lambda: os.chmod(directory, 0o777),
    "mkdir": lambda: os.mkdir("/opt/kernel-sandbox/run/9"),
    "rename the directory": lambda: os.rename(directory, directory + "0"),
}}
answer([name for name, attempt in attempts.items() if error(attempt) == 0])
"""
    done = ask(fresh, replace)
    # An ordinary user's sandbox runs as that user, who can undo the lock: there the pins alone hold.
    assert done == [] or (fresh.engine == "bubblewrap" and os.getuid() != 0)
    assert is_well(fresh)


HAND_OVER = f"""{REPLACE}
with contextlib.suppress(OSError):
    os.chmod(directory, 0o777)
with contextlib.suppress(OSError):
    os.rename(path, directory + "/s-9")
    os.symlink(ELSEWHERE, path)

def cut():
    for number in descriptors("shell"):
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR)

threading.Timer(0.1, cut).start()  # after this cell's reply
answer(os.path.islink(path))
"""


@attack("Lateral")
def test_host_does_not_follow_a_symlink_in_the_place_of_a_socket(engine: str, canaries: Canaries) -> None:
    """The kernel's shell socket is replaced by a link to a service of the host, and the host made to connect anew."""
    with armed(engine, limits=Limits(interrupt_grace=0.2)) as session:
        strike(session, HAND_OVER, ELSEWHERE=canaries.unix)
        time.sleep(0.3)
        answered = session.execute("'for the kernel only'", timeout=2)
    assert canaries.take_heard() == []
    assert answered.text == "'for the kernel only'"


HOST = """
import sys
from kernel_sandbox import Session
session = Session(engine=sys.argv[1], image="python")
session.open()
print(session.id, flush=True)
session.execute("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)")
print("armed", flush=True)
sys.stdin.read()
"""


@attack("HostDoS")
def test_sandbox_ends_with_its_owner(engine: str, record_property: Callable[[str, object], None]) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert host.stdin is not None
    assert host.stdout is not None
    with host, host.stdin, host.stdout:
        session_id = host.stdout.readline().decode().strip()
        host.stdout.readline()
        host.kill()
    opened_sessions.add(session_id)
    killed = time.monotonic()
    while (left := census.running(engine, [session_id])) and time.monotonic() - killed < 2:
        time.sleep(0.02)
    record_property("detection", time.monotonic() - killed)
    assert left == [], "there is still something"
    portal().call(get_engine(engine).collect_garbage)
    remove_stale_directories()


@attack("InternalRead")
def test_owner_of_the_run_directory_is_not_told(target: Session) -> None:
    """Of the host's file system the sandbox sees the sockets' directory, and no file in it that tells of its owner."""
    seen = ask(target, "answer([name for _, _, names in os.walk('/opt/kernel-sandbox/run') for name in names])")
    assert set(seen) <= {*(f"s-{port}" for port in range(1, 6)), "ready"}
    assert Path(f"/proc/{os.getpid()}").exists()


@attack("PeerDoS")
def test_neighbours_are_not_seen(engine: str) -> None:
    with armed(engine) as one, armed(engine) as other:
        strike(one, "open('/tmp/mine', 'w').write('x'); open('/mnt/data/mine', 'w').write('x')")
        strike(one, "listener = socket.socket(socket.AF_UNIX); listener.bind('\\0mine'); listener.listen()")
        look = """
with socket.socket(socket.AF_UNIX) as client:
    reached = error(client.connect, "\\0mine")
pids = [name for name in os.listdir("/proc") if name.isdigit()]
answer([os.path.exists("/tmp/mine"), os.path.exists("/mnt/data/mine"), reached == 0, len(pids)])
"""
        assert ask(other, look) == [False, False, False, 3]
        assert ask(other, "answer(error(os.kill, PID, 0))", PID=ask(one, "answer(os.getpid())")) in (0, EPERM, 3)


@attack("Lateral")
def test_files_that_a_neighbour_opens_are_not_told(engine: str) -> None:
    """By their names one learns which modules another session imports, and which commands it runs."""
    with armed(engine) as one, armed(engine) as other:
        assert told_of_a_neighbour(one, other) == []
