"""Kernel message content: hostile values in, clean bounded ones out. Pure.

The collector calls it for every message, `transcript` for what it did not make itself. Nothing here raises
because of its input. Budgets are not kept here: sizes are measured, and the collector decides what fits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kernel_sandbox.session.outputs.chart_words import chart_words
from kernel_sandbox.session.outputs.output_values import ErrorOutput
from kernel_sandbox.text.characters import hides
from kernel_sandbox.text.clipping import clip_text
from kernel_sandbox.text.utf8 import clean_text, text_size

MAX_DEPTH = 64
"""How deep JSON may nest; what lies deeper becomes None. Far below Python's recursion limit."""
MAX_MIME_TYPES = 64
"""Kinds in one bundle; real ones have two to five."""
MAX_METADATA = 64
"""Names in a bundle's metadata that are kept; real ones have one or two."""
MAX_DISPLAY_ID = 256
"""Characters of a display_id; IPython's own have 32."""
MAX_ENAME, MAX_EVALUE = 1024, 64 * 1024
MAX_TRACEBACK_PART, MAX_TRACEBACK = 64 * 1024, 256 * 1024
"""Bytes of one part of a traceback, and of all: a RecursionError's is 147 KB."""
MAX_TRACEBACK_PARTS = 2000

# RFC 6838 section 4.2: a type and a subtype of up to 127 characters each.
_MIME_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_OBJECT = re.compile(r"<[\w.+/-]+ object>")
_METADATA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
# Marks of trust, and the one from which nbconvert's templates take the address of a picture.
_NEVER_KEPT = frozenset(["trusted", "signature", "filenames"])
# A word or a few: no markup, no address, nothing that ends an attribute. Templates write metadata into their pages.
_METADATA_TEXT = re.compile("[^\t\n<>&\"'`=\\\\:/]{1,200}")
_MEASURES = ("width", "height", "rows")
MAX_METADATA_DEPTH = 3
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_MAX_COUNT = 2**31 - 1
# What Python needs to hold them, about; dumped they are smaller, and a megabyte of "[]" must not pass for one.
_CONTAINER_SIZE, _NUMBER_SIZE = 64, 16
# Integers beyond this are None: Python refuses to write more than 4300 digits (sys.set_int_max_str_digits).
_MAX_INTEGER_BITS = 14_284
_SHORT_INTEGER_BITS = 64
_NUMBERS = {int, float, bool}
_PLAIN = _NUMBERS | {type(None)}
_PART_SIZE = 16
"""What a part of a traceback takes beside its text, in a notebook and in memory."""


class _TooLarge(Exception):
    """The value passed the limit; the rest of it was not looked at."""


def clean_count(value: Any) -> int | None:
    """Read an execution_count: a number from 0 to 2**31 - 1, or None."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def clean_display_id(transient: Any) -> str | None:
    """Read the display_id of a message's `transient`, or None; an overlong one is none."""
    display_id = transient.get("display_id") if isinstance(transient, Mapping) else None
    if not isinstance(display_id, str) or not 0 < len(display_id) <= MAX_DISPLAY_ID:
        return None
    return clean_text(display_id)


class _JSONCleaner:
    """Copies JSON values, and adds up their size on the way."""

    def __init__(self, limit: float, depth: int) -> None:
        self.size = 0
        self._limit, self._depth = limit, depth

    def clean(self, value: Any, level: int = 0) -> Any:
        self._charge(level)  # in a notebook every value has a line of its own, indented by its depth
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, (int, float)):
            return self._scalar(value)
        if level >= self._depth:
            return None
        if isinstance(value, Mapping):
            self._charge(_CONTAINER_SIZE)
            return {self._text(key): self.clean(item, level + 1) for key, item in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple):
            self._charge(_CONTAINER_SIZE)
            size = (_NUMBER_SIZE + level + 1) * len(value)
            is_plain = set(map(type, value)) <= _PLAIN
            if is_plain and self.size + size > self._limit:  # before it is looked through
                self._charge(size)
            numbers = _plain_values(value) if is_plain else None
            if numbers is None:
                return [self.clean(item, level + 1) for item in value]
            self._charge(size)
            return numbers
        return None

    def _charge(self, size: int) -> None:
        self.size += size
        if self.size > self._limit:
            raise _TooLarge

    def _text(self, value: str) -> str:
        text = clean_text(value)
        self._charge(text_size(text) + 4)
        return text

    def _scalar(self, value: bool | float | None) -> bool | float | None:
        self._charge(_NUMBER_SIZE)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if value is not None and (bits := value.bit_length()) > _SHORT_INTEGER_BITS:
            if bits > _MAX_INTEGER_BITS:
                return None
            self._charge(bits // 3)
        return value


def _plain_values(values: list[Any] | tuple[Any, ...]) -> list[Any] | None:
    """Copy finite and short numbers, switches and gaps at once: a chart has a hundred thousand. None for others."""
    kinds = set(map(type, values))
    numbers = values if kinds <= _NUMBERS else [value for value in values if value is not None]
    try:
        if not all(map(math.isfinite, numbers)):
            return None
    except OverflowError:  # an integer beyond any float
        return None
    return None if int in kinds and max(map(abs, numbers)) >= 2**_SHORT_INTEGER_BITS else list(values)


def clean_json(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """Copy a value so that strict JSON can say it: no NaN, no lone surrogates, only text as keys, bounded depth."""
    return _JSONCleaner(math.inf, depth).clean(value)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A clean MIME bundle and its measure."""

    data: dict[str, Any]
    metadata: dict[str, Any]
    types: tuple[str, ...]
    """The MIME types that came, also where the bundle is not whole."""
    size: int
    """Bytes: texts as UTF-8, base64 as it is, JSON and metadata about as they are written."""
    whole: bool
    """False: its JSON is larger than the limit, `size` is a lower bound, and `data` must not be shown."""


def clean_bundle(data: Any, metadata: Any, limit: int) -> Bundle:
    """Keep of a MIME bundle what a notebook can hold, and measure it; JSON beyond `limit` bytes is not read further."""
    items = list(islice(_valid_items(data), MAX_MIME_TYPES))
    kinds = tuple(kind for kind, _ in items)
    texts = {kind: clean_text(value) for kind, value in items if isinstance(value, str)}
    size = sum(len(kind) + text_size(text) for kind, text in texts.items() if not _is_json(kind))
    cleaner = _JSONCleaner(limit - size, MAX_DEPTH)
    clean: dict[str, Any] = {}
    try:
        for kind, value in items:
            clean[kind] = cleaner.clean({kind: value})[kind] if _is_json(kind) else texts[kind]
        kept = _clean_metadata(metadata, kinds)
        about = cleaner.clean(kept) if kept else {}
    except _TooLarge:
        return Bundle({}, {}, kinds, size + cleaner.size, whole=False)
    return Bundle(clean, about, kinds, size + cleaner.size, whole=True)


def is_unspoken(text: str) -> bool:
    """Return whether a text only names the object that stands for something to be seen."""
    return _OBJECT.fullmatch(text) is not None


def bundle_text(data: Mapping[str, Any]) -> str:
    """Return the words of a MIME bundle: its text, its source, what it draws, else the names of its types.

    A text that only names an object of IPython's says nothing where the source is beside it.
    """
    texts = [data[kind] for kind in ("text/plain", "text/markdown", "text/latex") if isinstance(data.get(kind), str)]
    if texts:
        return str(texts[1] if len(texts) > 1 and is_unspoken(texts[0]) else texts[0])
    return chart_words(data) or (f"<{', '.join(list(data)[:3])}>" if data else "")


def text_to_show(data: Mapping[str, Any]) -> str:
    """Return the words of a MIME bundle for a person: none where its Markdown is there and empty."""
    return "" if data.get("text/markdown") == "" else bundle_text(data)


def _clean_metadata(metadata: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Keep what renderers read and nothing can run of, of the whole and of each kind: numbers, switches, words."""
    if not isinstance(metadata, Mapping):
        return {}
    left = [MAX_METADATA]
    found = {kind: _harmless(metadata[kind], 1, left) for kind in kinds if isinstance(metadata.get(kind), Mapping)}
    return _harmless(metadata, 0, left) | {kind: kept for kind, kept in found.items() if kept or not metadata[kind]}


def _harmless(metadata: Mapping[Any, Any], depth: int, left: list[int]) -> dict[str, Any]:
    """Keep what is harmless; `left` counts down over the whole bundle."""
    kept: dict[str, Any] = {}
    for name, value in islice(metadata.items(), MAX_METADATA):
        if not isinstance(name, str) or not _METADATA_NAME.fullmatch(name) or name in _NEVER_KEPT or not left[0]:
            continue
        if isinstance(value, Mapping) and depth < MAX_METADATA_DEPTH:
            value = _harmless(value, depth + 1, left)
            if not value:
                continue
        elif not _is_harmless(name, value):
            continue
        kept[name] = value
        left[0] -= 1
    return kept


def _is_harmless(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return True
    if name in _MEASURES or isinstance(value, int | float):  # a measure stands in pages without quotes
        return isinstance(value, int | float) and abs(value) <= _MAX_COUNT and (name not in _MEASURES or value >= 0)
    return isinstance(value, str) and _METADATA_TEXT.fullmatch(value) is not None and not hides(value)


def _valid_items(data: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(data, Mapping):
        return
    for kind, value in data.items():
        if not isinstance(kind, str) or not _MIME_TYPE.fullmatch(kind) or kind == _WIDGET_VIEW:
            continue
        if _is_json(kind) or isinstance(value, str):
            yield kind, value
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            yield kind, "".join(value)
        elif isinstance(value, int | float) and kind.startswith("text/"):
            yield kind, json.dumps(value)  # a notebook holds text there, and front ends show it


def _is_json(kind: str) -> bool:
    """The types whose value nbformat takes as JSON (nbformat.v4.rwbase); a dict under any other is invalid."""
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def clean_error(content: Mapping[str, Any]) -> ErrorOutput:
    """Read an `error` message, its parts clipped to their bounds (head and tail stay)."""
    return ErrorOutput(
        clip_text(_text_of(content.get("ename")) or "Error", MAX_ENAME),
        clip_text(_text_of(content.get("evalue")), MAX_EVALUE),
        _clip_traceback(content.get("traceback"), MAX_TRACEBACK_PART, MAX_TRACEBACK),
    )


def shrink_error(error: ErrorOutput) -> ErrorOutput:
    """Clip an error to about 6 KB, for where no more fits: what went wrong must be seen all the same."""
    return ErrorOutput(
        clip_text(error.ename, 200), clip_text(error.evalue, 1024), _clip_traceback(error.traceback, 1024, 4096)
    )


def error_size(error: ErrorOutput) -> int:
    """Measure an error: the bytes of its texts, and some for each part of the traceback."""
    return text_size(error.ename) + text_size(error.evalue) + sum(map(_part_size, error.traceback))


def _part_size(part: str) -> int:
    return text_size(part) + _PART_SIZE


def _text_of(value: Any) -> str:
    return clean_text(value) if isinstance(value, str) else ""


def _clip_traceback(parts: Any, part_limit: int, limit: int) -> tuple[str, ...]:
    if isinstance(parts, str):
        parts = [parts]
    if not isinstance(parts, list | tuple):
        return ()
    half = MAX_TRACEBACK_PARTS // 2
    near_ends = parts if len(parts) <= 2 * half else [*parts[:half], *parts[-half:]]
    texts = [clip_text(clean_text(part), part_limit) for part in near_ends if isinstance(part, str)]
    if near_ends is parts and sum(map(_part_size, texts)) <= limit:
        return tuple(texts)
    head = _fitting(texts[: len(texts) // 2], limit // 2)
    tail = _fitting(texts[len(texts) // 2 :][::-1], limit // 2)[::-1]
    cut = len(parts) - len(head) - len(tail)
    return (*head, f"[kernel-sandbox: {cut} parts of the traceback cut here]", *tail)


def _fitting(texts: list[str], limit: int) -> list[str]:
    """The first texts that together are at most `limit` bytes, and at least one."""
    fitting, size = texts[:1], _part_size(texts[0]) if texts else 0
    for text in texts[1:]:
        size += _part_size(text)
        if size > limit:
            break
        fitting.append(text)
    return fitting
