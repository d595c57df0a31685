"""What a forked child does not take over: the streams to sandboxes, their sockets, and whoever thinks it has a session.

A sandbox ends with its stream, that is when the last copy of the host's end is closed. A child of this process gets a
copy of every descriptor, so that a killed host's sandboxes would run as long as a child of its lives. Descriptors are
made one here (`own`), objects are told (`tell`), and a child is rid of both before it runs anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

PATIENCE = 2.0
"""Seconds for which a fork waits until nothing is between its making and `own`."""


class HasFileno(Protocol):
    """A socket, a file, or a Descriptor: -1 or a ValueError once it is closed."""

    def fileno(self) -> int: ...


class HearsOfFork(Protocol):
    """What must know that its process has become another one."""

    def after_fork(self) -> None:
        """Called in the child, where no thread but this one and no event loop runs. It must not wait for anything."""


Owned = TypeVar("Owned", bound=HasFileno)
_owned: weakref.WeakSet[HasFileno] = weakref.WeakSet()
_told: weakref.WeakSet[HearsOfFork] = weakref.WeakSet()
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_passing: list[tuple[int, frozenset[int]]] = []
"""Which thread starts a program now, and with which descriptors."""
_renewals: list[Callable[[], None]] = []
_unfinished = 0
"""How many descriptors are between their making and `own`, and how many programs are being started."""
_finished = threading.Condition()


class Descriptor:
    """A descriptor that a forked child does not get."""

    def __init__(self, number: int) -> None:
        self._number = number
        own(self)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        """Close it, once."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


def pipe() -> tuple[Descriptor, Descriptor]:
    """Make a pipe that a forked child does not get."""
    with making():
        reader, writer = os.pipe()
        return Descriptor(reader), Descriptor(writer)


def own(thing: Owned) -> Owned:
    """Keep a descriptor, as long as it is open, from every child that is forked."""
    _owned.add(thing)
    return thing


def tell(thing: HearsOfFork) -> None:
    """Call `thing.after_fork` in every child that is forked; nothing that it holds is ever freed there."""
    _told.add(thing)


def renew(module_state: Callable[[], None]) -> None:
    """Call `module_state` in every child: it makes a module's locks and lists of what the parent has anew."""
    _renewals.append(module_state)


def separate(loop: asyncio.AbstractEventLoop) -> None:
    """Give an event loop that sessions use an epoll of its own in every child, so that nothing there ends it here."""
    if hasattr(loop, "_selector"):  # asyncio's; uvloop hides its own
        _loops.add(loop)


@contextlib.contextmanager
def making() -> Iterator[None]:
    """Hold forks up between the making of a descriptor and `own`. For what takes milliseconds."""
    global _unfinished
    with _finished:
        _unfinished += 1
    try:
        yield
    finally:
        with _finished:
            _unfinished -= 1
            _finished.notify_all()


@contextlib.contextmanager
def passing(*descriptors: HasFileno) -> Iterator[None]:
    """Leave these to a program that this thread starts: uvloop's way to start one is a fork like any other."""
    entry = threading.get_ident(), frozenset(descriptor.fileno() for descriptor in descriptors)
    _passing.append(entry)
    try:
        with making():
            yield
    finally:
        _passing.remove(entry)


def _passed_here() -> set[int]:
    return {number for thread, numbers in _passing if thread == threading.get_ident() for number in numbers}


def _before() -> None:
    if not _passed_here():
        _finished.acquire()
        _finished.wait_for(lambda: _unfinished == 0, PATIENCE)


def _after() -> None:
    with contextlib.suppress(RuntimeError):  # not acquired
        _finished.release()


def _after_in_child() -> None:
    global _finished, _unfinished
    _finished, _unfinished = threading.Condition(), 0
    _replace_descriptors()
    for loop in list(_loops):
        with contextlib.suppress(OSError, AttributeError):
            _renew_loop(loop)
    for renewal in _renewals:
        renewal()
    for thing in list(_told):
        keep(thing)
        thing.after_fork()


def keep(thing: object) -> None:
    """Never free an object, nor what it holds.

    Objects of an event loop that are freed in a child run the ends of tasks that go on in the parent.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _renew_loop(loop: Any) -> None:
    """Part a loop of asyncio from the parent's: new pipes to wake it and a new epoll, under the old numbers.

    An epoll is shared by a fork (epoll(7), "Questions and answers", 6): what a child takes out of it when it ends its
    loop, or frees an object, is lost to the parent.
    """
    for new, old in zip(socket.socketpair(), (loop._ssock, loop._csock), strict=True):
        new.setblocking(False)
        os.dup2(new.fileno(), old.fileno(), inheritable=False)
        new.close()
    with select.epoll() as fresh:
        for key in loop._selector.get_map().values():
            events = select.EPOLLIN * bool(key.events & selectors.EVENT_READ)
            with contextlib.suppress(OSError):  # /dev/null by now
                fresh.register(key.fd, events | select.EPOLLOUT * bool(key.events & selectors.EVENT_WRITE))
        os.dup2(fresh.fileno(), loop._selector.fileno(), inheritable=False)


def _replace_descriptors() -> None:
    """Put /dev/null in the place of each: its object will close that number yet, when it may be somebody else's."""
    null, passed = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), _passed_here()
    for thing in list(_owned):
        with contextlib.suppress(Exception):  # of a closed one: OSError, ValueError, libzmq's own
            if (number := thing.fileno()) >= 0 and number not in passed:
                os.dup2(null, number, inheritable=False)
    os.close(null)
    _owned.clear()
    _passing.clear()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
