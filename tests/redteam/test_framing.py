"""Bytes instead of messages: what breaks ZMTP or its bounds ends the session at once, and says which rule it broke."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import pytest

from kernel_sandbox import Limits, ProtocolViolation, Session
from tests.redteam.arena import Arena, Bout, Verdict
from tests.redteam.cells import alternating, armed, attack, is_well, strike

VIOLATIONS = {
    "endless parts": ("c.flood(forever(frame(b'x' * 1000, MORE)), 2**28)", "a message of more than 64 parts"),
    "endless empty parts": ("c.flood(forever(frame(b'', MORE) * 1000), 2**28)", "a message of more than 64 parts"),
    "a part of a terabyte": ("c.send(bytes([LONG]) + (2**40).to_bytes(8, 'big'))", "a part of 1,099,511,627,776 bytes"),
    "a part of 2^64 - 1 bytes": ("c.send(bytes([LONG]) + b'\\xff' * 8)", "a part of 18,446,744,073,709,551,615 bytes"),
    "a message of three large parts": (
        "c.flood(forever(frame(bytes(7 * 2**20), MORE)), 2**28)",
        "a message of more than",
    ),
    "unknown flags": ("c.send(b'\\x80\\x01x')", "a frame with unknown flags (0x80)"),
    "every flag": ("c.send(b'\\xff' * 64)", "a frame with unknown flags (0xff)"),
    "a command of several parts": ("c.send(b'\\x05\\x05\\x04PING')", "a command of several parts"),
    "a command of a gigabyte": ("c.send(bytes([LONG | COMMAND]) + (2**30).to_bytes(8, 'big'))", "a command of 1,073,"),
    "endless commands": (
        "c.flood(forever(frame(b'\\x04PING\\0\\0', COMMAND) * 1000), 2**28)",
        "more than 10,000 commands",
    ),
    "endless unknown commands": (
        "c.flood(forever(frame(b'\\x01X', COMMAND) * 1000), 2**28)",
        "more than 10,000 commands",
    ),
    "empty commands": ("c.send(frame(b'', COMMAND) * 3)\ntime.sleep(2)", "a command without a name"),
    "messages of a byte": ("c.flood(forever(bytes([0, 1, 120]) * 1000), 2**28)", "a message of fewer than 100 bytes"),
    "messages of empty parts": (
        "c.flood(forever((frame(b'', MORE) * 6 + frame(b'')) * 1000), 2**28)",
        "a message of fewer than 100 bytes",
    ),
    "a greeting in the middle": ("c.send(GREETING)", "unknown flags"),
}


def assert_ended(session: Session, source: str, reason: str, record_property: Callable[[str, object], None]) -> None:
    """The session ends within a second by a ProtocolViolation with this reason, and a restart makes another."""
    started = time.monotonic()
    execution = strike(session, source, timeout=25)
    record_property("detection", time.monotonic() - started)
    assert execution.status == "dead"
    assert isinstance(execution.cause, ProtocolViolation), execution.cause
    assert reason in str(execution.cause)
    assert time.monotonic() - started < 2


@attack("HostDoS")
@pytest.mark.parametrize(("engine", "violation"), alternating(VIOLATIONS), indirect=["engine"])
def test_bytes_that_break_the_framing_end_the_session(
    fresh: Session, violation: str, record_property: Callable[[str, object], None]
) -> None:
    send, reason = VIOLATIONS[violation]
    assert_ended(fresh, f"c = Connection('iopub')\n{send}\ntime.sleep(20)", reason, record_property)


@attack("HostDoS")
@pytest.mark.parametrize("channel", ["shell", "control", "stdin"])
@pytest.mark.parametrize(("engine", "transport"), [("docker", "forward"), ("bubblewrap", "ipc")], indirect=["engine"])
def test_every_channel_has_its_gate(
    engine: str, channel: str, transport: Literal["ipc", "forward"], record_property: Callable[[str, object], None]
) -> None:
    with armed(engine, transport=transport) as session:
        send = f"c = Connection('{channel}')\nc.flood(forever(frame(b'x' * 1000, MORE)), 2**28)\ntime.sleep(20)"
        assert_ended(session, send, "a message of more than 64 parts", record_property)
        session.restart()
        assert is_well(session)


GREETINGS = {
    "another protocol": "b'HTTP/1.1 200 OK' + bytes(100)",
    "zeros": "bytes(64)",
    "ZMTP 2": "GREETING[:10] + b'\\x01' + GREETING[11:]",
    "the mechanism CURVE": "GREETING[:12] + b'CURVE'.ljust(20, b'\\0') + GREETING[32:]",
    "the mechanism PLAIN": "GREETING[:12] + b'PLAIN'.ljust(20, b'\\0') + GREETING[32:]",
    "a message before the handshake": "GREETING + frame(b'x' * 200)",
    "a message of an earlier ZMTP": "b'\\x01\\x00' + bytes(70)",
}


@attack("HostDoS")
@pytest.mark.parametrize(("engine", "greeting"), alternating(GREETINGS), indirect=["engine"])
def test_greeting_of_another_kind_ends_the_session(
    fresh: Session, greeting: str, record_property: Callable[[str, object], None]
) -> None:
    """The kernel's listening socket is taken from libzmq, and the host connects to the attacker's own."""
    serve = f"Impostor('iopub', lambda client: (client.sendall({GREETINGS[greeting]}), time.sleep(20)))\ntime.sleep(20)"
    reason = "before the handshake" if "handshake" in greeting else "a greeting"
    assert_ended(fresh, serve, reason, record_property)


@attack("SelfDoS")
def test_peer_that_never_greets_costs_a_cell_its_time(engine: str) -> None:
    with armed(engine, limits=Limits(interrupt_grace=0.3)) as session:
        strike(session, "Impostor('shell', lambda client: time.sleep(60))", timeout=0.5)
        assert strike(session, "1 + 1", timeout=0.5).status in ("ok", "timeout")
        session.restart()
        assert is_well(session)


@attack("SelfDoS")
def test_messages_of_an_impostor_are_messages_like_any_others(fresh: Session) -> None:
    serve = """
def serve(client):
    greet(client, "iopub")
    said = stream("from the impostor\\n", parent=PARENT)
    for _ in range(100):
        client.sendall(said)
        time.sleep(0.01)
PARENT = request_id()
Impostor("iopub", serve)
time.sleep(1)
"""
    execution = strike(fresh, serve)
    assert execution.text.startswith("from the impostor\n")
    fresh.restart()
    assert is_well(fresh)


MOST_LATENCY = 100.0
"""Milliseconds of the neighbour's 99th percentile."""


def fight(ring: Arena, bout: Bout) -> Verdict:
    """Run a bout; a machine that is busy otherwise only adds to latencies: the first of three that is well."""
    for _ in range(3):
        verdict = ring.fight(bout, 90)
        if verdict.latency(0.99) < MOST_LATENCY:
            break
    return verdict


@attack("PeerDoS")
@pytest.mark.parametrize("channel", ["shell", "control"])
def test_handshake_that_breaks_off_stops_nobody_else(ring: Arena, channel: str) -> None:
    """libzmq gives such a connection up for good: whoever then waited in a send would wait for ever, with the loop."""
    broken = "GREETING + frame(b'\\x05READY' + b'\\x0bSocket-Type' + (2**31).to_bytes(4, 'big') + b'XPUB', COMMAND)"
    source = f"Impostor('{channel}', lambda client: (client.sendall({broken}), time.sleep(9)))\ntime.sleep(0.5)"
    verdict = fight(ring, Bout(source=source, limits={"interrupt_grace": 0.3}, timeout=1, after=2))
    assert verdict.latency(0.99) < verdict.bearable(MOST_LATENCY)
    assert verdict.left == {}


@attack("HostDoS")
@pytest.mark.parametrize("transport", ["ipc", "forward"])
@pytest.mark.parametrize(
    ("engine", "way"), [("docker", "at once"), ("bubblewrap", "after the handshake")], indirect=["engine"]
)
def test_peer_that_hangs_up_again_and_again_costs_the_host_little(ring: Arena, way: str, transport: str) -> None:
    """Over the forwarded stream each of its connections is a channel of PID 1's."""
    said = "pass" if way == "at once" else "greet(client, 'stdin')"
    serve = f"def serve(client):\n    {said}\nimpostor = Impostor('stdin', serve)\n"
    verdict = fight(ring, Bout(source=f"{serve}time.sleep(1)\nprint(impostor.served)", transport=transport))
    assert (verdict.status, verdict.after) == ("ok", "ok")
    assert int(verdict.text) > 4  # a connection that is cut is made again, less and less often
    assert verdict.growth < 32
    assert verdict.latency(0.99) < verdict.bearable(MOST_LATENCY)
    assert verdict.left == {}


@attack("HostDoS")
def test_descriptors_that_are_passed_are_not_taken(ring: Arena) -> None:
    """A unix socket carries open files beside its bytes (unix(7), SCM_RIGHTS): the host reads the bytes alone."""
    source = """
said = stream("passed\\n")
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
c = Connection("iopub")
for _ in range(4):  # the kernel holds no more on their way than a process may have open
    select.select([], [c.socket], [], 5)
    socket.send_fds(c.socket, [said], held)
"""
    verdict = ring.fight(Bout(source=source))
    assert (verdict.status, verdict.after) == ("ok", "ok")
    assert verdict.text == "passed\n" * 4
    assert verdict.left == {}
