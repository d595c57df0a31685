"""Values from the bytes that `packing` wrote. Runs at BOTH ends, as that does.

What is read is hostile: nothing is unpickled or evaluated, dtypes are on a list, and what is made is bounded by what
came. No size is believed before the bytes are there; each part is read once, so that arrays take what they have come
with; columns, and the texts in them, which take many times their bytes, are counted. JSON, of which there are MAX_HEAD
bytes, takes up to thirty times as much. (Copies come and go meanwhile: pandas makes up to four.)
"""

from __future__ import annotations

import io
import json
import struct
import sys
from typing import Any

if (
    __name__ != "packing"
):  # in the sandbox the names of plain and packing are here already (`session/carried_variables`)
    from kernel_sandbox.inside.variables.packing import (
        BLOCK_KINDS,
        GROWTH,
        MAGIC,
        MAX_COLUMNS,
        MAX_HEAD,
        MAX_NODES,
        NULLABLE,
        TEXT_SIZE,
    )
    from kernel_sandbox.inside.variables.plain import (
        FREQUENCY,
        NUMPY_KINDS,
        NotCarried,
        TooLarge,
        decode,
        hashable,
        read_frequency,
        read_zone,
    )

MAX_PARTS = 2 * MAX_COLUMNS + MAX_NODES
"""A column has up to two."""
MOST_EMPTY = 2**20
"""Columns without rows, and categories in a range, that are believed without their bytes."""
MOST_STEPS = 100_000
"""Rows of an index whose frequency of the calendar is kept: pandas goes from one to the next to see if it holds."""


def unpack(data: bytes | memoryview, limit: int | None = None) -> Any:
    """Read what `pack` wrote within `limit` bytes; as many as came, without it.

    Raises NotCarried for anything else, TooLarge for what would take many times the limit, and ImportError where pandas
    or NumPy is missing.
    """
    try:
        return _Unpacker(data, limit).value()
    except (NotCarried, ImportError):
        raise
    except Exception as exc:  # hostile bytes lead pandas and NumPy to raise whatever they like
        raise NotCarried(f"what came is not a value ({type(exc).__name__}: {str(exc)[:200]})") from exc


class _Unpacker:
    def __init__(self, data: bytes | memoryview, limit: int | None) -> None:
        view = memoryview(data)
        size = struct.unpack("<I", view[4:8])[0]
        if bytes(view[:4]) != MAGIC or size > MAX_HEAD or 8 + size > len(view):
            raise NotCarried("what came is not a value")
        self._head = json.loads(bytes(view[8 : 8 + size]))
        self._parts: list[memoryview | None] = []
        self._nodes = 0
        self._columns = 0
        self._texts = 0
        self._limit = len(view) * TEXT_SIZE if limit is None else limit
        if len(self._head["parts"]) > MAX_PARTS:
            raise NotCarried("it has more parts than columns")
        place = 8 + size
        for length in self._head["parts"]:
            if type(length) is not int or not 0 <= length <= len(view) - place:
                raise NotCarried("a part of the value is missing")
            self._parts.append(view[place : place + length])
            place += length

    def value(self) -> Any:
        return self.node(self._head["value"])

    def node(self, node: dict[str, Any]) -> Any:
        read = {"frame": self.frame, "series": self.series, "array": self.array, "scalar": self.scalar}
        kind = node["kind"]
        if kind == "json":
            return decode(node["value"], self.inner)
        if kind == "bytes":
            return bytes(self._part(node["part"]))
        return self.index(node["index"]) if kind == "index" else read[kind](node)

    def inner(self, node: dict[str, Any]) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or node["kind"] == "json":
            raise NotCarried("what came is not a value")
        return self.node(node)

    def _part(self, place: Any) -> memoryview:
        """Take a part, once: what is made of it has come."""
        if type(place) is not int or place < 0:
            raise NotCarried("a part of the value is missing")
        part, self._parts[place] = self._parts[place], None
        if part is None:
            raise NotCarried("a part of the value is there for two")
        return part

    def _count_columns(self, more: int) -> None:
        self._columns += more
        if self._columns > MAX_COLUMNS:
            raise TooLarge(f"it has more than {MAX_COLUMNS:,} columns that are not of one plain dtype")

    def array(self, node: dict[str, Any], name: str = "part", dtype: str = "") -> Any:
        """Read an npy part: its head within bounds, its dtype on the list, its size that of the bytes that came.

        With `dtype` it must be of that one: a conversion would make many bytes of one.
        """
        import numpy

        part = self._part(node[name])
        head = io.BytesIO(bytes(part[:20_000]))
        version = numpy.lib.format.read_magic(head)
        read = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}[version]
        shape, fortran, found = read(head, max_header_size=10_000)
        if found.kind not in NUMPY_KINDS or found.itemsize == 0 or found.fields or found.subdtype:
            raise NotCarried(f"an array of dtype {found} is not taken")
        if dtype and found != numpy.dtype(dtype):
            raise NotCarried(f"an array of dtype {found} in the place of {dtype}")
        body, count = part[head.tell() :], 1
        for length in shape:
            count *= length
        if len(shape) > 32 or any(not 0 <= length < 2**40 for length in shape) or count * found.itemsize != len(body):
            raise NotCarried("an array is not as large as it says")
        array = numpy.frombuffer(body, dtype=found).copy()
        return array.reshape(shape, order="F" if fortran else "C")

    def scalar(self, node: dict[str, Any]) -> Any:
        return self.array(node).reshape(-1)[0]

    def series(self, node: dict[str, Any]) -> Any:
        series = self.frame(node["frame"]).iloc[:, 0]
        series.name = _read_name(node["name"])
        return series

    def frame(self, node: dict[str, Any]) -> Any:
        import pandas

        index = self.index(node["index"])
        if "block" in node:
            return self.block(node, index)
        self._count_columns(len(node["columns"]))
        columns = {n: self.column(column, index) for n, column in enumerate(node["columns"])}
        frame = pandas.DataFrame(columns, index=index, copy=False)
        frame.columns = self.index(node["names"])
        return frame

    def block(self, node: dict[str, Any], index: Any) -> Any:
        """Read a DataFrame whose columns have one dtype."""
        import pandas

        values = self.array(node, "block")
        if values.dtype.kind not in BLOCK_KINDS or values.ndim != 2 or values.shape[1] > values.size + MOST_EMPTY:
            raise NotCarried("a block of columns that is none")
        return pandas.DataFrame(values, index=index, columns=self.index(node["names"]), copy=False)

    def index(self, node: dict[str, Any]) -> Any:
        import pandas

        names = [_read_name(name) for name in node["names"]]
        if "range" in node:
            if not all(type(bound) is int and abs(bound) < 2**62 for bound in node["range"]):
                raise NotCarried("a range without bounds")
            start, stop, step = node["range"]
            return pandas.RangeIndex(start, stop, step, name=names[0])
        self._count_columns(len(node["levels"]))
        series = [self.column(level, None) for level in node["levels"]]
        levels = [pandas.Index(level, dtype=level.dtype) for level in series]
        for level in levels:
            if level.dtype == object:
                hashable(level)
        if node.get("multiple"):
            return pandas.MultiIndex.from_arrays(levels, names=names)
        index = levels[0].rename(names[0])
        freq = node.get("freq")
        if isinstance(freq, str) and FREQUENCY.fullmatch(freq) and not isinstance(index, pandas.PeriodIndex):
            step = pandas.tseries.frequencies.to_offset(freq)
            if len(index) <= MOST_STEPS or isinstance(step, pandas.offsets.Tick):
                index.freq = step
        return index

    def column(self, node: dict[str, Any], index: Any) -> Any:
        import pandas

        kind = node["kind"]
        if kind == "plain":
            values = self.array(node)
            if values.dtype.kind not in BLOCK_KINDS:  # of U and S pandas would make objects
                raise NotCarried(f"a column of dtype {values.dtype} is not taken")
        elif kind == "texts":
            values = self.texts(node)
        elif kind == "objects":
            values = _objects([decode(value) for value in node["values"]])
        elif kind == "period":
            dtype = pandas.PeriodDtype(read_frequency(node["freq"]))
            values = pandas.arrays.PeriodArray(self.array(node, dtype="int64"), dtype=dtype)
        elif kind == "interval":
            self._count_columns(2)
            left, right = (pandas.Index(self.column(node[side], None)) for side in ("left", "right"))
            values = pandas.arrays.IntervalArray.from_arrays(left, right, closed=node["closed"])
        elif kind == "category":
            categories, codes = self.index(node["categories"]), self.array(node, "codes")
            if isinstance(categories, pandas.RangeIndex) and len(categories) > len(codes) + MOST_EMPTY:
                raise NotCarried("a column of too many categories")
            values = pandas.Categorical.from_codes(codes, categories=categories, ordered=node["ordered"] is True)
        elif kind == "zoned":
            values = pandas.Series(self.array(node)).dt.tz_localize("UTC").dt.tz_convert(read_zone(node["zone"])).array
        else:
            values = self.masked(node)
        return pandas.Series(values, index=index, dtype=values.dtype, copy=False)  # of objects pandas would infer text

    def masked(self, node: dict[str, Any]) -> Any:
        import pandas

        if node["kind"] != "masked" or not NULLABLE.fullmatch(node["dtype"]):
            raise NotCarried("a column of no known kind")
        plain = "bool" if node["dtype"] == "boolean" else node["dtype"].lower()
        values = pandas.array(self.array(node, dtype=plain), dtype=node["dtype"])
        values[self.array(node, "mask", dtype="bool")] = pandas.NA
        return values

    def texts(self, node: dict[str, Any]) -> Any:
        import numpy
        import pandas

        text, lengths = str(self._part(node["text"]), "utf-8"), self.array(node, "lengths", dtype="int32")
        if lengths.ndim != 1 or numpy.maximum(lengths, 0).sum(dtype="int64") != len(text):
            raise NotCarried("a column of text is not as long as it says")
        self._texts += TEXT_SIZE * len(lengths) + sys.getsizeof(text)
        if self._texts > GROWTH * self._limit:
            raise TooLarge(f"its texts take more than {GROWTH} times {self._limit:,} bytes in memory")
        missing = {-1: None, -2: float("nan"), -3: pandas.NA}
        values: list[Any] = []
        place = 0
        for length in lengths.tolist():
            if length < 0:
                values.append(missing.get(length))
            else:
                values.append(text[place : place + length])
                place += length
        if node["dtype"] == "string":
            return pandas.array(values, dtype="string")
        # pandas 2 has no dtype "str": there texts are objects.
        named_str = node["dtype"] == "str" and pandas.__version__ >= "3"
        return pandas.Series(values, dtype="str").array if named_str else pandas.Series(values, dtype=object).to_numpy()


def _objects(values: list[Any]) -> Any:
    import numpy

    made = numpy.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        made[place] = value
    return made


def _read_name(value: Any) -> Any:
    (name,) = hashable([decode(value)])
    return name
