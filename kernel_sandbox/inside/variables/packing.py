"""Values as bytes: NumPy's npy for arrays and for the columns of DataFrames, JSON for what is plain (`plain`).

Runs at BOTH ends: the host imports it, and the sandbox's kernel gets it as text (`session/carried_variables`), so it
imports nothing of this package there. `unpacking` reads what it writes. Not Arrow: pyarrow need not be on the host, its
readers have run code for hostile files (CVE-2023-47248), and a column as npy keeps every dtype listed here exactly, at
the speed of memory.

    b"KSV2", four bytes with the length of the head (little-endian), the head as JSON, then the parts

The head is {"value": node, "parts": [bytes of each part]}. A node says its `kind`; arrays stand in parts, and each
part is of one array.
"""

from __future__ import annotations

import io
import json
import re
import struct
from typing import Any

if __name__ != "packing":  # in the sandbox plain's names are here already (`session/carried_variables`)
    from kernel_sandbox.inside.variables.plain import NUMPY_KINDS, NotCarried, TooLarge, encode, zone_name

MAGIC = b"KSV2"
MAX_HEAD = 16 * 1024 * 1024
"""Bytes of JSON: objects in memory take up to twenty times as much."""
MAX_NODES = 64
"""Tables and arrays in one another or side by side in a list or dict."""
MAX_COLUMNS = 10_000
"""Columns that are made one by one, those of indexes included: each takes about 2.5 KB and 60 microseconds."""
NARROW = 100
"""Columns up to which a DataFrame of one dtype is not written as one block."""
BLOCK_KINDS = "biufcmM"
"""NumPy's kinds of dtype that pandas has columns of."""
GROWTH = 4
"""How many times the limit the texts of columns may take in memory."""
TEXT_SIZE = 64
"""Bytes that a text in a column takes beside its characters."""
NULLABLE = re.compile(r"U?Int(?:8|16|32|64)|Float(?:32|64)|boolean")


def pack(value: Any, limit: int) -> bytes:
    """Write a value. Raises NotCarried for what can't be carried, and for more than `limit` bytes."""
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
        self._columns = 0
        self._texts = 0

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
                raise NotCarried(f"a {type(value).__name__} is not a plain array: numpy.asarray makes one")
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
            raise NotCarried(f"it holds more than {MAX_NODES} tables and arrays: get them one by one")
        return node

    def array(self, value: Any) -> int:
        import numpy

        value = numpy.asarray(value)
        if value.dtype.kind not in NUMPY_KINDS or value.dtype.itemsize == 0:
            raise NotCarried(
                f"an array of dtype {value.dtype} cannot be carried without pickling: give it a plain dtype"
            )
        self.charge(value.nbytes)
        buffer = io.BytesIO()
        numpy.lib.format.write_array(buffer, value, allow_pickle=False)
        self.parts.append(buffer.getvalue())
        return len(self.parts) - 1

    def frame(self, frame: Any) -> dict[str, Any]:
        indexes = {"names": self.index(frame.columns), "index": self.index(frame.index)}
        if len(frame.columns) > NARROW and (block := _block(frame)) is not None:
            return {"kind": "frame", "block": self.array(block)} | indexes
        self.count_columns(len(frame.columns))
        columns = []
        for place, name in enumerate(frame.columns):
            try:
                columns.append(self.column(frame.iloc[:, place]))
            except NotCarried as exc:
                raise type(exc)(f"column {name!r}: {exc}") from exc
        return {"kind": "frame", "columns": columns} | indexes

    def count_columns(self, more: int) -> None:
        self._columns += more
        if self._columns > MAX_COLUMNS:
            raise TooLarge(
                f"it has {self._columns:,} columns that are not of one plain dtype, and {MAX_COLUMNS:,} are the limit: "
                "take those of one dtype by themselves, or get it in parts"
            )

    def index(self, index: Any) -> dict[str, Any]:
        import pandas

        names = [encode(name) for name in index.names]
        if isinstance(index, pandas.RangeIndex):
            return {"range": [index.start, index.stop, index.step], "names": names}
        levels = [index.get_level_values(n) for n in range(index.nlevels)]
        self.count_columns(len(levels))
        try:
            described = {"levels": [self.column(level.to_series()) for level in levels], "names": names}
        except NotCarried as exc:
            raise type(exc)(f"the index or the column names: {exc}") from exc
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
        if NULLABLE.fullmatch(str(dtype)):
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
            self.count_columns(2)
            ends = {side: self.column(pandas.Series(getattr(series.array, side))) for side in ("left", "right")}
            return {"kind": "interval", "closed": series.array.closed} | ends
        if dtype.kind == "O" and str(dtype) == "object":
            return self.objects(series)
        if (
            getattr(dtype, "kind", "O") not in NUMPY_KINDS
            or not hasattr(dtype, "itemsize")
            or not hasattr(dtype, "str")
        ):
            raise NotCarried(f"dtype {dtype} cannot be carried: convert it first, .astype(str) or .convert_dtypes()")
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
            raise NotCarried("it holds a lone surrogate, which is no text") from exc
        self.charge(len(text))
        self._texts += TEXT_SIZE * len(values) + len(text)
        if self._texts > GROWTH * self._limit:
            raise TooLarge(
                f"its texts take more than {GROWTH} times {self._limit:,} bytes in memory: get it in parts, or make "
                'columns with few different texts .astype("category")'
            )
        self.parts.append(text)
        return {"kind": "texts", "dtype": dtype, "text": len(self.parts) - 1, "lengths": self.array(lengths)}


def _block(frame: Any) -> Any:
    """Return a DataFrame's values as one array where all columns have one plain dtype, or None."""
    import numpy

    dtypes = set(frame.dtypes.tolist())
    dtype = dtypes.pop()
    plain = not dtypes and isinstance(dtype, numpy.dtype) and dtype.kind in BLOCK_KINDS
    return frame.to_numpy() if plain else None


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
