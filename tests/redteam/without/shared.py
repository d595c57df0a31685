"""What the host's kernel has once for everybody, or counts for nobody: what takes it is refused."""

from __future__ import annotations

from kernel_sandbox import Limits, Mount
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from tests.redteam import kernel_side
from tests.redteam.cells import ask, strike
from tests.redteam.kernel_side import MEGABYTE
from tests.redteam.test_shared import FILTER, HOARD_CONNECTIONS, TAKE_TERMINALS
from tests.redteam.without import seams
from tests.redteam.without.edits import allow, edit_guest, edit_preparation, let_through
from tests.redteam.without.removal import BOTH, Ground, Removal
from tests.redteam.without.rights import IN_CHILD, number

CACHED = 8 * MEGABYTE


def datagrams(ground: Ground) -> None:
    let_through(ground, "socket")


def fill_buffers_with_datagrams(ground: Ground) -> bool:
    """A hundred megabytes, of which nothing counts as the sandbox's."""
    fill = """
held = []
for _ in range(40):
    held.append(receiver := socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    receiver.bind(("127.0.0.1", 0))
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
    for _ in range(60): receiver.sendto(b"x" * 60_000, receiver.getsockname())
"""
    before = kernel_side.socket_buffers("UDP")
    with ground.session() as session:
        session.execute(fill)
        return kernel_side.socket_buffers("UDP") - before > 64 * MEGABYTE


def hoard_answers(ground: Ground) -> bool:
    """Fifty megabytes of what the kernel answered, which nobody reads."""
    hoard = """
import struct
held = []
for _ in range(8):
    held.append(link := socket.socket(16, socket.SOCK_RAW, 0))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
    link.bind((0, 0))
    question = struct.pack("=IHHII", 32, 18, 1, 1, 0) + struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0)  # RTM_GETLINK, lo
    for _ in range(8000): link.send(question)
"""
    before = kernel_side.memory("SUnreclaim")
    with ground.session() as session:
        session.execute(hoard)
        return kernel_side.memory("SUnreclaim") - before > 32 * MEGABYTE


def attach_a_filter_to_a_socket(ground: Ground) -> bool:
    attach = f"""{FILTER}
with socket.socket(socket.AF_UNIX) as held: answer(error(held.setsockopt, 1, 26, program(64)))
"""
    with ground.session() as session:
        return bool(ask(session, attach) == 0)


def filter_itself(ground: Ground) -> bool:
    compile_one = f"""{IN_CHILD}{FILTER}
described = ctypes.create_string_buffer(program(64))
answer(call(N, 22, 2, ctypes.addressof(described), 0, 0))
"""
    with ground.session() as session:
        return bool(ask(session, compile_one, N=number("prctl")) == 0)


def syncs(ground: Ground) -> None:
    allow(ground, "sync 162 81; syncfs 306 267")


def have_the_disks_written(ground: Ground) -> bool:
    """What a host program has just written is on the disk at once."""
    with ground.session() as session:
        return kernel_side.is_written_by(lambda: ask(session, "os.sync(); answer(0)"), ground.path)


def drop_what_others_read(ground: Ground) -> bool:
    file = ground.path / "shown"
    with file.open("wb") as written:
        written.write(b"x" * CACHED)
        kernel_side.write_out(written)
    ground.path.chmod(0o755)
    drop = "answer(error(os.posix_fadvise, os.open('/mnt/input/shown', os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED))"
    with ground.session(mounts=(Mount(file),)) as session:
        ask(session, drop)
        pages = kernel_side.pages_of(file)
        return pages is not None and pages[0] == 0


def any_buffers(ground: Ground) -> None:
    ground.replace(seams.CONTAINER_GROUPS, lambda *given: ControlGroup())
    honest = seams.GROUP_VALUES_V1.current
    ground.replace(seams.GROUP_VALUES_V1, lambda *given: [pair for pair in honest(*given) if "tcp" not in pair[0]])


def fill_buffers_of_connections(ground: Ground) -> bool:
    fill = """
held, listener = [], socket.create_server(("127.0.0.1", 0))
for _ in range(40):
    held.append(one := socket.create_connection(listener.getsockname()))
    held.append(other := listener.accept()[0])
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(64): one.send(b"x" * 2**16)
"""
    before = kernel_side.socket_buffers("TCP")
    with ground.session(limits=Limits(memory="256m")) as session:
        session.execute(fill)
        return kernel_side.socket_buffers("TCP") - before > 60 * MEGABYTE


def any_connections(ground: Ground) -> None:
    edit_guest(ground, seams.MOST_SOCKETS, seams.MOST_SOCKETS.text.replace("2048", "10**9"))


def hoard_connections(ground: Ground) -> bool:
    with ground.session(limits=Limits(memory="256m")) as session:
        return strike(session, HOARD_CONNECTIONS, timeout=30).status == "ok"


def any_terminals(ground: Ground) -> None:
    ground.replace(seams.CONTAINER_GROUPS, lambda *given: ControlGroup())
    edit_preparation(ground, lambda config: config.update(terminals=4096))


def take_terminals(ground: Ground) -> bool:
    with ground.session() as session:
        return bool(ask(session, f"{TAKE_TERMINALS}\nanswer(take())") == 400)


REMOVALS = {
    "socket buffers bounded": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=any_buffers,
        succeeds=fill_buffers_of_connections,
        noticed="no limit for the buffers of TCP sockets",
    ),
    "TCP sockets watched": Removal(severity="HostDoS", remove=any_connections, succeeds=hoard_connections),
    "terminals bounded": Removal(
        severity="PeerDoS",
        engines=BOTH,
        remove=any_terminals,
        succeeds=take_terminals,
        noticed="all pseudo-terminals of the machine",
    ),
    # The bound for buffers holds those of datagrams, too.
    "streams only": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=datagrams,
        succeeds=fill_buffers_with_datagrams,
        also=("socket buffers bounded",),
    ),
    "netlink refused": Removal(severity="HostDoS", engines=BOTH, remove=datagrams, succeeds=hoard_answers),
    "socket options": Removal(
        severity="PeerDoS",
        engines=BOTH,
        remove=lambda ground: let_through(ground, "setsockopt"),
        succeeds=attach_a_filter_to_a_socket,
    ),
    "filters refused": Removal(
        severity="PeerDoS",
        engines=BOTH,
        remove=lambda ground: let_through(ground, "prctl"),
        succeeds=filter_itself,
    ),
    "sync refused": Removal(severity="HostDoS", engines=BOTH, remove=syncs, succeeds=have_the_disks_written),
    "page cache kept": Removal(
        severity="PeerDoS",
        engines=BOTH,
        remove=lambda ground: let_through(ground, "fadvise64"),
        succeeds=drop_what_others_read,
    ),
}
