"""Which templates this process has: one for each environment, kernel environment and choice of modules.

A template costs what its imports cost, so the first session of a kind gets none. It is begun when a second session of
the kind is opened, or the first one is ready and nothing else is started; who comes in a crowd waits for it. It ends
when nobody has wanted it for a while, and with this process. Runs in the reactor.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import logging
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import anyio

from kernel_sandbox.host.forks import keep, making, own, renew
from kernel_sandbox.sandbox.engines.base import in_thread
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import Newborn, TemplateFailed
from kernel_sandbox.sandbox.engines.bubblewrap_template import LINE, SERVES, SLOTS, Template
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.sandbox.engines.environments import Environment

SWITCH = "KERNEL_SANDBOX_TEMPLATES"
"""For tests: `off`, or `first`, which has the first session of a kind wait for a template."""
QUIET = 1.0
"""Seconds that a single session is ready, and nothing else started, until a template is begun."""
CROWD = 4
"""Sessions of a kind that start by themselves at a time; who comes then waits for the template that was begun."""
WAITS = 20.0
"""Seconds that a session waits for a template which imports its modules; then it imports them itself."""
UNUSED = 300.0
"""Seconds after which a template without sandboxes ends."""
MOST = 4
"""Templates that are kept; the one that was wanted longest ago ends first."""
OLDEST = 6 * 3600.0
"""Seconds after which another takes a template's place, with another address layout."""
PAUSE = 300.0
"""Seconds for which none is begun where one has failed."""
AT_ONCE = 2
KILLED = 137
ENDS_WITHIN = 5000
"""Milliseconds that killed processes may take."""
CHUNK = 256 * 1024

logger = logging.getLogger(__name__)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ForkedProcess:
    """A sandbox from a template, as asyncio shows a process: its monitor stands for bubblewrap."""

    def __init__(self, newborn: Newborn, stdout: Stream, stderr: Stream) -> None:
        self.pid, self.first_pid, self.sockets = newborn.monitor, newborn.first, newborn.sockets
        self.stdout, self.stderr = stdout[0], stderr[0]
        self._open = stdout[1], stderr[1]
        self.returncode: int | None = None
        self._newborn = newborn
        newborn.word.setblocking(False)
        self._ending = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        """Hear how it ended, and see that it has: whoever else had the other end of this socket could say so, too."""
        status, handles = b"", (self._newborn.first_handle, self._newborn.monitor_handle)
        with contextlib.suppress(OSError):
            status = await asyncio.get_running_loop().sock_recv(self._newborn.word, LINE)
        for handle in handles:
            self._signal(handle)
        await in_thread(_wait_for, handles)
        self.returncode = _status(status)
        self._newborn.word.close()
        for stream in self._open:
            stream.close()  # what was written is still read
        for handle in handles:
            os.close(handle)

    async def wait(self) -> int:
        await asyncio.shield(self._ending)
        assert self.returncode is not None
        return self.returncode

    def end(self) -> None:
        """Kill PID 1, with which the kernel ends all others."""
        self._signal(self._newborn.first_handle)

    def kill(self) -> None:
        """Kill the monitor, and PID 1 with it."""
        self._signal(self._newborn.monitor_handle)

    def _signal(self, handle: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


def _wait_for(handles: tuple[int, ...]) -> None:
    """Wait until these processes have ended, but not for ever for one that the kernel does not let go."""
    for handle in handles:
        asked = select.poll()
        asked.register(handle, select.POLLIN)
        asked.poll(ENDS_WITHIN)


def _status(told: bytes) -> int:
    """Read what a monitor says, which may be anything."""
    digits = told.removeprefix(b'{"status": ').removesuffix(b"}")
    return int(digits) if digits.isdigit() and len(digits) < 4 else KILLED


@dataclass(eq=False)
class Standing:
    """A template that is ready."""

    template: Template
    began: float
    wanted: float
    living: int = 0
    """Sandboxes that are there, or are about to be."""
    given: int = 0
    """How many there have been, with those that it did not fork."""
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    """Whose two seconds have begun: with a crowd at its door no template keeps to them."""
    retired: bool = False
    """Whether it forks nothing more, and ends with its last sandbox."""

    @property
    def is_past(self) -> bool:
        return time.monotonic() - self.began > OLDEST or self.template.has_ended

    @property
    def is_full(self) -> bool:
        return self.living >= SLOTS or self.given >= SERVES


@dataclass(eq=False)
class Demand:
    """What is known of the sessions that one template would do for."""

    environment: Environment
    boot: bytes
    opened: int = 0
    present: int = 0
    """Sandboxes that have not ended, however they were started."""
    starting: int = 0
    """Those that start by themselves and have no kernel yet."""
    standing: Standing | None = None
    rising: asyncio.Task[None] | None = None
    not_before: float = 0.0
    waiting: asyncio.TimerHandle | None = field(default=None)


class Visit:
    """One sandbox, as the shelf counts it, from before its start to its end."""

    def __init__(self, kind: Demand) -> None:
        self.kind, self._is_starting = kind, False

    def starts_by_itself(self) -> None:
        self._is_starting = True
        self.kind.starting += 1

    def has_started(self) -> None:
        self.kind.starting -= self._is_starting
        self._is_starting = False


class Shelf:
    """The templates of one process."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, Demand] = {}
        self._templates: set[Template] = set()
        """All that have not ended."""

    def enter(self, environment: Environment, boot: bytes) -> Visit | None:
        """Note that a sandbox is about to be; None where no template may be."""
        if os.environ.get(SWITCH) == "off":
            return None
        key = hashlib.sha256(str(environment.root).encode() + boot).digest()
        kind = self._kinds.setdefault(key, Demand(environment, boot))
        kind.opened += 1
        kind.present += 1
        return Visit(kind)

    def settle(self, visit: Visit) -> None:
        """Note that a sandbox has its kernel: a template's imports are in nobody's way from now on."""
        visit.has_started()
        kind = visit.kind
        if kind.present and kind.waiting is None and self._may_begin(kind):
            kind.waiting = asyncio.get_running_loop().call_later(QUIET, self._begin, kind)

    def leave(self, visit: Visit) -> None:
        """Note that a sandbox has ended."""
        visit.has_started()
        kind = visit.kind
        kind.present -= 1
        if not kind.present and kind.waiting is not None:
            kind.waiting.cancel()
            kind.waiting = None

    async def find(self, visit: Visit, *, patient: bool) -> Standing | None:
        """Return a template that will fork this sandbox, if there is one; begin one where it will be wanted.

        Who is `patient` waits for one, as a crowd does: all together they would take longer without it.
        """
        self._put_off()
        kind = visit.kind
        patient = patient or os.environ.get(SWITCH) == "first"
        if kind.standing is not None and kind.standing.is_past:
            self._retire(kind)
        while True:
            if kind.standing is not None and kind.standing.is_full:
                self._retire(kind)
            if (there := kind.standing) is not None:
                there.wanted = time.monotonic()
                there.living += 1
                there.given += 1
                return there
            if self._may_begin(kind) and (patient or kind.opened > 1):
                self._begin(kind)
            if kind.rising is None or not (patient or kind.starting >= CROWD):
                break
            await asyncio.wait([kind.rising], timeout=WAITS)
            if kind.standing is None:
                break
        return None

    def _put_off(self) -> None:
        """Have templates that nobody waits for begin later: somebody starts something."""
        for kind in self._kinds.values():
            if kind.waiting is not None:
                kind.waiting.cancel()
                kind.waiting = asyncio.get_running_loop().call_later(QUIET, self._begin, kind)

    def _may_begin(self, kind: Demand) -> bool:
        return kind.standing is None and kind.rising is None and time.monotonic() >= kind.not_before

    def _begin(self, kind: Demand) -> None:
        if kind.waiting is not None:
            kind.waiting.cancel()
            kind.waiting = None
        kind.rising = asyncio.get_running_loop().create_task(self._raise(kind))

    async def _raise(self, kind: Demand) -> None:
        template = Template(kind.environment, kind.boot)
        self._templates.add(template)
        try:
            await in_thread(template.rise)
        except (TemplateFailed, OSError) as exc:
            if template not in self._templates:
                return  # ended while it rose
            self._templates.discard(template)
            logger.warning("No template for sessions of %s; each starts by itself: %s", kind.environment.name, exc)
            kind.not_before = time.monotonic() + PAUSE
        else:
            now = time.monotonic()
            kind.standing = Standing(template, now, now)
            asyncio.get_running_loop().call_later(UNUSED, self._look_for_unused)
            self._drop_surplus()
        finally:
            kind.rising = None

    def _drop_surplus(self) -> None:
        there = [kind for kind in self._kinds.values() if kind.standing is not None]
        there.sort(key=lambda kind: kind.standing.wanted if kind.standing else 0.0)
        for kind in there[:-MOST]:
            self._retire(kind)

    def _look_for_unused(self) -> None:
        for kind in self._kinds.values():
            if (there := kind.standing) is None or there.living:
                continue
            if time.monotonic() - there.wanted >= UNUSED - 1:
                self._retire(kind)
            else:
                asyncio.get_running_loop().call_later(UNUSED, self._look_for_unused)

    def _retire(self, kind: Demand) -> None:
        if (there := kind.standing) is not None:
            kind.standing, there.retired = None, True
            self._end_if_done(there)

    def _end_if_done(self, there: Standing) -> None:
        if there.retired and not there.living:
            ending = asyncio.get_running_loop().create_task(self._end(there.template))
            _endings.add(ending)
            ending.add_done_callback(_endings.discard)

    async def _end(self, template: Template) -> None:
        await in_thread(template.end)
        self._templates.discard(template)

    def give_back(self, there: Standing) -> None:
        """Note that a sandbox of a template has ended."""
        there.living -= 1
        there.wanted = time.monotonic()
        if not there.living:
            asyncio.get_running_loop().call_later(UNUSED, self._look_for_unused)
        self._end_if_done(there)

    def end_all(self) -> None:
        """End all templates, as this process ends. Their sandboxes end with it in any case."""
        for kind in self._kinds.values():
            kind.standing = None
        self._kinds.clear()
        while self._templates:
            self._templates.pop().end()

    def _failed(self, there: Standing, why: Exception) -> None:
        """Do without a template that did not fork when it was asked."""
        logger.warning("A template did not fork a sandbox, and another way was taken: %s", why)
        for kind in self._kinds.values():
            if kind.standing is there:
                kind.not_before = time.monotonic() + PAUSE
                self._retire(kind)

    async def bear(
        self, there: Standing, preparation: dict[str, Any], group: ControlGroup
    ) -> tuple[ForkedProcess, socket.socket, list[str]] | None:
        """Have a template fork a sandbox; return it, its standard input, and what it shares. None where it does not.

        It takes two seconds at most, so that nobody who gives up meanwhile leaves a sandbox that nobody has.
        """
        try:
            async with there.turns:
                if not there.retired:
                    with anyio.CancelScope(shield=True):
                        return await _bear(there.template, preparation, group)
        except TemplateFailed as exc:
            self._failed(there, exc)
        except BaseException:
            self.give_back(there)
            raise
        self.give_back(there)
        return None


async def _bear(
    template: Template, preparation: dict[str, Any], group: ControlGroup
) -> tuple[ForkedProcess, socket.socket, list[str]]:
    with making():
        pairs = [tuple(map(own, socket.socketpair())) for _ in range(3)]
    try:
        newborn = await in_thread(template.bear, preparation, group, tuple(theirs for _, theirs in pairs))
    except BaseException:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for _, theirs in pairs:
            theirs.close()
    stdin, *outputs = (ours for ours, _ in pairs)
    streams = []
    for output in outputs:
        output.setblocking(False)
        streams.append(await asyncio.open_unix_connection(sock=output, limit=CHUNK))
    return ForkedProcess(newborn, *streams), stdin, newborn.shared


_endings: set[asyncio.Task[None]] = set()
_shelf = Shelf()


def shelf() -> Shelf:
    """Return this process's."""
    return _shelf


def _end_all() -> None:
    _shelf.end_all()


atexit.register(_end_all)


def _renew() -> None:
    """Leave the templates to the parent, in a forked child."""
    global _shelf, _endings
    keep((_shelf, _endings))
    _shelf, _endings = Shelf(), set()


renew(_renew)
