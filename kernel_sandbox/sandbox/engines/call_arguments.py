"""The arguments with which a sandbox may make the system calls that are neither allowed nor denied as a whole.

Values only; seccomp.py makes both engines' filters of them. Numbers are those of the kernel's headers (linux/prctl.h,
asm-generic/ioctls.h, asm-generic/socket.h, linux/tcp.h, linux/fadvise.h), the same on every architecture that we have.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

WHOLE = 0xFFFFFFFF
"""The kernel takes these arguments as 32 bits. libseccomp compares 64, so that "not equal" would let a value with
high bits through: each condition here masks them off."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds where the argument, masked, is `value`."""

    argument: int
    value: int
    mask: int = WHOLE


Rule = tuple[Condition, ...]
"""A call with these arguments is let through: all conditions hold, each on an argument of its own (engines join two on
the same one by "or")."""

NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)."""
AF_UNIX, AF_NETLINK, INTERNET_FAMILIES = 1, 16, (2, 10)
"""No other family: it would reach out of the sandbox, or be another protocol of the kernel's to attack. Netlink is none
either: what the kernel answers there is counted for nobody, 8 MB a socket."""
SOCK_STREAM, TYPE_MASK = 1, 0xF
STREAM_PROTOCOLS = (0, 6)
"""TCP alone: buffers of UDP, UDP-Lite, ICMP, SCTP and MPTCP are counted for nobody (control groups v1)."""
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux's own, and those that report another kernel release: `setarch` and debuggers ask with the last."""
TERMINAL_ORDERS = (0x5412, 0x541C, 0x5423)
"""TIOCSTI types into a terminal, TIOCLINUX too; TIOCSETD loads line disciplines, each a driver of the kernel."""
NETWORK_ORDERS = (0x8940, 0x8941, 0x8980, 0x8981, 0x8982, 0x8983)
"""SIOCGIFBR, SIOCSIFBR, SIOCADDDLCI, SIOCDELDLCI, SIOCGIFVLAN, SIOCSIFVLAN: the kernel loads a module (bridge, dlci,
8021q) before it looks who asks (net/socket.c, sock_ioctl)."""
PR_SET_SECCOMP, PR_SCHED_CORE = 22, 62
PROCESS_ORDERS = (PR_SET_SECCOMP, PR_SCHED_CORE)
"""PR_SET_SECCOMP: filters are compiled into memory that has a limit per machine. PR_SCHED_CORE: whoever shares
a processor core with the sandbox would have to wait."""
SOCKET_ORDERS = (26, 50, 51, 52)
"""SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF: compiled as those."""
TCP_ORDERS = (14, 31, 32, 38, 39, 40)
"""TCP_MD5SIG, TCP_ULP, TCP_MD5SIG_EXT, TCP_AO_…: keys in memory that is counted for nobody, and drivers."""
IP_OPTIONS = (1, 2, 10, 11, 24)
"""IP_TOS, IP_TTL, IP_MTU_DISCOVER, IP_RECVERR, IP_BIND_ADDRESS_NO_PORT."""
IPV6_OPTIONS = (16, 25, 26, 67)
"""IPV6_UNICAST_HOPS, IPV6_RECVERR, IPV6_V6ONLY, IPV6_TCLASS."""
SOL_IP, SOL_SOCKET, SOL_TCP, SOL_IPV6 = 0, 1, 6, 41
OPTIONS_END = 128
"""No socket option has a higher number yet."""
FILE_ADVICE = (0, 1, 2, 3, 5)
"""All but POSIX_FADV_DONTNEED, which takes pages from everybody who reads the same file."""
PRIO_PROCESS, IOPRIO_WHO_PROCESS, SCHED_OTHER = 0, 1, 0


def one_of(argument: int, values: Iterable[int]) -> tuple[Rule, ...]:
    """Return rules that let these values through."""
    return tuple((Condition(argument, value),) for value in values)


def none_of(argument: int, values: Iterable[int], below: int = 2**32) -> tuple[Rule, ...]:
    """Return rules that let every value but these through, and none from `below` (a power of two) on.

    Each lets through what begins with bits that none of `values` begins with.
    """
    refused, rules = tuple(values), []
    waiting = [(0, below.bit_length() - 1)]
    while waiting:
        start, bits = waiting.pop()
        if not any(value >> bits == start for value in refused):
            rules.append((Condition(argument, start << bits, WHOLE & (WHOLE << bits)),))
        elif bits:
            waiting += [(start << 1, bits - 1), (start << 1 | 1, bits - 1)]
    return tuple(rules)


def rules() -> dict[str, tuple[Rule, ...]]:
    """Return the rules of each conditional system call, by name: it is let through where one of them holds."""
    itself = Condition(0, 0)
    """Whoever calls, and no other process: what PID 1 is given would outlive a restart."""
    return {
        "socket": _socket_rules(),
        "socketpair": one_of(0, (AF_UNIX,)),
        "setsockopt": _option_rules(),
        "personality": one_of(0, PERSONALITIES),
        "clone": ((Condition(0, 0, NAMESPACE_FLAGS),),),
        "ioctl": none_of(1, (*TERMINAL_ORDERS, *NETWORK_ORDERS)),
        "prctl": none_of(0, PROCESS_ORDERS),
        "fadvise64": one_of(3, FILE_ADVICE),
        "prlimit64": ((itself,),),
        "setpriority": ((Condition(0, PRIO_PROCESS), Condition(1, 0)),),
        "ioprio_set": ((Condition(0, IOPRIO_WHO_PROCESS), Condition(1, 0)),),
        "sched_setaffinity": ((itself,),),
        "sched_setattr": ((itself,),),
        "sched_setparam": ((itself,),),
        # glibc names a thread by its id, and libzmq aborts where it cannot set the policy that a thread has anyway.
        "sched_setscheduler": ((itself,), (Condition(1, SCHED_OTHER),)),
    }


def template_rules() -> dict[str, tuple[Rule, ...]]:
    """Return what a template may do besides: hold a sandbox that it has forked to the filter of sandboxes."""
    return {"prctl": none_of(0, (PR_SCHED_CORE,))}


def refusals() -> dict[str, tuple[Rule, int]]:
    """Return what is refused with an error of its own, by name; all else that is refused gives EPERM."""
    return {
        "clone3": ((), errno.ENOSYS),  # a filter cannot read its arguments, and the C library falls back to clone
        # libzmq looks for the interface "127.0.0.1" first, and aborts where that fails in any other way.
        "socket": ((Condition(0, AF_NETLINK),), errno.EOPNOTSUPP),
    }


def _socket_rules() -> tuple[Rule, ...]:
    streams = [
        (Condition(0, family), Condition(1, SOCK_STREAM, TYPE_MASK), Condition(2, protocol))
        for family in INTERNET_FAMILIES
        for protocol in STREAM_PROTOCOLS
    ]
    return ((Condition(0, AF_UNIX),), *streams)


def _option_rules() -> tuple[Rule, ...]:
    by_level = {
        SOL_SOCKET: none_of(2, SOCKET_ORDERS, OPTIONS_END),
        SOL_TCP: none_of(2, TCP_ORDERS, OPTIONS_END),
        SOL_IP: one_of(2, IP_OPTIONS),
        SOL_IPV6: one_of(2, IPV6_OPTIONS),
    }
    return tuple((Condition(1, level), *rule) for level, options in by_level.items() for rule in options)
