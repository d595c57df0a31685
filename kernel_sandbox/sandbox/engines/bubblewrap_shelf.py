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
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import anyio

from kernel_sandbox.host.forks import keep, renew
from kernel_sandbox.sandbox.engines.base import in_thread
from kernel_sandbox.sandbox.engines.bubblewrap_forked import ForkedProcess, forked
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import TemplateFailed
from kernel_sandbox.sandbox.engines.bubblewrap_template import SERVES, SLOTS, Template
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
KINDS = 16
"""Of which sessions are remembered to have been there."""
OLDEST = 6 * 3600.0
"""Seconds after which another takes a template's place, with another address layout."""
PAUSE = 60.0
"""Seconds for which none is begun where one has failed."""
LOOKS = 60.0
"""Seconds between two looks for templates that nobody wants."""
FEW = 4
"""With less than so many that a template may still fork, the next one is begun."""
AT_ONCE = 2

Born = tuple[ForkedProcess, socket.socket, list[str]]
"""A sandbox, its standard input, and what it shares."""

logger = logging.getLogger(__name__)


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
    """Whether it is nobody's choice any more, and ends with its last sandbox."""
    failed: bool = False
    """Whether it did not fork when it was asked: it is not asked again."""

    @property
    def is_past(self) -> bool:
        return time.monotonic() - self.began > OLDEST or self.template.has_ended

    @property
    def left(self) -> int:
        """How many sandboxes more it may fork, as things stand."""
        return min(SLOTS - self.living, SERVES - self.given)


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
    following: Standing | None = None
    """Takes its place once that may fork no more."""
    rising: asyncio.Task[None] | None = None
    not_before: float = 0.0
    waiting: asyncio.TimerHandle | None = field(default=None)

    @property
    def is_in_use(self) -> bool:
        return bool(self.present or self.standing or self.following or self.rising or self.waiting)

    @property
    def is_crowded(self) -> bool:
        """Whether all together have their kernels later, or take more memory, if each starts by itself."""
        return self.starting >= CROWD or self.present > SLOTS


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
        self._looking: asyncio.TimerHandle | None = None

    def enter(self, environment: Environment, boot: bytes) -> Visit | None:
        """Note that a sandbox is about to be; None where no template may be."""
        if os.environ.get(SWITCH) == "off":
            return None
        key = hashlib.sha256(str(environment.root).encode() + boot).digest()
        kind = self._kinds.pop(key, None) or Demand(environment, boot)
        self._kinds[key] = kind  # the last
        unused = [other for other, its in self._kinds.items() if not its.is_in_use]
        for other in unused[:-KINDS]:
            del self._kinds[other]
        kind.opened += 1
        kind.present += 1
        return Visit(kind)

    def settle(self, visit: Visit) -> None:
        """Note that a sandbox has its kernel: a template's imports are in nobody's way from now on."""
        visit.has_started()
        kind = visit.kind
        if sum(other.opened == 1 for other in self._kinds.values()) > MOST and kind.opened == 1:
            return  # no two are alike
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
        while kind.standing is not None and kind.standing.is_past:
            self._retire(kind)
        while True:
            if kind.standing is not None and kind.standing.left < 1:
                self._retire(kind)
            if (there := kind.standing) is not None:
                there.wanted = time.monotonic()
                there.living += 1
                there.given += 1
                if there.left < FEW and self._may_begin(kind):
                    self._begin(kind)
                return there
            if self._may_begin(kind) and (patient or kind.opened > 1):
                self._begin(kind)
            if kind.rising is None or not (patient or kind.is_crowded):
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
        lacks_one = kind.standing is None or (kind.standing.left < FEW and kind.following is None)
        return lacks_one and kind.rising is None and time.monotonic() >= kind.not_before

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
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody awaits this task
            if template not in self._templates:
                return  # ended while it rose
            self._templates.discard(template)
            logger.warning("No template for sessions of %s; each starts by itself: %s", kind.environment.name, exc)
            kind.not_before = time.monotonic() + PAUSE
        else:
            now = time.monotonic()
            risen = Standing(template, now, now)
            if kind.standing is None:
                kind.standing = risen
            else:
                kind.following = risen
            self._drop_surplus()
            self._look_later()
        finally:
            kind.rising = None

    def _drop_surplus(self) -> None:
        there = [kind for kind in self._kinds.values() if kind.standing is not None]
        there.sort(key=lambda kind: kind.standing.wanted if kind.standing else 0.0)
        for kind in there[:-MOST]:
            self._retire(kind)

    def _look_for_unused(self) -> None:
        now = time.monotonic()
        for kind in self._kinds.values():
            if (there := kind.standing) is not None and not there.living and now - there.wanted >= UNUSED:
                self._retire(kind)
            if (there := kind.following) is not None and now - there.wanted >= UNUSED:
                kind.following, there.retired = None, True
                self._end_if_done(there)
        self._looking = None
        self._look_later()

    def _look_later(self) -> None:
        if self._looking is None and any(kind.standing is not None for kind in self._kinds.values()):
            self._looking = asyncio.get_running_loop().call_later(LOOKS, self._look_for_unused)

    def _retire(self, kind: Demand) -> None:
        if (there := kind.standing) is not None:
            kind.standing, kind.following, there.retired = kind.following, None, True
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
        there.failed = True
        for kind in self._kinds.values():
            if kind.standing is there:
                kind.not_before = time.monotonic() + PAUSE
                self._retire(kind)

    async def bear(self, there: Standing, preparation: dict[str, Any], group: ControlGroup) -> Born | None:
        """Have a template fork a sandbox; return it, its standard input, and what it shares. None where it does not.

        It takes two seconds at most, so that nobody who gives up meanwhile leaves a sandbox that nobody has.
        """
        try:
            async with there.turns:
                if not there.failed:
                    return await _take(forked(there.template, preparation, group))
        except TemplateFailed as exc:
            self._failed(there, exc)
        except BaseException:
            self.give_back(there)
            raise
        self.give_back(there)
        return None


async def _take(bearing: Coroutine[Any, Any, Born]) -> Born:
    """Await a sandbox that is forked; end it where this is cancelled meanwhile, by asyncio or by anyio."""
    forking = asyncio.get_running_loop().create_task(bearing)
    with anyio.CancelScope(shield=True):
        try:
            await asyncio.shield(forking)
        except asyncio.CancelledError:
            with contextlib.suppress(TemplateFailed):
                process, stdin, _ = await forking
                stdin.close()
                process.end()
                await process.wait()
            raise
    return forking.result()


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
