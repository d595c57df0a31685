"""What stands between a kernel's sockets and this process: the gate, and the session's own client."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from types import SimpleNamespace

from kernel_sandbox import Limits, ProtocolViolation, Session
from tests.redteam.arena import MEGABYTE
from tests.redteam.cells import strike
from tests.redteam.without import seams
from tests.redteam.without.guest import HASTY
from tests.redteam.without.removal import GROWTH, Ground, Removal, growth

# The gate

BOUNDLESS = 2**62


def unbounded(ground: Ground, **bounds: int) -> None:
    honest = seams.GATE_BOUNDS.current
    ground.replace(seams.GATE_BOUNDS, lambda limits: dataclasses.replace(honest(limits), **bounds))


def _grows(ground: Ground, source: str) -> bool:
    with ground.session() as session:
        return growth(lambda: strike(session, source, timeout=10)) > GROWTH


def any_greeting(ground: Ground) -> None:
    ground.replace(seams.GREETING, lambda greeting: "")


OLDER = """
# A peer of ZMTP 2 (RFC 15): another client of the kernel would go on in that, whose frames the gate does not read.
Impostor("iopub", lambda client: (client.sendall(GREETING[:10] + b"\\x01" + GREETING[11:]), time.sleep(5)))
time.sleep(1)
"""


def speak_an_older_protocol(ground: Ground) -> bool:
    return _lives_on(ground, OLDER)


def send_a_large_part(ground: Ground) -> bool:
    size = 150 * MEGABYTE
    send = f"c.send(bytes([LONG]) + ({size}).to_bytes(8, 'big')); c.flood(forever(bytes(2**20)), {size})"
    return _grows(ground, f"c = Connection('iopub', patience=1)\n{send}\ntime.sleep(1)")


def send_many_large_parts(ground: Ground) -> bool:
    send = f"c.flood(forever(frame(bytes(7 * 2**20), MORE)), {150 * MEGABYTE})"
    return _grows(ground, f"c = Connection('iopub', patience=1)\n{send}\ntime.sleep(1)")


def send_many_empty_parts(ground: Ground) -> bool:
    """Each takes four bytes on the way, and 43 where it is read."""
    send = "c.flood(forever(frame(b'ab', MORE) * 100_000), 16_000_000)"
    return _grows(ground, f"c = Connection('iopub', patience=1)\n{send}\ntime.sleep(2)")


def send_a_large_command(ground: Ground) -> bool:
    size = 150 * MEGABYTE
    head = f"bytes([LONG | COMMAND]) + ({size}).to_bytes(8, 'big')"
    send = f"c.send({head}); c.flood(forever(bytes(2**20)), {size})"
    return _grows(ground, f"c = Connection('iopub', patience=1)\n{send}\ntime.sleep(1)")


def send_commands_without_end(ground: Ground) -> bool:
    """Each costs the host an answer; 50,000 are taken as if it were nothing."""
    send = "print(c.flood(forever(frame(b'\\x04PING\\0\\0', COMMAND) * 1000), 450_000))"
    return _lives_on(ground, f"c = Connection('iopub', patience=2)\n{send}\ntime.sleep(0.5)")


def send_crumbs(ground: Ground) -> bool:
    send = "c.flood(forever(bytes([0, 1, 120]) * 1000), 60_000)"
    return _lives_on(ground, f"c = Connection('iopub', patience=2)\n{send}\ntime.sleep(0.5)")


def any_number_of_violations(ground: Ground) -> None:
    ground.replace(seams.MOST_INVALID, 10**9)


def send_what_is_invalid(ground: Ground) -> bool:
    """Two thousand messages that nobody honest sends, read one by one."""
    send = "said = stream('x', key=b'another')\nfor _ in range(2000): c.send(said)"
    return _lives_on(ground, f"c = Connection('iopub', patience=2)\n{send}\ntime.sleep(0.5)")


def _lives_on(ground: Ground, source: str) -> bool:
    """Whether the attack ends without the session's end."""
    with ground.session() as session:
        execution = strike(session, source, timeout=15)
        assert execution.status != "dead" or isinstance(execution.cause, ProtocolViolation)
        return execution.status == "ok"


# The session's own client


def any_handshake(ground: Ground) -> None:
    """A handshake that breaks off is waited for, as libzmq does."""
    honest = seams.HANDSHAKE.current
    ground.replace(seams.HANDSHAKE, lambda self: honest(self) and "")


BROKEN_OFF = """
broken = GREETING + frame(b"\\x05READY" + b"\\x0bSocket-Type" + (2**31).to_bytes(4, "big") + b"XPUB", COMMAND)
Impostor("control", lambda client: (client.sendall(broken), time.sleep(9)))
time.sleep(0.5)
"""


def break_the_handshake_off(ground: Ground) -> bool:
    """Nobody hears of it: each cell would wait for its time."""
    return _lives_on(ground, BROKEN_OFF)


def read_on(ground: Ground) -> None:
    ground.replace(seams.BACK_PRESSURE, lambda self, paused: None)


FLOOD = """
c = Connection("iopub", patience=6)
c.flood(forever(stream("x") * 2000), 2**28)
"""


def flood_faster_than_is_read(ground: Ground) -> bool:
    """Small messages: a buffer of them is received in a tenth of the time that it takes to read them."""
    return _grows(ground, FLOOD)


def countable_ids(ground: Ground) -> None:
    counter = itertools.count(1)
    ground.replace(seams.MESSAGE_IDS, SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{next(counter):032x}")))


FORGE = """
c, d = Connection("iopub"), Connection("shell")
said = []
for n in range(1, 60):
    guess = f"{n:032x}"
    said.append((stream("forged\\n", parent=guess) + say("iopub", "status", {"execution_state": "idle"}, parent=guess),
                 say("shell", "execute_reply", {"status": "ok", "execution_count": 99, "payload": []}, parent=guess)))
if os.fork() == 0:  # a process that never learns the id of a later cell
    os.setsid()
    for _ in range(100):
        for output, reply in said: c.send(output); d.send(reply)
        time.sleep(0.02)
    os._exit(0)
"""


def answer_for_the_next_cell(ground: Ground) -> bool:
    with ground.session() as session:
        strike(session, FORGE).raise_for_error()
        answered = session.execute("import time; time.sleep(0.7); print('its own')", timeout=5)
        return answered.execution_count == 99 or "its own" not in answered.text


def any_other_client(ground: Ground) -> None:
    ground.replace(seams.OTHER_CLIENTS, lambda self: True)


def be_busy_for_nobody(ground: Ground) -> bool:
    """The kernel says that it works for a client that is not there: no cell is sent meanwhile."""
    forged = "c = Connection('iopub')\nc.send(say('iopub', 'status', {'execution_state': 'busy'}, parent='f' * 32))"
    with ground.session(limits=HASTY) as session:
        strike(session, forged)
        time.sleep(0.3)
        cell = threading.Thread(target=lambda: session.execute("open('/mnt/data/ran', 'w').close()"), daemon=True)
        cell.start()
        cell.join(3)
        return cell.is_alive()


def endless_grace(ground: Ground) -> None:
    ground.replace(seams.IDLE_GRACE, 600.0)


def never_be_idle(ground: Ground) -> bool:
    quiet = """
session = kernel().session
send = session.send
def quiet(stream, kind, content=None, *rest, **named):
    if kind != "status" or content["execution_state"] != "idle": return send(stream, kind, content, *rest, **named)
session.send = quiet
"""
    with ground.session(limits=HASTY) as session:
        return strike(session, quiet, timeout=3).status == "timeout"


def no_last_step(ground: Ground) -> None:
    async def nothing(self: object, because: str) -> None:
        return

    ground.replace(seams.LAST_STEP, nothing)


def hear_nothing(ground: Ground) -> bool:
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nos.kill(os.getpid(), signal.SIGSTOP)"
    with ground.session(limits=Limits(interrupt_grace=0.2, cell_timeout=2)) as session:
        strike(session, deaf, timeout=0.3)
        return not is_well_soon(session)


def is_well_soon(session: Session) -> bool:
    return session.execute("print(6 * 7)", timeout=1).text == "42\n"


REMOVALS = {
    "gate: greeting": Removal(severity="HostDoS", remove=any_greeting, succeeds=speak_an_older_protocol),
    # A part that is larger than all parts may be together is held by that, too.
    "gate: frame size": Removal(
        severity="HostDoS",
        remove=lambda ground: unbounded(ground, frame=BOUNDLESS),
        succeeds=send_a_large_part,
        also=("gate: message size",),
    ),
    "gate: message size": Removal(
        severity="HostDoS",
        remove=lambda ground: unbounded(ground, message=BOUNDLESS),
        succeeds=send_many_large_parts,
    ),
    "gate: parts per message": Removal(
        severity="HostDoS", remove=lambda ground: unbounded(ground, parts=BOUNDLESS), succeeds=send_many_empty_parts
    ),
    "gate: command size": Removal(
        severity="HostDoS", remove=lambda ground: unbounded(ground, command=BOUNDLESS), succeeds=send_a_large_command
    ),
    "gate: number of commands": Removal(
        severity="HostDoS",
        remove=lambda ground: unbounded(ground, commands=BOUNDLESS),
        succeeds=send_commands_without_end,
    ),
    # What is too small for a message of Jupyter's is no valid one either.
    "gate: least message size": Removal(
        severity="PeerDoS",
        remove=lambda ground: unbounded(ground, least=0),
        succeeds=send_crumbs,
        also=("bound on violations",),
    ),
    "bound on violations": Removal(severity="PeerDoS", remove=any_number_of_violations, succeeds=send_what_is_invalid),
    "client: handshake": Removal(severity="PeerDoS", remove=any_handshake, succeeds=break_the_handshake_off),
    "back-pressure": Removal(severity="HostDoS", remove=read_on, succeeds=flood_faster_than_is_read),
    "random message ids": Removal(severity="Integrity", remove=countable_ids, succeeds=answer_for_the_next_cell),
    "other clients as the gate counts them": Removal(
        severity="Integrity", remove=any_other_client, succeeds=be_busy_for_nobody
    ),
    "idle grace": Removal(severity="SelfDoS", remove=endless_grace, succeeds=never_be_idle),
    "escalation: restart": Removal(severity="SelfDoS", remove=no_last_step, succeeds=hear_nothing),
}
