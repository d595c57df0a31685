"""The system calls that a sandbox may make, as a profile for Docker and as a filter program for bubblewrap.

An allow-list, for the native architecture only: x32 and 32-bit calls are not let in by another door. Sources:
seccomp(2), the kernel's Documentation/userspace-api/seccomp_filter.rst, and linux/bpf_common.h for the instructions.
"""

from __future__ import annotations

import functools
import json
import platform
import struct
from collections.abc import Mapping

from kernel_sandbox.sandbox.engines import call_arguments
from kernel_sandbox.sandbox.engines.call_arguments import WHOLE, Rule, refusals
from kernel_sandbox.sandbox.engines.system_calls import ALLOWED, CONDITIONAL, DENIED, TEMPLATE, parse

EPERM, ENOSYS = 1, 38

# linux/audit.h; the place of the architecture in the tables.
AUDIT_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
X32_BIT = 0x40000000

LOAD, AND, JUMP, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data; the low halves of the arguments begin at 16, 8 bytes apart (little-endian)."""

Instruction = tuple[int, int, int, int]
Numbers = tuple[int | None, int | None]


def _argument(index: int) -> int:
    return 16 + 8 * index


@functools.cache
def docker_profile() -> str:
    """Return the profile as Docker's JSON, for the `seccomp=` security option; for either architecture."""

    def entry(names: list[str], rule: Rule, **action: object) -> dict[str, object]:
        conditions = [
            {"index": part.argument, "value": part.mask, "valueTwo": part.value, "op": "SCMP_CMP_MASKED_EQ"}
            for part in rule
        ]
        return {"names": names, "args": conditions, **action}

    entries = [entry(sorted(parse(ALLOWED)), (), action="SCMP_ACT_ALLOW")]
    for name, allowed in call_arguments.rules().items():
        entries += [entry([name], rule, action="SCMP_ACT_ALLOW") for rule in allowed]
    for name, (rule, error) in refusals().items():
        entries.append(entry([name], rule, action="SCMP_ACT_ERRNO", errnoRet=error))
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries})


@functools.cache
def filter_program(machine: str = "") -> bytes:
    """Return the filter as an array of struct sock_filter, for PR_SET_SECCOMP. `machine` is by default this one.

    Raises ValueError for a machine that the tables do not have.
    """
    return _program(machine, parse(ALLOWED), call_arguments.rules())


@functools.cache
def template_program(machine: str = "") -> bytes:
    """Return the filter of a template: that of its sandboxes, and what it takes to make namespaces and filters."""
    denied = parse(DENIED)
    more = {name: denied[name] for name in TEMPLATE}
    return _program(machine, parse(ALLOWED) | more, call_arguments.rules() | call_arguments.template_rules())


def _program(machine: str, allowed: dict[str, Numbers], rules: Mapping[str, tuple[Rule, ...]]) -> bytes:
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
    for low, high in _ranges([found[column] for found in allowed.values()]):
        program += _allow_range(low, high)
    for called, numbers in parse(CONDITIONAL).items():
        program += _for_call(numbers[column], _by_arguments(called, rules))
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


def _for_call(number: int | None, body: list[Instruction]) -> list[Instruction]:
    """Run `body` for this call alone; nothing where the architecture has none."""
    if number is None:
        return []
    # A conditional jump leads 255 instructions on at most.
    return [(JUMP_EQUAL, 1, 0, number), (JUMP, 0, 0, len(body)), *body]


def _by_arguments(called: str, rules: Mapping[str, tuple[Rule, ...]]) -> list[Instruction]:
    """Judge a conditional call; every path through this returns."""
    steps = [step for rule in rules.get(called, ()) for step in _return_where(rule, ALLOW)]
    if called in refusals():
        rule, error = refusals()[called]
        steps += _return_where(rule, ERRNO | error)
    return [*steps, (RETURN, 0, 0, ERRNO | EPERM)]


def _return_where(rule: Rule, verdict: int) -> list[Instruction]:
    """Return `verdict` where all conditions hold; go on behind this where one does not."""
    steps: list[Instruction] = [(RETURN, 0, 0, verdict)]
    for part in reversed(rule):
        masking = [] if part.mask == WHOLE else [(AND, 0, 0, part.mask)]
        steps = [(LOAD, 0, 0, _argument(part.argument)), *masking, (JUMP_EQUAL, 0, len(steps), part.value), *steps]
    return steps
