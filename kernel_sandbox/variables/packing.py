"""Values as bytes and back: NumPy's npy for arrays and for the columns of DataFrames, JSON for what is plain (`plain`).

Runs at BOTH ends: the host imports it, and `transfer` reads it as text for the sandbox's kernel, so it imports nothing
of this package there. What `unpack` reads is hostile: nothing is unpickled or evaluated, dtypes are on a list, and no
size is believed before the bytes are there. Not Arrow: pyarrow need not be on the host, its readers have run code for
hostile files (CVE-2023-47248), and a column as npy keeps every dtype listed here exactly, at the speed of memory.

    b"KSV2", four bytes with the length of the head (little-endian), the head as JSON, then the parts

The head is {"value": node, "parts": [bytes of each part]}. A node says its `kind`; arrays stand in parts.
"""

from __future__ import annotations

import io
import json
import re
import struct
from typing import Any

if __name__ != "packing":  # in the sandbox plain's names are here already (`transfer`)
    from kernel_sandbox.variables.plain import (
        FREQUENCY,
        NUMPY_KINDS,
        Refused,
        TooLarge,
        decode,
        encode,
        hashable,
        read_frequency,
        read_zone,
        zone_name,
    )

MAGIC = b"KSV2"
MAX_HEAD = 16 * 1024 * 1024
"""Bytes of JSON: objects in memory take up to twenty times as much."""
MAX_NODES = 64
"""Tables and arrays in one another or side by side in a list or dict."""
_NULLABLE = re.compile(r"U?Int(?:8|16|32|64)|Float(?:32|64)|boolean")


def pack(value: Any, limit: int) -> bytes:
    """Write a value. Raises Refused for what can't be carried, and for more than `limit` bytes."""
    packer = _Packer(limit)
    node = packer.node(value)
    sizes = [len(part) for part in packer.parts]
    head = json.dumps({"value": node, "parts": sizes}, separators=(",", ":")).encode()
    if len(head) > MAX_HEAD:
        raise TooLarge(
            f"it is {len(head):,} bytes of JSON, and {MAX_HEAD:,} are the limit: make it an array or DataFrame"
        )
    packer.charge(len(head))
    return b"".join([MAGIC, struct.pack("<I", len(head)), head, *packer.parts])


class _Packer:
    def __init__(self, limit: int) -> None:
        self.parts: list[bytes] = []
        self._left = limit
        self._limit = limit
        self._nodes = 0

    def charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"it is larger than {self._limit:,} bytes, the limit")

    def node(self, value: Any) -> dict[str, Any]:
        """Describe a value by its type's own name: no library is imported for a value that is not of it."""
        names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
        if ("pandas", "DataFrame") in names:
            return self.frame(value)
        if ("pandas", "Series") in names:
            return {"kind": "series", "frame": self.frame(value.to_frame(name=0)), "name": encode(value.name)}
        if ("pandas", "Index") in names:
            return {"kind": "index", "index": self.index(value)}
        if ("numpy", "ndarray") in names:
            if type(value).__name__ != "ndarray":
                raise Refused(f"a {type(value).__name__} is not a plain array: numpy.asarray makes one")
            return {"kind": "array", "part": self.array(value)}
        if ("numpy", "generic") in names:
            import numpy

            return {"kind": "scalar", "part": self.array(numpy.asarray(value))}
        if type(value) is bytes:
            self.charge(len(value))
            self.parts.append(value)
            return {"kind": "bytes", "part": len(self.parts) - 1}
        return {"kind": "json", "value": encode(value, self.inner)}

    def inner(self, value: Any) -> dict[str, Any]:
        """Describe a table or an array in a list or dict."""
        if not {base.__name__ for base in type(value).__mro__} & {"DataFrame", "Series", "Index", "ndarray"}:
            encode(value)  # which says why not
        node = self.node(value)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Refused(f"it holds more than {MAX_NODES} tables and arrays: get them one by one")
        return node

    def array(self, value: Any) -> int:
        import numpy

        value = numpy.asarray(value)
        if value.dtype.kind not in NUMPY_KINDS or value.dtype.itemsize == 0:
            raise Refused(f"an array of dtype {value.dtype} cannot be carried without pickling: give it a plain dtype")
        self.charge(value.nbytes)
        buffer = io.BytesIO()
        numpy.lib.format.write_array(buffer, value, allow_pickle=False)
        self.parts.append(buffer.getvalue())
        return len(self.parts) - 1

    def frame(self, frame: Any) -> dict[str, Any]:
        columns = []
        for place, name in enumerate(frame.columns):
            try:
                columns.append(self.column(frame.iloc[:, place]))
            except Refused as exc:
                raise Refused(f"column {name!r}: {exc}") from exc
        return {
            "kind": "frame",
            "columns": columns,
            "names": self.index(frame.columns),
            "index": self.index(frame.index),
        }

    def index(self, index: Any) -> dict[str, Any]:
        import pandas

        names = [encode(name) for name in index.names]
        if isinstance(index, pandas.RangeIndex):
            return {"range": [index.start, index.stop, index.step], "names": names}
        levels = [index.get_level_values(n) for n in range(index.nlevels)]
        try:
            described = {"levels": [self.column(level.to_series()) for level in levels], "names": names}
        except Refused as exc:
            raise Refused(f"the index or the column names: {exc}") from exc
        if getattr(index, "freqstr", None):
            described["freq"] = index.freqstr
        return described | {"multiple": isinstance(index, pandas.MultiIndex)}

    def column(self, series: Any) -> dict[str, Any]:
        """Describe one column. `series.dtype` decides; of objects, what they are."""
        import pandas

        dtype = series.dtype
        if isinstance(dtype, pandas.CategoricalDtype):
            codes, categories = self.array(series.cat.codes.to_numpy()), self.index(dtype.categories)
            return {"kind": "category", "codes": codes, "categories": categories, "ordered": bool(dtype.ordered)}
        if isinstance(dtype, pandas.DatetimeTZDtype):
            utc = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
            return {"kind": "zoned", "part": self.array(utc), "zone": zone_name(dtype.tz)}
        if isinstance(dtype, pandas.StringDtype):
            return self.texts(series, "string" if dtype.na_value is pandas.NA else "str")
        if _NULLABLE.fullmatch(str(dtype)):
            plain = str(dtype).lower() if str(dtype) != "boolean" else "bool"
            values = series.to_numpy(dtype=plain, na_value=0)
            return {
                "kind": "masked",
                "dtype": str(dtype),
                "part": self.array(values),
                "mask": self.array(series.isna()),
            }
        if isinstance(dtype, pandas.PeriodDtype):
            ordinals = series.array.asi8
            return {"kind": "period", "part": self.array(ordinals), "freq": str(dtype)[len("period[") : -1]}
        if isinstance(dtype, pandas.IntervalDtype):
            ends = {side: self.column(pandas.Series(getattr(series.array, side))) for side in ("left", "right")}
            return {"kind": "interval", "closed": series.array.closed} | ends
        if dtype.kind == "O" and str(dtype) == "object":
            return self.objects(series)
        if (
            getattr(dtype, "kind", "O") not in NUMPY_KINDS
            or not hasattr(dtype, "itemsize")
            or not hasattr(dtype, "str")
        ):
            raise Refused(f"dtype {dtype} cannot be carried: convert it first, .astype(str) or .convert_dtypes()")
        return {"kind": "plain", "part": self.array(series.to_numpy())}

    def objects(self, series: Any) -> dict[str, Any]:
        values = series.tolist()
        if all(type(value) is str or _missing(value) for value in values) and _is_text(values):
            return self.texts(series, "object")
        self.charge(8 * len(values))
        return {"kind": "objects", "values": [encode(value) for value in values]}

    def texts(self, series: Any, dtype: str) -> dict[str, Any]:
        """Put texts one behind the other, and their lengths in characters beside them; below 0 is what is missing."""
        import numpy

        values = series.tolist()
        lengths = numpy.array(
            [len(value) if type(value) is str else _missing(value) for value in values], dtype="int32"
        )
        try:
            text = "".join([value for value in values if type(value) is str]).encode()
        except UnicodeEncodeError as exc:
            raise Refused("it holds a lone surrogate, which is no text") from exc
        self.charge(len(text))
        self.parts.append(text)
        return {"kind": "texts", "dtype": dtype, "text": len(self.parts) - 1, "lengths": self.array(lengths)}


def _missing(value: Any) -> int:
    """Return which kind of missing value it is; 0 for none."""
    if value is None:
        return -1
    if type(value) is float and value != value:
        return -2
    return -3 if type(value).__name__ == "NAType" else 0


def _is_text(values: list[Any]) -> bool:
    """Whether UTF-8 can write all texts: one with a lone surrogate it cannot."""
    try:
        "".join([value for value in values if type(value) is str]).encode()
    except UnicodeEncodeError:
        return False
    return True


def unpack(data: bytes | memoryview) -> Any:
    """Read what `pack` wrote. Raises Refused for anything else, and ImportError where pandas or NumPy is missing."""
    try:
        return _Unpacker(data).value()
    except (Refused, ImportError):
        raise
    except Exception as exc:  # hostile bytes lead pandas and NumPy to raise whatever they like
        raise Refused(f"what came is not a value ({type(exc).__name__}: {str(exc)[:200]})") from exc


class _Unpacker:
    def __init__(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        size = struct.unpack("<I", view[4:8])[0]
        if bytes(view[:4]) != MAGIC or size > MAX_HEAD or 8 + size > len(view):
            raise Refused("what came is not a value")
        self._head = json.loads(bytes(view[8 : 8 + size]))
        self._parts: list[memoryview] = []
        self._nodes = 0
        place = 8 + size
        for length in self._head["parts"]:
            if type(length) is not int or not 0 <= length <= len(view) - place:
                raise Refused("a part of the value is missing")
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
            raise Refused("what came is not a value")
        return self.node(node)

    def _part(self, place: Any) -> memoryview:
        if type(place) is not int or place < 0:
            raise Refused("a part of the value is missing")
        return self._parts[place]

    def array(self, node: dict[str, Any], name: str = "part") -> Any:
        """Read an npy part: its head within bounds, its dtype on the list, its size that of the bytes that came."""
        import numpy

        part = self._part(node[name])
        head = io.BytesIO(bytes(part[:20_000]))
        version = numpy.lib.format.read_magic(head)
        read = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(head, max_header_size=10_000)
        if dtype.kind not in NUMPY_KINDS or dtype.itemsize == 0 or dtype.fields or dtype.subdtype:
            raise Refused(f"an array of dtype {dtype} is not taken")
        body, count = part[head.tell() :], 1
        for length in shape:
            count *= length
        if len(shape) > 32 or any(not 0 <= length < 2**40 for length in shape) or count * dtype.itemsize != len(body):
            raise Refused("an array is not as large as it says")
        array = numpy.frombuffer(body, dtype=dtype).copy()
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
        columns = {n: self.column(column, index) for n, column in enumerate(node["columns"])}
        frame = pandas.DataFrame(columns, index=index, copy=False)
        frame.columns = self.index(node["names"])
        return frame

    def index(self, node: dict[str, Any]) -> Any:
        import pandas

        names = [_read_name(name) for name in node["names"]]
        if "range" in node:
            if not all(type(bound) is int and abs(bound) < 2**62 for bound in node["range"]):
                raise Refused("a range without bounds")
            start, stop, step = node["range"]
            return pandas.RangeIndex(start, stop, step, name=names[0])
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
            index.freq = freq
        return index

    def column(self, node: dict[str, Any], index: Any) -> Any:
        import pandas

        kind = node["kind"]
        if kind == "plain":
            values = self.array(node)
        elif kind == "texts":
            values = self.texts(node)
        elif kind == "objects":
            values = _objects([decode(value) for value in node["values"]])
        elif kind == "period":
            dtype = pandas.PeriodDtype(read_frequency(node["freq"]))
            values = pandas.arrays.PeriodArray(self.array(node).astype("int64"), dtype=dtype)
        elif kind == "interval":
            left, right = (pandas.Index(self.column(node[side], None)) for side in ("left", "right"))
            values = pandas.arrays.IntervalArray.from_arrays(left, right, closed=node["closed"])
        elif kind == "category":
            categories, codes = self.index(node["categories"]), self.array(node, "codes")
            values = pandas.Categorical.from_codes(codes, categories=categories, ordered=node["ordered"] is True)
        elif kind == "zoned":
            values = pandas.Series(self.array(node)).dt.tz_localize("UTC").dt.tz_convert(read_zone(node["zone"])).array
        else:
            values = self.masked(node)
        return pandas.Series(values, index=index, dtype=values.dtype, copy=False)  # of objects pandas would infer text

    def masked(self, node: dict[str, Any]) -> Any:
        import pandas

        if node["kind"] != "masked" or not _NULLABLE.fullmatch(node["dtype"]):
            raise Refused("a column of no known kind")
        values = pandas.array(self.array(node), dtype=node["dtype"])
        values[self.array(node, "mask").astype(bool)] = pandas.NA
        return values

    def texts(self, node: dict[str, Any]) -> Any:
        import numpy
        import pandas

        text, lengths = bytes(self._part(node["text"])).decode(), self.array(node, "lengths")
        ends = numpy.cumsum(numpy.maximum(lengths, 0), dtype="int64")
        if lengths.ndim != 1 or lengths.dtype.kind != "i" or (ends[-1] if len(ends) else 0) != len(text):
            raise Refused("a column of text is not as long as it says")
        missing = {-1: None, -2: float("nan"), -3: pandas.NA}
        pairs = zip(lengths.tolist(), ends.tolist(), strict=True)
        values = [text[end - length : end] if length >= 0 else missing.get(length) for length, end in pairs]
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
