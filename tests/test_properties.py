"""Real messages of a kernel, spoilt in every way, through all that reads them: bounded and well-formed, or refused.

The messages are recorded from a sandbox when the tests run. What is refused is refused by name; what is not makes a
notebook in strict JSON that nbformat accepts, that loads again equal, and that keeps its bound.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.session import Session as Signer

from kernel_sandbox import Limits, Session
from kernel_sandbox.inside.mux import DATA, HEADER, MAX_FRAME, WINDOW, Mux, MuxError
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.zmtp import Bounds, FrameReader
from kernel_sandbox.session.cell import BACKLOG
from kernel_sandbox.session.messages import DELIMITER, TYPES, InvalidMessage, read_message
from kernel_sandbox.session.outputs import SessionOutputs
from kernel_sandbox.session.recorder import Recorder
from kernel_sandbox.session.transcript import Transcript
from tests.conftest import missing

Frames = list[bytes]
Recorded = list[tuple[str, Frames]]
"""The channel of each message, and its frames."""


def steady(examples: int) -> settings:
    """The same examples each time, and no time limit for one of them."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


KEY = b"a key of ours"
REQUEST = "the request"
CELLS = (
    "print('text', '\\x1b[31mred\\x1b[0m', '\\u2028', '\\U0001f600')\nimport sys; print('err', file=sys.stderr)",
    "from IPython.display import *\nh = display(HTML('<b>b</b>'), metadata={'text/html': {'isolated': True}}, "
    "display_id=True)\nh.update(JSON({'a': [1, 2.5, None]}))\ndisplay(Image(b'\\x89PNG', format='png', width=3))",
    "clear_output(wait=True)\n{'a': list(range(30))}",
    "def f(): 1 / 0\nf()",
    "get_ipython().run_line_magic('pinfo', 'print')",
)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """All that a kernel says on shell and iopub to a few cells, signed anew with a key of ours."""
    engine = next((name for name in NAMES if not missing(name)), None)
    if engine is None:
        pytest.skip("no engine")
    told: Recorded = []
    with Session(engine=engine, image="python") as session:
        client = BlockingKernelClient(connection_file=str(session.connection_file))
        client.load_connection_file()
        client.start_channels(stdin=False, hb=False)
        try:
            client.wait_for_ready(timeout=20)
            for source in CELLS:
                told += record(client, source)
        finally:
            client.stop_channels()
    return [(channel, signed(*frames[frames.index(DELIMITER) + 2 :])) for channel, frames in told]


def record(client: BlockingKernelClient, source: str) -> Recorded:
    """Run a cell, and keep its messages until both its reply and its idle have come."""
    client.execute(source, allow_stdin=False)
    told: Recorded = []
    channels = {"shell": client.shell_channel.socket, "iopub": client.iopub_channel.socket}
    deadline, over = time.monotonic() + 20, {"shell": False, "iopub": False}
    while not all(over.values()):
        assert time.monotonic() < deadline, "the kernel does not answer"
        for name, socket in channels.items():
            while socket.poll(10):
                frames = socket.recv_multipart()
                told.append((name, frames))
                over[name] = over[name] or name == "shell" or json.loads(frames[-1]).get("execution_state") == "idle"
    return told


def signed(header: bytes, parent: bytes, metadata: bytes, content: bytes, *buffers: bytes) -> Frames:
    """A message of the request, with a signature that is right."""
    if b'"msg_id"' in parent:
        known = json.loads(parent)
        parent = json.dumps(known | {"msg_id": REQUEST}).encode()
    return sign(header, parent, metadata, content, *buffers)


def sign(*parts: bytes) -> Frames:
    return [DELIMITER, Signer(key=KEY).sign(list(parts[:4])), *parts]


# Spoiling

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
RAW = st.sampled_from(
    ["NaN", "-Infinity", "1e999", "1" + "0" * 400, "9" * 5000, "-0", "true", "null", '""']
    + ['"\\ud800"', '"\\u0000\\u001b"']
    + ["[" * depth + "]" * depth for depth in (1, 70, 5000, 100_000)]
    + ['{"a":' * depth + "1" + "}" * depth for depth in (70, 3000)]
    + ['{"text/plain": "a", "text/plain": {"b": NaN}}', "[" + '"",' * 3000 + '""]', "[[],{}]"]
    + [f'"{kind}"' for kind in ("comm_open", "status", "idle", "stderr", "../../x", "text/html", "image/png")]
    + ["[" + "1" * 300 + ("," + "1" * 300) * 200 + "]", '"' + "\\n" * 4000 + '"']
    + ["[" * 60 + '"",' * 500 + '""' + "]" * 60]
)  # fmt: skip
"""JSON texts, and what only looks like JSON, to stand in the place of any value."""
KEYS = st.sampled_from(
    ["text/plain", "application/json", "application/vnd.jupyter.widget-view+json", "image/svg+xml", "msg_type",
     "msg_id", "transient", "display_id", "payload", "source", "x" * 3000, "\ud800", "", "execution_count",
     "traceback", "ename"]
)  # fmt: skip
MARK = "put the raw text here"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value, itself included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def with_mark(value: Any, path: tuple[Any, ...], key: str | None) -> Any:
    """The value with a mark at a place; or below it, under a key of its own."""
    if not path:
        return {**value, key: MARK} if key is not None and isinstance(value, dict) else MARK
    changed = with_mark(value[path[0]], path[1:], key)
    if isinstance(value, dict):
        return value | {path[0]: changed}
    return [*value[: path[0]], changed, *value[path[0] + 1 :]]


@st.composite
def spoilt_json(draw: st.DrawFn, part: bytes) -> bytes:
    value = json.loads(part)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))[:200]))
        marked = with_mark(value, path, draw(st.none() | KEYS))
        text = json.dumps(marked).replace(f'"{MARK}"', draw(RAW | TEXTS.map(json.dumps)), 1)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text.encode()
        if draw(st.booleans()):
            break
    return text.encode("utf-8", "surrogatepass")


@st.composite
def spoilt(draw: st.DrawFn, frames: Frames) -> Frames:
    """A message of which something was changed: in its JSON, with a right signature; or in its bytes and frames."""
    kind = draw(st.sampled_from(["none", "json", "json", "json", "bits", "cut", "frames", "signed bits"]))
    parts = frames[2:]
    if kind == "json":
        place = draw(st.sampled_from([0, 1, 2, 3, 3, 3]))
        parts[place] = draw(spoilt_json(parts[place]))
        return sign(*parts)
    if kind in ("bits", "signed bits"):
        place = draw(st.integers(0, len(parts) - 1))
        changed = bytearray(parts[place] or b"\0")
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(changed) - 1))] ^= 1 << draw(st.integers(0, 7))
        parts[place] = bytes(changed)
        return sign(*parts) if kind == "signed bits" else [*frames[:2], *parts]
    if kind == "cut":
        place = draw(st.integers(0, len(frames) - 1))
        return [*frames[:place], frames[place][: draw(st.integers(0, 40))], *frames[place + 1 :]]
    if kind == "frames":
        order = draw(st.lists(st.integers(0, len(frames) - 1), max_size=2 * len(frames)))
        return [frames[place] for place in order]
    return frames


@st.composite
def streams(draw: st.DrawFn, recorded: Recorded) -> list[tuple[str, Frames]]:
    """What a kernel says, some of it spoilt, out of order, on the wrong channel."""
    told = []
    for place in draw(st.lists(st.integers(0, len(recorded) - 1), min_size=1, max_size=14)):
        channel, frames = recorded[place]
        told.append((draw(st.sampled_from([channel] * 9 + list(TYPES))), draw(spoilt(frames))))
    return told


# What must hold

LIMITS = Limits(output_bytes=4000, session_output_bytes=6000)
ERRORS = 2 * 5 * 6 * 1024
"""Bytes that errors may take when no room is left (outputs.collector): two cells, five each, about 6 KB."""


def check_message(channel: str, message: dict[str, Any] | None) -> None:
    if message is not None:
        assert set(message) == {"msg_type", "parent", "content", "date"}
        assert message["msg_type"] in TYPES[channel]
        assert isinstance(message["parent"], str)
        assert isinstance(message["content"], dict)
        assert message["date"] is None or isinstance(message["date"], datetime)
        assert message["date"] is None or message["date"].tzinfo is not None


async def keep(stream: list[tuple[str, Frames]], recorder: Recorder) -> None:
    """Feed a stream to two cells, one after the other, as a session does; the first takes what is late, too."""
    cells = [recorder.new_cell(f"cell {number}", {}) for number in (1, 2)]
    for number, (channel, frames) in enumerate(stream):
        try:
            message = read_message(channel, frames, KEY)
        except InvalidMessage:
            continue
        check_message(channel, message)
        if message is not None and message["parent"] == REQUEST:
            cells[number % 2].take(channel, message)
        if number == len(stream) // 2:
            recorder.conclude(cells[0])
    for cell in cells:
        recorder.conclude(cell)
        assert cell.execution is not None
        assert len(repr(cell.execution)) < 400
        cell.execution.text.encode()
        assert cell.outputs.used_bytes <= 4000
        assert cell._backlog <= BACKLOG * cell.output_limit + 20_000


@steady(400)
@given(data=st.data())
def test_spoilt_messages_make_a_valid_bounded_notebook_that_loads_again(
    data: st.DataObject, recorded: Recorded
) -> None:
    recorder = Recorder(LIMITS, Transcript())
    asyncio.run(keep(data.draw(streams(recorded)), recorder))
    written = recorder.transcript.to_bytes()
    notebook = json.loads(written, parse_constant=pytest.fail)
    nbformat.validate(notebook)
    shown = [output for cell in notebook["cells"] for output in cell["outputs"]]
    # A control character is one byte, and \\u and four digits in JSON; names and braces are at most 600 an output.
    assert len(written) < 6 * (6000 + ERRORS) + 600 * len(shown) + 4000
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "written.ipynb")
        path.write_bytes(written)
        assert Transcript.load(path).to_bytes() == written


def test_recorded_messages_are_all_read_as_they_are(recorded: Recorded) -> None:
    read = [read_message(channel, frames, KEY) for channel, frames in recorded]
    kinds = {message["msg_type"] for message in read if message is not None}
    assert kinds == {"status", "execute_input", "stream", "display_data", "update_display_data", "clear_output",
                     "execute_result", "error", "execute_reply"}  # fmt: skip
    assert {message["parent"] for message in read if message is not None} == {REQUEST}


# The framing below

BOUNDS = Bounds(frame=3000, message=6000, least=10, parts=5, command=50, commands=5)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x05READY"


def zmtp_message(parts: list[bytes]) -> bytes:
    """Frames of a message as RFC 23 lays them out: short below 256 bytes, long from there."""
    made = b""
    for number, part in enumerate(parts):
        more = number < len(parts) - 1
        long = len(part) > 255
        made += bytes([more | (2 if long else 0)]) + len(part).to_bytes(8 if long else 1, "big") + part
    return made


def verdict(stream: bytes, cuts: list[int]) -> tuple[str, int]:
    """What a check says to a stream in pieces that end at these places, and how many messages it counted."""
    check = FrameReader(BOUNDS)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    start = 0
    for end in ends:
        if broken := check.feed(stream[start:end]):
            return broken, check.count
        assert len(check._head) <= 64
        start = end
    return "", check.count


CUTS = st.lists(st.integers(0, 9000), max_size=30)
PARTS = st.lists(st.integers(10, 1100).map(lambda size: bytes(size)), min_size=1, max_size=5)


@steady(100)
@given(messages=st.lists(PARTS, max_size=6), cuts=CUTS)
def test_bounded_streams_pass_the_check_in_any_pieces(messages: list[list[bytes]], cuts: list[int]) -> None:
    stream = GREETING + READY + b"".join(map(zmtp_message, messages))
    assert verdict(stream, cuts) == ("", len(messages))


@steady(300)
@given(messages=st.lists(PARTS, max_size=4), cuts=CUTS, noise=st.binary(max_size=80), at=st.integers(0, 3000))
def test_any_pieces_of_the_same_bytes_get_the_same_verdict(
    messages: list[list[bytes]], cuts: list[int], noise: bytes, at: int
) -> None:
    stream = GREETING + READY + b"".join(map(zmtp_message, messages))
    spoilt_stream = stream[:at] + noise + stream[at + len(noise) :]
    whole = verdict(spoilt_stream, [])
    assert verdict(spoilt_stream, cuts) == whole
    assert verdict(spoilt_stream, list(range(len(spoilt_stream)))) == whole


async def delivered(stream: bytes, cuts: list[int]) -> tuple[str, bytes]:
    """How a host's mux ends on a stream in pieces, and what reached its one channel."""
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    pieces = [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    waiting = iter([piece for piece in pieces if piece] + [b""])

    async def receive() -> bytes:
        return next(waiting)

    async def send(data: bytes) -> None:
        pass

    mux = Mux(receive, send)
    channel = await mux.open(b"")
    try:
        await mux.run()
        ended = "over"
    except MuxError as exc:
        ended = str(exc)
    assert channel._unread <= 2 * WINDOW + MAX_FRAME
    return ended, b"".join(channel._chunks)


FRAMES = st.tuples(
    st.sampled_from([1, 1, 1, 2]), st.sampled_from([DATA] * 6 + [1, 3, 4, 5, 99]), st.binary(max_size=60)
)


@steady(100)
@given(
    frames=st.lists(FRAMES, max_size=12), cuts=st.lists(st.integers(0, 900), max_size=20), tail=st.binary(max_size=12)
)
def test_mux_delivers_the_same_from_any_pieces(
    frames: list[tuple[int, int, bytes]], cuts: list[int], tail: bytes
) -> None:
    stream = b"".join(HEADER.pack(number, kind, len(data)) + data for number, kind, data in frames) + tail
    whole = asyncio.run(delivered(stream, []))
    assert asyncio.run(delivered(stream, cuts)) == whole
    assert asyncio.run(delivered(stream, list(range(len(stream))))) == whole


DEEP: Any = [""] * 2000
for _ in range(60):
    DEEP = [DEEP]
WORST: dict[str, tuple[str, dict[str, Any]]] = {
    "control characters": ("stream", {"name": "stdout", "text": "\x01" * 50_000}),
    "empty lines": ("stream", {"name": "stdout", "text": "\n" * 50_000}),
    "other line ends": ("stream", {"name": "stdout", "text": "\x0b\u2028" * 20_000}),
    "empty lines of a display": ("display_data", {"data": {"text/html": "\n" * 50_000}, "metadata": {}}),
    "deep empty texts": ("display_data", {"data": {"application/json": DEEP}, "metadata": {}}),
    "deep empty texts as metadata": ("display_data", {"data": {"text/plain": "x"}, "metadata": {"deep": DEEP}}),
    "deep keys": ("display_data", {"data": {"application/json": [{"": {"": {}}}] * 5000}, "metadata": {}}),
    "long integers": ("display_data", {"data": {"application/json": [10**300] * 2000}, "metadata": {}}),
    "long integers and a text": ("display_data", {"data": {"application/json": [10**300] * 2000 + [""]}}),
    "long numbers": ("display_data", {"data": {"application/json": [-1.7976931348623157e308] * 5000}}),
    "short numbers": ("display_data", {"data": {"application/json": [[[[[1]]]]] * 5000}, "metadata": {}}),
    "empty tracebacks": ("error", {"ename": "E", "evalue": "", "traceback": [""] * 2000}),
    "long names of empty types": ("display_data", {"data": {f"a/{'x' * 120}{n}": "" for n in range(60)}}),
}


@pytest.mark.parametrize("kind", WORST)
def test_worst_outputs_keep_the_notebook_within_its_bound(kind: str, tmp_path: Path) -> None:
    limit = 1024 * 1024
    session = SessionOutputs(Limits(output_bytes=limit, session_output_bytes=limit))
    cell, transcript, (message, content) = session.cell(), Transcript(), WORST[kind]
    for _ in range(3000):
        cell.feed(message, content)
        if cell.overflowed:
            break
    transcript.add_code_cell("1", cell.outputs)
    written = transcript.to_bytes()
    outputs = len(json.loads(written)["cells"][0]["outputs"])
    assert len(written) < 6 * limit + 600 * outputs + 4000
    path = tmp_path / "written.ipynb"
    path.write_bytes(written)
    assert Transcript.load(path).to_bytes() == written
