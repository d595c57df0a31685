"""What PID 1 holds: itself, the stream to the host, the end of kernels, restarts, and the file operations."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from kernel_sandbox import FileError, Limits, OutOfMemory, SandboxError, SandboxSpec, Session
from kernel_sandbox.inside.mux import Channel
from tests.redteam.cells import arm, ask, opened_sessions, settings_kept, strike
from tests.redteam.without import seams
from tests.redteam.without.edits import allow, edit_guest
from tests.redteam.without.removal import GROWTH, Ground, Removal, growth

HASTY = Limits(interrupt_grace=0.2)


def dumpable_pid_1(ground: Ground) -> None:
    edit_guest(ground, seams.FIRST_PROCESS_DUMPABLE, seams.FIRST_PROCESS_DUMPABLE.text.replace("0", "1"))


def open_the_memory_of_pid_1(ground: Ground) -> bool:
    """For writing: PID 1 would do what the cell wants, and answer the host in its name."""
    with ground.session() as session:
        return bool(ask(session, "answer(error(lambda: os.close(os.open('/proc/1/mem', os.O_RDWR))))") == 0)


def dumpable_zygote(ground: Ground) -> None:
    dumpable = "__import__('ctypes').CDLL(None).prctl(4, 1, 0, 0, 0)"
    edit_guest(ground, seams.ZYGOTE_START, f"    {dumpable}\n{seams.ZYGOTE_START.text}")


def open_the_memory_of_the_zygote(ground: Ground) -> bool:
    """What is written there would be in every later kernel."""
    write = """
others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]
answer([error(lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))) for pid in others])
"""
    with ground.session() as session:
        return 0 in ask(session, write)


def stream_in_kernels(ground: Ground) -> None:
    edit_guest(ground, seams.HOST_STREAM_CLOSED, "")


def forge_a_word_of_pid_1(ground: Ground) -> bool:
    """On the channel that tells of exits: the kernel, which lives, is said to have died for want of memory."""
    forge = """
import struct
line = json.dumps({"kernel": "k1", "exit_code": -9, "out_of_memory": True}).encode() + b"\\n"
for channel in range(1, 9):
    with contextlib.suppress(OSError): os.write(4, struct.pack(">IBI", channel, 2, len(line)) + line)
time.sleep(0.5)
"""
    with ground.session() as session:
        return isinstance(strike(session, forge).cause, OutOfMemory)


def any_frame_of_the_link(ground: Ground) -> None:
    ground.replace(seams.LINK_FRAME, 2**31)
    honest = seams.LINK_SEND.current

    async def send(self: Channel, data: bytes, **named: Any) -> bool:
        """In pieces that the other side, which has its own bound, takes."""
        pieces = [data[start : start + 2**17] for start in range(0, len(data), 2**17)]
        return all([await honest(self, piece, **named) for piece in pieces])

    ground.replace(seams.LINK_SEND, send)


def flood_the_link(ground: Ground) -> bool:
    flood = """
import struct, select
def put(data):
    view = memoryview(data)
    while view:
        if not select.select([], [4], [], 2)[1]: return False
        try: view = view[os.write(4, view[:65536]):]
        except BlockingIOError: pass
        except OSError: return False
    return True
put(struct.pack(">IBI", 1, 2, 2**30)) and all(put(bytes(2**20)) for _ in range(150))
"""
    with ground.session() as session:
        return growth(lambda: strike(session, flood)) > GROWTH


def nobody_watches(ground: Ground) -> None:
    async def nothing(self: object) -> None:
        return

    ground.replace(seams.DEATH_WATCHER, nothing)


def die_unnoticed(ground: Ground) -> bool:
    with ground.session(limits=HASTY) as session:
        return strike(session, "os.kill(os.getpid(), signal.SIGKILL)", timeout=1).status != "dead"


def survivors(ground: Ground) -> None:
    killed = """
            try: os.killpg(kernel.pid, signal.SIGKILL)
            except ProcessLookupError: pass
"""
    edit_guest(ground, seams.SWEEP, killed)


def survive_a_restart(ground: Ground) -> bool:
    spawn = """
if (pid := os.fork()) == 0:
    os.setsid()
    time.sleep(60)
    os._exit(0)
while os.getsid(pid) != pid:
    time.sleep(0.01)
answer(pid)
"""
    with ground.session() as session:
        pid = ask(session, spawn)
        session.restart()
        arm(session)
        return bool(ask(session, "answer(os.path.exists(f'/proc/{PID}'))", PID=pid))


def stale_places(ground: Ground) -> None:
    edit_guest(ground, seams.FRESH_PLACES, seams.FRESH_PLACES.text.replace("(", "() and ("))


def infect_the_next_kernel(ground: Ground) -> bool:
    plant = """
import pathlib
startup = pathlib.Path.home() / ".ipython/profile_default/startup"
startup.mkdir(parents=True, exist_ok=True)
(startup / "00-evil.py").write_text("infected = True")
"""
    with ground.session() as session:
        strike(session, plant).raise_for_error()
        session.restart()
        return session.execute("print('infected' in globals())").text == "True\n"


def imports_among_cells(ground: Ground) -> None:
    edit_guest(ground, seams.IMPORTS_AMONG_CELLS, "if True else")


def leave_settings_to_the_next_kernel(ground: Ground) -> bool:
    """For matplotlib, which the small image has not."""
    spec = SandboxSpec(image="datascience", strict=ground.strict)
    with Session(engine=ground.engine, spec=spec) as session:
        opened_sessions.add(session.id)
        arm(session)
        return any(settings_kept(session))


# Files


def any_name(ground: Ground) -> None:
    edit_guest(ground, seams.NAMES_OF_PLACES, "")


def read_beside_the_place(ground: Ground) -> bool:
    with ground.session() as session, contextlib.suppress(FileError):
        return b"root:" in session.files.read("../../etc/passwd")
    return False


def followed_links(ground: Ground) -> None:
    edit_guest(ground, seams.FOLLOWED_LINKS, "")


def read_through_a_link(ground: Ground) -> bool:
    with ground.session() as session:
        strike(session, "os.symlink('/etc/passwd', '/mnt/data/x')").raise_for_error()
        with contextlib.suppress(FileError):
            return b"root:" in session.files.read("x")
    return False


def any_kind_of_file(ground: Ground) -> None:
    edit_guest(ground, seams.OPENED_AT_ONCE, "")
    edit_guest(ground, seams.NO_REGULAR_FILE, "False")


def nodes(ground: Ground) -> None:
    allow(ground, "mknod 133 -; mknodat 259 33")


def make_a_pipe_with_a_name(ground: Ground) -> bool:
    with ground.session() as session:
        return bool(ask(session, "answer(error(os.mkfifo, '/mnt/data/pipe'))") == 0)


def stop_pid_1_by_a_pipe(ground: Ground) -> bool:
    """Whoever opens a pipe without a writer waits for one, and PID 1 serves the whole session."""
    with ground.session() as session:
        strike(session, "os.mkfifo('/mnt/data/x')").raise_for_error()
        reader = threading.Thread(target=_read, args=(session, "x"), daemon=True)
        reader.start()
        asker = threading.Thread(target=_use, args=(session,), daemon=True)
        asker.start()
        asker.join(1.5)
        stopped = asker.is_alive()
        strike(session, "os.close(os.open('/mnt/data/x', os.O_WRONLY | os.O_NONBLOCK))" if stopped else "")
        reader.join(10)
        asker.join(10)
        return stopped


def _read(session: Session, name: str) -> None:
    with contextlib.suppress(SandboxError):
        session.files.read(name)


def _use(session: Session) -> None:
    with contextlib.suppress(SandboxError):
        session.usage()


def any_number_of_bytes(ground: Ground) -> None:
    ground.replace(seams.READ_LIMIT, 2**50)


def hand_over_a_sparse_file(ground: Ground) -> bool:
    """Of 260 MB, which take no room inside."""
    with ground.session(limits=Limits(data_size="512m", memory="2g")) as session:
        strike(session, "os.truncate(os.open('/mnt/data/x', os.O_CREAT | os.O_RDWR), 260 * 2**20)").raise_for_error()
        return growth(lambda: _read(session, "x")) > GROWTH


def uploads_in_place(ground: Ground) -> None:
    edit_guest(ground, seams.UPLOAD_NAME, "parts[-1]")
    edit_guest(ground, seams.UPLOAD_FLAGS, "| os.O_TRUNC ")


def write_through_a_link(ground: Ground) -> bool:
    with ground.session() as session:
        strike(session, "os.symlink('/home/sandbox/through', '/mnt/data/x')").raise_for_error()
        session.files.write("x", b"uploaded")
        return bool(ask(session, "answer(os.path.exists('/home/sandbox/through'))"))


def any_number_of_entries(ground: Ground) -> None:
    edit_guest(ground, seams.MOST_ENTRIES, seams.MOST_ENTRIES.text.replace("10_000", "10**9"))
    ground.replace(seams.LIST_LIMIT, 10**9)


def flood_a_listing(ground: Ground) -> bool:
    make = "for n in range(10_500): os.close(os.open(f'/mnt/data/{n}', os.O_CREAT))"
    with ground.session() as session:
        strike(session, make).raise_for_error()
        with contextlib.suppress(FileError):
            return len(session.files.list()) > 10_000
    return False


REMOVALS = {
    "PID 1 not dumpable": Removal(
        severity="InternalRead", remove=dumpable_pid_1, succeeds=open_the_memory_of_pid_1, noticed="open /proc/1/"
    ),
    "zygote not dumpable": Removal(
        severity="Integrity", remove=dumpable_zygote, succeeds=open_the_memory_of_the_zygote
    ),
    "host stream closed in kernels": Removal(
        severity="Integrity", remove=stream_in_kernels, succeeds=forge_a_word_of_pid_1
    ),
    # Who is to break the protocol must first have the stream.
    "guest protocol: frame size": Removal(
        severity="HostDoS",
        remove=any_frame_of_the_link,
        succeeds=flood_the_link,
        also=("host stream closed in kernels",),
    ),
    "death watcher": Removal(severity="SelfDoS", remove=nobody_watches, succeeds=die_unnoticed),
    "restart leaves no survivor": Removal(severity="Integrity", remove=survivors, succeeds=survive_a_restart),
    "fresh home": Removal(severity="Integrity", remove=stale_places, succeeds=infect_the_next_kernel),
    "imports apart from cells": Removal(
        severity="Integrity", remove=imports_among_cells, succeeds=leave_settings_to_the_next_kernel
    ),
    "files: names resolved inside": Removal(severity="InternalRead", remove=any_name, succeeds=read_beside_the_place),
    "files: links not followed": Removal(severity="InternalRead", remove=followed_links, succeeds=read_through_a_link),
    "no nodes": Removal(severity="HostDoS", remove=nodes, succeeds=make_a_pipe_with_a_name),
    # Of what is no regular file, only a pipe does harm, and the filter lets nobody make one.
    "files: regular files only": Removal(
        severity="SelfDoS", remove=any_kind_of_file, succeeds=stop_pid_1_by_a_pipe, also=("no nodes",)
    ),
    "files: byte cap": Removal(severity="HostDoS", remove=any_number_of_bytes, succeeds=hand_over_a_sparse_file),
    "files: uploads replace": Removal(severity="Integrity", remove=uploads_in_place, succeeds=write_through_a_link),
    "files: listing bounded": Removal(severity="HostDoS", remove=any_number_of_entries, succeeds=flood_a_listing),
}
