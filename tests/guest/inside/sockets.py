"""How much memory the sockets of one small session hold: `python -m tests.guest.inside.sockets ENGINE`.

Version 2 of control groups counts their buffers as the group's memory.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from kernel_sandbox import Limits, Session
from tests.guest.inside.judging import available, expect, figure

MEMORY = 256 * 1024**2
SLACK = 96 * 1024**2
"""What the machine itself may need meanwhile: the kernel's caches, this process."""
FILL = """
import contextlib, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.create_server(("127.0.0.1", 0))
def tcp():
    one = socket.create_connection(listener.getsockname())
    return one, listener.accept()[0]
def unix():
    return socket.socketpair()
def fill(pair):
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        with contextlib.suppress(BlockingIOError):
            while True: sent[0] += end.send(bytes(1 << 16))
held, sent = [], [0]
"""
GROW = """
with contextlib.suppress(OSError):
    for _ in range({count}):
        held.append({kind}())
        fill(held[-1])
print(len(held), "pairs hold", sent[0] >> 20, "MB")
"""


def main() -> None:
    (engine,) = sys.argv[1:]
    for kind in ("tcp", "unix"):
        with (
            Session(engine=engine, image="python", limits=Limits(memory=MEMORY)) as session,
            least_available() as least,
        ):
            session.execute(FILL).raise_for_error()
            before = available()
            for _ in range(8):
                filled = session.execute(GROW.format(kind=kind, count=60), timeout=120)
                if filled.status != "ok":
                    break
            lost = before - min(least)
            told = filled.text.strip() if filled.status == "ok" else f"{filled.status}: {filled.cause}"
        figure(f"{kind}: the machine lost {lost >> 20} MB; {told}")
        expect(lost < MEMORY + SLACK, f"{kind} sockets of a session of {MEMORY >> 20} MB held {lost >> 20} MB")


@contextlib.contextmanager
def least_available() -> Iterator[list[int]]:
    """Have a list whose one item is the least memory that was available meanwhile."""
    least, over = [available()], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            least[0] = min(least[0], available())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield least
    finally:
        over.set()
        looking.join()


if __name__ == "__main__":
    main()
