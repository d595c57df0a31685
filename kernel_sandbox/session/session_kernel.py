"""The kernel of a session: one after the other, in a sandbox that usually outlives them. Starts, connects, ends them.

It knows whether a cell can run now, and if not why; whose cells run is the CellRunner's. It speaks to the kernel by
channels of its own; a connection file is there for other clients of the same kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import uuid
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

from kernel_sandbox.errors import (
    Kept,
    KernelError,
    KernelNotReady,
    ProtocolViolation,
    SandboxError,
    SandboxLost,
    SessionClosed,
)
from kernel_sandbox.host import forks
from kernel_sandbox.host.affinity import Affinity
from kernel_sandbox.host.reactor import on_reactor
from kernel_sandbox.host.run_directory import explained
from kernel_sandbox.sandbox.link import StartedKernel
from kernel_sandbox.sandbox.standing import StandingSandbox
from kernel_sandbox.session.channels import Channels, Handler
from kernel_sandbox.session.kernel_state import (
    Dead,
    KernelClosed,
    KernelConnection,
    KernelState,
    New,
    Open,
    Opening,
    Restarting,
    Stage,
)
from kernel_sandbox.session.messages import Message
from kernel_sandbox.session.other_clients import OtherClients
from kernel_sandbox.spec.languages import Language, language_named, language_of_image
from kernel_sandbox.spec.values import SandboxSpec

if TYPE_CHECKING:
    from kernel_sandbox.sandbox.link import GuestLink
    from kernel_sandbox.sandbox.sandbox import LiveSandbox

FORKED = "The session was opened before this process was forked, and is the parent's: open another one here."
CLOSED_EARLY = "The session was closed while it opened."
CLOSED = "The session is closed. Open a new one; its transcript can be replayed."
SIGNATURES = "hmac-sha256"
LAST_OUTPUTS = 1.0
"""Seconds in which a kernel that is idle answers."""
CLOSING = 1.0
"""Seconds in which cells end when their session is closed; they need no more than their turn."""


class SessionKernel:
    """The current kernel of one session. The callbacks are called in the session's event loop."""

    def __init__(self, engine: str | None, session_id: str, spec: SandboxSpec) -> None:
        self.spec = spec
        self._sandbox = StandingSandbox(spec, engine, session_id)
        self._messages = Session(key=uuid.uuid4().hex.encode(), signature_scheme=SIGNATURES)
        """Makes messages and signs them, as every client of Jupyter's."""
        self._state: KernelState = New()
        self.others = OtherClients(self._has_other_clients)
        self.info: dict[str, Any] = {}
        """Its kernel_info."""
        self.generation = 0
        """How many kernels there have been."""
        self.restarted_because: str | None = None
        self.kept_by_restart: Kept = "files"
        """What the last restart left: "files", or "nothing" where the sandbox was a new one too."""
        self.on_unparented: Handler = lambda channel, message: None
        self.on_gone: Callable[[SandboxError], None] = lambda cause: None
        """Called when what runs in the kernel has ended with it."""
        self.on_fresh: Callable[[], None] = lambda: None
        """Called when nothing of the kernel before counts any more."""
        self.on_connected: Callable[[], None] = lambda: None
        self.on_death: Callable[[SandboxError], None] = lambda cause: None
        self._ending = asyncio.Lock()
        """Held by who starts another kernel, and by who closes the session."""
        self._background: set[asyncio.Task[Any]] = set()
        self._affinity = Affinity("session", "open another one here, or a Session, which works from everywhere")
        forks.tell(self)

    def after_fork(self) -> None:
        """Leave the kernel to the parent. What is not open yet can be opened here."""
        if not isinstance(self._state, New | KernelClosed):
            forks.keep(self._state)
            self._state = KernelClosed(SessionClosed(FORKED))

    # Opening and closing

    async def open(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Start the sandbox and its kernel. `tasks` are those of cells, which a close waits for."""
        if not isinstance(self._state, New):
            raise SessionClosed("A session opens once: make a new one.")
        self._affinity.bind()
        forks.separate(asyncio.get_running_loop())
        start = asyncio.ensure_future(self._start())
        self._state = self._state.opening(start)
        try:
            await start
        except BaseException as exc:
            closed = self._is_closed
            await self._end(tasks)
            if closed and isinstance(exc, asyncio.CancelledError):
                raise SessionClosed(CLOSED_EARLY) from None
            raise
        if self._is_closed:  # just when it was open
            raise SessionClosed(CLOSED_EARLY)

    def take_over(self, sandbox: StandingSandbox) -> None:
        """Start in this sandbox, which is being opened already. Only before `open`."""
        self._sandbox = sandbox

    async def _start(self) -> None:
        """Start a kernel, in the sandbox that stands or in a new one, and connect to it."""
        with explained(also_room=False):
            key, scheme = self._messages.key, self._messages.signature_scheme
            start = functools.partial(self._sandbox.start_kernel, key, scheme, own_session=True)
            info = await on_reactor(start)
            write_connection_file(str(self.live().directory.connection_file), **info)
            await self._connect()

    async def aclose(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """End the kernel and the sandbox, after `tasks`, which have no time but for their end."""
        if not self._is_closed:
            self._affinity.check()
            await self._end(tasks)

    async def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """End all that there is by now, also what a start that failed or was given up has left."""
        before, self._state = self._state, KernelClosed(SessionClosed(CLOSED))
        with anyio.CancelScope(shield=True):
            if isinstance(before, Opening):
                before.start.cancel()
                await asyncio.wait([before.start])
            async with self._ending:
                self.on_gone(SessionClosed("The session was closed while the cell ran."))
                if running := list(tasks):
                    await asyncio.wait(running, timeout=CLOSING)
                for task in (*tasks, *self._background):
                    task.cancel()
                if isinstance(before, Open | Dead):
                    await before.connection.close()
                await on_reactor(self._sandbox.close)

    async def _connect(self) -> None:
        """Connect to a kernel that has just started, and watch for its death."""
        live = self.live()
        self.others = OtherClients(self._has_other_clients)
        channels = Channels(live.gate, self._messages, self.on_unparented, self._channel_failed)
        try:
            channels.open()
            info = await self._shake_hands(channels)
        except BaseException:
            await channels.close()
            raise
        connection = KernelConnection(
            channels, asyncio.get_running_loop().create_task(self._watch_death(live, channels))
        )
        if not isinstance(self._state, Opening | Restarting):  # closed meanwhile
            return await connection.close()
        self.info = info
        self._state = self._state.connected(connection)
        self.generation += 1
        self.on_connected()

    async def _shake_hands(self, channels: Channels) -> dict[str, Any]:
        """Return the kernel's kernel_info. Raises KernelNotReady, and at once why the kernel died meanwhile."""
        # Never cancelled: that would cancel the reactor's.
        death: asyncio.Future[Any] = asyncio.wrap_future(self.live().death)
        shaking = asyncio.ensure_future(channels.handshake(self.spec.limits.start_timeout))
        try:
            await asyncio.wait([shaking, death], return_when=asyncio.FIRST_COMPLETED)
            if not shaking.done():
                raise death.result()
            return shaking.result()
        finally:
            shaking.cancel()

    # What there is

    @property
    def why_no_cell(self) -> SandboxError | None:
        """Why no cell can run now, where that is so."""
        return self._state.why_no_cell

    @property
    def channels(self) -> Channels | None:
        """The channels of the kernel that runs, or has died; what the dead one said last may still come."""
        return self._state.connection.channels if isinstance(self._state, Open | Dead) else None

    @property
    def _is_closed(self) -> bool:
        return isinstance(self._state, KernelClosed)

    def check_open(self) -> None:
        """Raise unless the session is open, and in this event loop: a caller's mistake is not a cell's failure.

        Raises SessionClosed or WrongEventLoop.
        """
        self._check_not_closed()
        self._affinity.check()

    def _check_not_closed(self) -> None:
        if isinstance(self.why_no_cell, SessionClosed):
            raise SessionClosed(str(self.why_no_cell))

    @property
    def stage(self) -> Stage:
        """How far the session has come: "open" while a cell can run."""
        return self._state.stage

    @property
    def death(self) -> SandboxError | None:
        """Why no cell can run until a restart, where that is so."""
        return None if isinstance(self._state, Restarting) else self.why_no_cell

    def live(self) -> LiveSandbox:
        """Return the sandbox. Raises why there is none."""
        if (live := self._sandbox.live) is not None:
            return live
        raise self.why_no_cell or SandboxLost("The sandbox is gone.", advice="Call restart() for a new one.")

    def link(self) -> GuestLink:
        """Return the link to PID 1, in the reactor. Raises why there is none."""
        self._check_not_closed()
        live = self.live()
        if live.lost is not None:
            raise live.lost
        return live.link

    def connected(self) -> Channels:
        """Return the channels of a kernel that lives. Raises why there is none."""
        self.check_open()
        if not isinstance(self._state, Open):
            raise self._state.why_no_cell
        return self._state.connection.channels

    @property
    def connection_file(self) -> Path:
        """The kernel's connection file on this host."""
        self._check_not_closed()
        return self.live().directory.connection_file

    def _has_other_clients(self) -> bool:
        with contextlib.suppress(SandboxError):
            return self.live().gate.clients > 0
        return False

    def in_order(self, take: Handler) -> Handler:
        """Return what takes a cell's messages: "idle" as the last of them, which some kernels (Deno) send too early.

        A kernel that has answered another request since has sent all that the cell showed.
        """
        if self.started.is_python:
            return take

        async def take_last(channel: str, message: Message) -> None:
            if isinstance(self._state, Open):
                await self._state.connection.channels.ask("shell", "kernel_info_request", {}, timeout=LAST_OUTPUTS)
            take(channel, message)

        def sort(channel: str, message: Message) -> None:
            if message["msg_type"] == "status" and message["content"].get("execution_state") == "idle":
                self._in_background(take_last(channel, message))
            else:
                take(channel, message)

        return sort

    # What is done to it

    @property
    def started(self) -> StartedKernel:
        """What is known of the kernel from its start: its kernelspec."""
        with contextlib.suppress(SandboxError):
            return self.live().current.started
        return StartedKernel()

    @property
    def language(self) -> Language:
        """What its cells are written in, as it says itself; before it runs, what its image is for."""
        told = self.info.get("language_info")
        name = told.get("name") if isinstance(told, dict) else None
        if isinstance(name, str) and name:
            return language_named(name)
        return language_of_image(self.spec.image)

    def require_python(self, why: str) -> None:
        """Raise KernelError where the kernel is another than Python's: `why` says what that has to do with it."""
        if not self.language.is_python:
            raise KernelError(f"{why}, and this session's kernel is {self.language.title}.")

    @property
    def interrupts(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """The steps by which a cell is interrupted, in their order: Python's knows all, others what they say."""
        if self.started.is_python:
            return self.send_interrupt, self.send_sigint
        return (self.send_interrupt,) * (2 if self.started.interrupt_mode == "signal" else 1)

    async def send_interrupt(self) -> None:
        """Ask the kernel to interrupt what it runs, or send SIGINT to one that wants that, or does not answer."""
        if isinstance(self._state, Open):
            by_message = self.started.interrupt_mode == "message"
            channels = self._state.connection.channels
            if by_message and await channels.ask("control", "interrupt_request", {}, timeout=1.0) is not None:
                return
            if self.started.is_python or not by_message:  # another may only know to die of a signal
                await self.send_sigint()

    async def send_sigint(self) -> None:
        """Send SIGINT to the kernel's process group."""
        with contextlib.suppress(SandboxError):
            await on_reactor(self.live().signal_kernel, signal.SIGINT)

    async def start_anew(self, because: str) -> None:
        """Start a fresh kernel, and a sandbox where there is none any more. The caller sees to it that no cell runs.

        Raises what a start raises; `kept_by_restart` is right in any case.
        """
        async with self._ending:  # who closes the session waits: nothing may be started after its end
            before = self._state
            if isinstance(before, New | Opening | Restarting | KernelClosed):
                raise before.why_no_cell
            self._state = restarting = before.restarting(because)
            self.on_fresh()
            stood = self._standing()
            try:
                if isinstance(before, Open | Dead):
                    await before.connection.close()
                await on_reactor(self._sandbox.stop_kernel)
                await self._start()
                self.restarted_because = restarting.because
            except BaseException as exc:
                given_up = KernelNotReady("The kernel's restart was given up.", advice="Call restart().")
                if self._state is restarting:
                    self._state = restarting.failed(exc if isinstance(exc, SandboxError) else given_up)
                raise
            finally:
                self.kept_by_restart = "files" if stood and stood is self._standing() else "nothing"

    def _standing(self) -> LiveSandbox | None:
        """Return the sandbox if it still stands."""
        with contextlib.suppress(SandboxError):
            live = self.live()
            return live if live.lost is None else None
        return None

    # What it tells

    async def _watch_death(self, live: LiveSandbox, channels: Channels) -> None:
        """Wait for the end of the kernel with these channels; end its cell at once, after what it had shown last."""
        # Never cancelled: that would cancel the reactor's.
        cause = await asyncio.shield(asyncio.wrap_future(live.death))
        if isinstance(self._state, Open) and self._state.connection.channels is channels:
            self._state = dead = self._state.died(cause)
            await channels.settle()
            if self._state is dead:
                self.on_gone(cause)
                self.on_death(cause)

    def _channel_failed(self, exc: BaseException) -> None:
        """A reader must never end by itself: without it every later cell would wait for nothing."""
        if isinstance(exc, ProtocolViolation):
            # The sandbox's death, of which this is the cause, ends the cell.
            self._in_background(on_reactor(self.live().end_for_violation, str(exc)))
        elif isinstance(self._state, Open):  # while it opens or restarts, the handshake raises it
            failed = f"Reading from the kernel failed ({type(exc).__name__}: {exc})."
            cause = KernelError(failed, advice="Call restart().")
            self._state = self._state.died(cause)
            self.on_gone(cause)

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
