"""Plain values as JSON and back, each as what it was: whole numbers of any length, dates, tuples, keys of any kind.

Runs at BOTH ends: the host imports it, and the sandbox's kernel gets it as text (`session/carried_variables`), so it
imports nothing of this package. What `decode` reads is hostile: nothing is unpickled or evaluated, depth and how many
keys of a dict or set may fall together are bounded.

A value that JSON has no form for is {"!": its kind, "v": JSON}; NaN and the infinities are as Python writes them.
"""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import re
from collections.abc import Callable, Iterable
from typing import Any

MAX_DEPTH = 64
MOST_ALIKE = 100
"""Keys of one dict or set that may have the same hash: numbers can be chosen so, and each then costs all others."""
TAG = "!"
LONG = 2**63
"""Whole numbers from here on are written in hexadecimal: Python refuses decimals of more than 4,300 digits."""
CARRIED = (
    "DataFrames, Series, arrays, bytes, text, numbers, booleans, None, dates and times, and lists, tuples, sets and "
    "dicts of them"
)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)")
FREQUENCY = re.compile(r"-?[0-9A-Za-z-]{1,20}")
_UNITS = ("s", "ms", "us", "ns")
NUMPY_KINDS = "biufcmMSU"
"""NumPy's kinds of dtype that are nothing but their bytes."""

Other = Callable[[Any], Any]


class NotCarried(ValueError):
    """A value that cannot be carried, or bytes that are none; the message is one line."""


class TooLarge(NotCarried):
    """A value beyond the limit."""


def encode(value: Any, other: Other | None = None, depth: int = 0) -> Any:
    """Write a value as JSON has it; `other` writes what is not plain. Raises NotCarried for what it cannot."""
    kind = type(value)
    if value is None or kind in (str, bool, float):
        return value
    if kind is int:
        return value if -LONG < value < LONG else {TAG: "int", "v": hex(value)}
    if depth > MAX_DEPTH:
        raise NotCarried(f"it nests deeper than {MAX_DEPTH} levels")
    if kind is list:
        return [encode(item, other, depth + 1) for item in value]
    if kind is dict and TAG not in value and all(type(key) is str for key in value):
        return {key: encode(item, other, depth + 1) for key, item in value.items()}
    if kind in (tuple, set, frozenset):
        return {TAG: kind.__name__, "v": [encode(item, other, depth + 1) for item in value]}
    if kind is dict:
        return {TAG: "dict", "v": [[encode(part, other, depth + 1) for part in pair] for pair in value.items()]}
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if name in _WRITERS:
        return {TAG: name, "v": _WRITERS[name](value)}
    if ("numpy", "generic") in {(base.__module__, base.__name__) for base in kind.__mro__}:
        return {TAG: "numpy", "v": _write_numpy(value)}
    if other is not None:
        return {TAG: "other", "v": other(value)}
    raise NotCarried(f"{kind.__name__} objects cannot be carried without pickling. What can: {CARRIED}")


def _write_moment(value: Any) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), value.fold, zone_name(value.tzinfo)]


def _write_stamp(value: Any) -> list[Any]:
    naive = value if value.tzinfo is None else value.tz_convert("UTC").tz_localize(None)
    return [int(naive.asm8.view("i8")), value.unit, zone_name(value.tzinfo)]


def _write_numpy(value: Any) -> list[str]:
    dtype = value.dtype
    if dtype.kind not in NUMPY_KINDS or dtype.itemsize == 0:
        raise NotCarried(f"a value of dtype {dtype} cannot be carried without pickling")
    return [dtype.str, base64.b64encode(value.tobytes()).decode()]


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "builtins.bytes": lambda value: base64.b64encode(value).decode(),
    "builtins.bytearray": lambda value: base64.b64encode(value).decode(),
    "builtins.complex": lambda value: [value.real, value.imag],
    "builtins.range": lambda value: [encode(value.start), encode(value.stop), encode(value.step)],
    "decimal.Decimal": str,
    "datetime.datetime": _write_moment,
    "datetime.time": _write_moment,
    "datetime.date": lambda value: value.isoformat(),
    "datetime.timedelta": lambda value: [value.days, value.seconds, value.microseconds],
    "pandas.Timestamp": _write_stamp,
    "pandas.Timedelta": lambda value: [int(value.asm8.view("i8")), value.unit],
    "pandas.Period": lambda value: [value.ordinal, value.freqstr],
    "pandas.NaTType": lambda value: None,
    "pandas.NAType": lambda value: None,
}


def decode(value: Any, other: Other | None = None, depth: int = 0) -> Any:
    """Read what `encode` wrote, in its place. Raises NotCarried, or what a value that is not as it says leads to."""
    kind = type(value)
    if kind not in (list, dict):
        return value
    if depth > MAX_DEPTH + 1:
        raise NotCarried(f"it nests deeper than {MAX_DEPTH} levels")
    if kind is list:  # in its place: a copy would be as large as what came
        for place, item in enumerate(value):
            value[place] = decode(item, other, depth + 1)
        return value
    if TAG not in value:
        for key, item in value.items():
            value[key] = decode(item, other, depth + 1)
        return value
    tag, content = value[TAG], value["v"]
    if tag in ("tuple", "set", "frozenset", "dict") and type(content) is not list:
        raise NotCarried("a list is missing")
    if tag in ("tuple", "set", "frozenset"):
        items = [decode(item, other, depth + 1) for item in content]
        return tuple(items) if tag == "tuple" else {"set": set, "frozenset": frozenset}[tag](hashable(items))
    if tag == "dict":
        pairs = [(decode(key, other, depth + 1), decode(item, other, depth + 1)) for key, item in content]
        hashable(key for key, _ in pairs)
        return dict(pairs)
    if tag == "other" and other is not None:
        return other(content)
    return _READERS[tag](content)


def hashable(items: Iterable[Any]) -> list[Any]:
    """Return the items. Raises NotCarried where too many have one hash: a table of them takes for ever."""
    found = list(items)
    hashes = list(map(hash, found))
    different: dict[int, list[Any]] = {
        shared: [] for shared, n in collections.Counter(hashes).items() if n > MOST_ALIKE
    }
    for shared, item in zip(hashes, found):
        if shared in different and item not in different[shared]:
            different[shared].append(item)
            if len(different[shared]) > MOST_ALIKE:
                raise NotCarried("too many of its keys are alike")
    return found


def _read_moment(kind: Any) -> Callable[[Any], Any]:
    def read(content: Any) -> Any:
        text, fold, zone = content
        moment = kind.fromisoformat(text)
        return moment.replace(fold=fold, tzinfo=None if zone is None else read_zone(zone))

    return read


def _read_stamp(content: Any) -> Any:
    import pandas

    stamp = pandas.Timestamp(_numpy_time("datetime64", content[0], content[1]))
    return stamp if content[2] is None else stamp.tz_localize("UTC").tz_convert(read_zone(content[2]))


def _numpy_time(kind: str, number: Any, unit: Any) -> Any:
    import numpy

    if type(number) is not int or unit not in _UNITS:
        raise NotCarried("a time of no known kind")
    return getattr(numpy, kind)(number, unit)


def _read_timedelta(content: Any) -> Any:
    import pandas

    return pandas.Timedelta(_numpy_time("timedelta64", *content))


def _read_period(content: Any) -> Any:
    import pandas

    ordinal, freq = content
    return pandas.Period(ordinal=ordinal, freq=read_frequency(freq))


def read_frequency(freq: Any) -> str:
    """Return the name of a frequency. Raises NotCarried for what is none."""
    if not isinstance(freq, str) or not FREQUENCY.fullmatch(freq):
        raise NotCarried("a frequency that is none")
    return freq


def _read_numpy(content: Any) -> Any:
    import numpy

    dtype, data = numpy.dtype(str(content[0])[:40]), base64.b64decode(content[1])
    if dtype.kind not in NUMPY_KINDS or not 0 < dtype.itemsize == len(data):
        raise NotCarried(f"a value of dtype {dtype} is not taken")
    return numpy.frombuffer(data, dtype=dtype)[0]


def _pandas_missing(name: str) -> Callable[[Any], Any]:
    def read(content: Any) -> Any:
        import pandas

        return getattr(pandas, name)

    return read


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "numpy": _read_numpy,
    "builtins.bytes": base64.b64decode,
    "builtins.bytearray": lambda content: bytearray(base64.b64decode(content)),
    "builtins.complex": lambda content: complex(*content),
    "builtins.range": lambda content: range(*map(decode, content)),
    "decimal.Decimal": decimal.Decimal,
    "datetime.datetime": _read_moment(datetime.datetime),
    "datetime.time": _read_moment(datetime.time),
    "datetime.date": datetime.date.fromisoformat,
    "datetime.timedelta": lambda content: datetime.timedelta(*content),
    "pandas.Timestamp": _read_stamp,
    "pandas.Timedelta": _read_timedelta,
    "pandas.Period": _read_period,
    "pandas.NaTType": _pandas_missing("NaT"),
    "pandas.NAType": _pandas_missing("NA"),
}


def zone_name(zone: Any) -> str | None:
    """Name a time zone as `read_zone` reads it; None for none. Raises NotCarried for one without a name."""
    if zone is None:
        return None
    name = str(zone)
    if zone == datetime.timezone.utc:
        return "UTC"
    if not _ZONE.fullmatch(name) and not _OFFSET.fullmatch(name):
        raise NotCarried(f"the time zone {name!r:.60} has no name: .dt.tz_convert to one of the zone database")
    return name


def read_zone(name: Any) -> Any:
    """Find a time zone of the zone database, or an offset. Raises NotCarried for what is neither: no path is."""
    import zoneinfo

    offset = _OFFSET.fullmatch(name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return datetime.timezone((1 if offset[1] == "+" else -1) * datetime.timedelta(minutes=minutes))
    if not _ZONE.fullmatch(name):
        raise NotCarried(f"there is no time zone {name!r:.60}")
    return datetime.timezone.utc if name == "UTC" else zoneinfo.ZoneInfo(name)
