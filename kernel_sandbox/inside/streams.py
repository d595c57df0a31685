"""What code prints and shows: written in few steps, sent in order, held up where the host takes it slowly.

Runs in the kernel. ipykernel's `write` makes six calls and hashes the cell's header, and its `flush`, four times a
cell, waits for another thread also where nothing was written. What is usual is short here; all else goes their way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import zmq
from ipykernel.iostream import OutStream

from kernel_sandbox.inside import application

ROOM = 4 * 1024 * 1024
"""Characters that code may write, and bytes that it may show, before it waits until libzmq has them in its queue."""
_PARTS = ("_parent_header", "_buffers", "_buffer_lock")
"""Where a stream of ipykernel 7 keeps text. Other versions' `write` is only counted."""
_ELSEWHERE = (object(), None, None)


def take_over(app: Any) -> None:
    """Make the kernel's streams brief, and what code shows wait for a slow host."""
    hold = _hold_up_floods(app.iopub_thread)
    stream: Any = OutStream
    write, flush = stream.write, stream.flush
    stream._near = None
    if all(hasattr(made, part) for made in application.streams() for part in _PARTS):
        stream.write, stream.flush = _write(_write_first(write), hold), _flush_first(flush)
    else:
        stream.write = _write(write, hold)

    def leave() -> None:
        stream.write, stream.flush = write, flush

    os.register_at_fork(after_in_child=leave)


def _hold_up_floods(thread: Any) -> Callable[[Any], None]:
    """Hold code up that shows more than the host takes, rather than fill the sandbox's memory.

    Returns what does so for code that writes to a stream.
    """
    really_send, send = thread._really_send, thread.send_multipart
    shown, process = 0, os.getpid()

    def hold(stream: Any = None) -> None:
        if os.getpid() == process and threading.get_ident() != thread.thread.ident:
            if stream is not None:
                stream.flush()
            taken = threading.Event()
            thread.schedule(taken.set)
            taken.wait(application.PATIENCE)

    def send_patiently(*args: Any, **kwargs: Any) -> None:
        try:
            really_send(*args, **kwargs)
        except zmq.Again:
            thread.socket.setsockopt(zmq.SNDHWM, 0)
            really_send(*args, **kwargs)

    def send_and_wait(message: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal shown
        send(message, *args, **kwargs)
        shown += sum(map(len, message))
        if shown >= ROOM:
            shown = 0
            hold()

    thread._really_send, thread.send_multipart = send_patiently, send_and_wait
    return hold


def _write(write_first: Callable[[Any, str], Any], hold: Callable[[Any], None]) -> Callable[[Any, str], Any]:
    """Return a `write` that puts text where the text before it went, for as long as it would go there.

    `stream._near` is the header of what was written last, the stream's buffers, and the `write` of the buffer; None
    where nothing was written since a flush. A flush of those buffers is under way: the first write has asked for it.
    """
    written = 0

    def write(stream: Any, text: str) -> Any:
        nonlocal written
        near = stream._near
        is_near = False
        if near is not None and near[0] is stream._parent_header.get(None) and stream.pub_thread is not None:
            with stream._buffer_lock:
                if is_near := stream._buffers is near[1] and text.__class__ is str:
                    near[2](text)
                    stream._near = near  # again: another thread may have flushed meanwhile
        size = len(text) if is_near else write_first(stream, text)
        written += size or 0
        if written >= ROOM:
            written = 0
            hold(stream)
        return size

    return write


def _write_first(write: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Return ipykernel's `write`, which then notes where the text went."""

    def write_first(stream: Any, text: str) -> Any:
        size = write(stream, text)
        with stream._buffer_lock:
            header, buffers = stream._parent_header.get(None), stream._buffers
            buffer = None if header is None or stream.echo else buffers.get(frozenset(header.items()))
            stream._near = _ELSEWHERE if buffer is None else (header, buffers, buffer.write)
        return size

    return write_first


def _flush_first(flush: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return ipykernel's `flush`, which waits for the publishing thread, for streams that were written to."""

    def flush_written(stream: Any) -> None:
        if stream._near is not None:
            stream._near = None
            flush(stream)

    return flush_written
