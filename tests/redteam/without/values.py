"""What stands between the bytes of a variable and the memory of the host that `session.get` makes of them."""

from __future__ import annotations

import weakref
from typing import Any

import pandas

from kernel_sandbox import Session, VariableError
from kernel_sandbox.inside.variables import packing, unpacking
from tests.redteam.cells import strike
from tests.redteam.without import seams
from tests.redteam.without.removal import GROWTH, Ground, Removal, growth

PLANT = """
import builtins, io
honest = builtins.open
def planted(path, mode="r", *rest, **named):
    if mode != "wb" or "/.kernel-sandbox/" not in str(path):
        return honest(path, mode, *rest, **named)
    with honest(path, mode) as file: file.write(packed())
    return io.BytesIO()
builtins.open = planted
x = 1
def value(columns, rows, *parts):
    head = {"kind": "frame", "columns": columns, "index": {"range": [0, rows, 1], "names": [None]}}
    head["names"] = {"range": [0, len(columns), 1], "names": [None]}
    text = json.dumps({"value": head, "parts": [len(part) for part in parts]}).encode()
    return b"KSV2" + len(text).to_bytes(4, "little") + text + b"".join(parts)
"""
"""Has the kernel write bytes of the attacker's where `session.get` has it write a variable."""
ONE_FOR_MANY = """
def packed():
    head = b"{'descr': '|i1', 'fortran_order': False, 'shape': (1000000,)}".ljust(117) + b"\\n"
    part = b"\\x93NUMPY\\x01\\x00" + len(head).to_bytes(2, "little") + head + bytes(10**6)
    return value([{"kind": "plain", "part": 0}] * 300, 10**6, part)
"""
MANY_COLUMNS = """
def packed():
    return value([{"kind": "objects", "values": [1]}] * 100_000, 1)
"""
MANY_PARTS = """
def packed():
    text = b'{"value": {"kind": "json", "value": 1}, "parts": [' + b"0," * 3_000_000 + b"0]}"
    return b"KSV2" + len(text).to_bytes(4, "little") + text
"""


def fetch(session: Session, planted: str) -> str:
    """Have the host read what a cell planted in the place of a variable; return what it said."""
    strike(session, PLANT + planted).raise_for_error()
    try:
        session.get("x")
    except VariableError as exc:
        return str(exc)
    return ""


def multiply_memory(ground: Ground, planted: str) -> bool:
    fetch_nothing()
    with ground.session() as session:
        return growth(lambda: fetch(session, planted)) > GROWTH


def fetch_nothing() -> None:
    """Have pandas loaded before anything is measured."""
    unpacking.unpack(packing.pack(pandas.DataFrame({"n": [1]}), 10**6))


def parts_for_many(ground: Ground) -> None:
    honest = seams.PART_OF_A_VALUE.current
    taken: weakref.WeakKeyDictionary[object, dict[Any, Any]] = weakref.WeakKeyDictionary()

    def part(self: object, place: Any) -> Any:
        parts = taken.setdefault(self, {})
        if place not in parts:
            parts[place] = honest(self, place)
        return parts[place]

    ground.replace(seams.PART_OF_A_VALUE, part)


def any_number_of_columns(ground: Ground) -> None:
    ground.replace(seams.COLUMNS_OF_A_VALUE, 10**9)


REMOVALS = {
    "values: each part once": Removal(
        severity="HostDoS", remove=parts_for_many, succeeds=lambda ground: multiply_memory(ground, ONE_FOR_MANY)
    ),
    "values: columns counted": Removal(
        severity="HostDoS", remove=any_number_of_columns, succeeds=lambda ground: multiply_memory(ground, MANY_COLUMNS)
    ),
}
