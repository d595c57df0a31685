"""The system calls that a sandbox may make, as a profile for Docker and as a filter program for bubblewrap.

An allow-list, for the native architecture only: x32 and 32-bit calls are not let in by another door. Sources:
seccomp(2), the kernel's Documentation/userspace-api/seccomp_filter.rst, and linux/bpf_common.h for the instructions.
"""

from __future__ import annotations

import functools
import json
import platform
import struct

from kernel_sandbox.engines.system_calls import ALLOWED, CONDITIONAL, DENIED, parse

EPERM, ENOSYS = 1, 38
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)."""
SOCKET_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
AF_NETLINK, NETLINK_ROUTE = 16, 0
"""glibc asks for the interfaces over it."""
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux's own, and those that report another kernel release: `setarch` and debuggers ask with the last."""
TIOCSTI = 0x5412
"""The ioctl that types into a terminal. One alone: engines join two conditions on an argument by "or"."""

# linux/audit.h; the place of the architecture in the tables.
AUDIT_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
X32_BIT = 0x40000000

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data; the low halves of the arguments begin at 16, 8 bytes apart (little-endian)."""

Instruction = tuple[int, int, int, int]


def _argument(index: int) -> int:
    return 16 + 8 * index


@functools.cache
def docker_profile() -> str:
    """Return the profile as Docker's JSON, for the `seccomp=` security option; for either architecture."""

    def rule(names: list[str], *conditions: dict[str, object]) -> dict[str, object]:
        return {"names": names, "action": "SCMP_ACT_ALLOW", "args": list(conditions)}

    def equal(index: int, value: int) -> dict[str, object]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    rules = [rule(sorted(parse(ALLOWED)))]
    rules += [rule(["socket"], equal(0, family)) for family in SOCKET_FAMILIES.values()]
    rules.append(rule(["socket"], equal(0, AF_NETLINK), equal(2, NETLINK_ROUTE)))
    rules += [rule(["personality"], equal(0, value)) for value in PERSONALITIES]
    no_namespace = {"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules.append(rule(["clone"], no_namespace))
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    rules.append(rule(["ioctl"], {"index": 1, "value": TIOCSTI, "op": "SCMP_CMP_NE"}))
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})


@functools.cache
def filter_program(machine: str = "") -> bytes:
    """Return the filter as an array of struct sock_filter, for PR_SET_SECCOMP. `machine` is by default this one.

    Raises ValueError for a machine that the tables do not have.
    """
    name = machine or platform.machine()
    if name not in AUDIT_ARCHITECTURES:
        raise ValueError(f"There is no system call filter for {name}.")
    architecture, column = AUDIT_ARCHITECTURES[name]
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, X32_BIT),
        (RETURN, 0, 0, KILL_PROCESS),
    ]
    for low, high in _ranges([numbers[column] for numbers in parse(ALLOWED).values()]):
        program += _allow_range(low, high)
    for rule in _conditional(column):
        program += rule
    last = _last_number(column)
    # A call that is newer than the tables is "not there", so that libraries fall back to what is.
    program += [(JUMP_GREATER_EQUAL, 0, 1, last + 1), (RETURN, 0, 0, ERRNO | ENOSYS), (RETURN, 0, 0, ERRNO | EPERM)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _last_number(column: int) -> int:
    tables = (parse(table) for table in (ALLOWED, CONDITIONAL, DENIED))
    return max(numbers[column] or 0 for table in tables for numbers in table.values())


def _ranges(numbers: list[int | None]) -> list[tuple[int, int]]:
    """Join neighbouring numbers: a third of the comparisons."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(number for number in numbers if number is not None):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _allow_range(low: int, high: int) -> list[Instruction]:
    if low == high:
        return [(JUMP_EQUAL, 0, 1, low), (RETURN, 0, 0, ALLOW)]
    return [(JUMP_GREATER_EQUAL, 0, 2, low), (JUMP_GREATER_EQUAL, 1, 0, high + 1), (RETURN, 0, 0, ALLOW)]


def _conditional(column: int) -> list[list[Instruction]]:
    numbers = {name: found[column] for name, found in parse(CONDITIONAL).items()}
    refused = (RETURN, 0, 0, ERRNO | EPERM)
    allowed = (RETURN, 0, 0, ALLOW)

    def rule(name: str, body: list[Instruction]) -> list[Instruction]:
        """Run `body` for this call only; it always returns."""
        number = numbers[name]
        return [] if number is None else [(JUMP_EQUAL, 0, len(body), number), *body]

    def one_of(argument: int, values: list[int]) -> list[Instruction]:
        tests = [(JUMP_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
        return [(LOAD, 0, 0, _argument(argument)), *tests, refused, allowed]

    netlink = [
        (LOAD, 0, 0, _argument(0)),
        (JUMP_EQUAL, 0, 3, AF_NETLINK),
        (LOAD, 0, 0, _argument(2)),
        (JUMP_EQUAL, 0, 1, NETLINK_ROUTE),
        allowed,
    ]
    return [
        rule("socket", [*netlink, *one_of(0, list(SOCKET_FAMILIES.values()))]),
        rule("personality", one_of(0, list(PERSONALITIES))),
        rule("clone", [(LOAD, 0, 0, _argument(0)), (JUMP_SET, 1, 0, NAMESPACE_FLAGS), allowed, refused]),
        rule("clone3", [(RETURN, 0, 0, ERRNO | ENOSYS)]),
        rule("ioctl", [(LOAD, 0, 0, _argument(1)), (JUMP_EQUAL, 1, 0, TIOCSTI), allowed, refused]),
    ]
