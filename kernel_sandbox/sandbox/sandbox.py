"""A started sandbox with its guest answering: what the provisioner drives, and the session asks about its kernel.

It composes the engine's sandbox, the link to PID 1, the run directory and a table of kernels, each with its gate and
its way in. It knows the one thing that none of them knows alone: whether it stands, and if not, why. Runs in the
reactor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from kernel_sandbox.errors import (
    EngineError,
    KernelNotReady,
    PolicyError,
    ProtocolViolation,
    SandboxError,
    SandboxLost,
    what_is_kept,
)
from kernel_sandbox.host import forks
from kernel_sandbox.host.run_directory import RunDirectory, remove_stale_directories
from kernel_sandbox.inside.mux import MuxError
from kernel_sandbox.sandbox.engines.base import Engine, Sandbox, TemplateBoot, new_session_id
from kernel_sandbox.sandbox.engines.choice import choose_engine
from kernel_sandbox.sandbox.gate import Gate
from kernel_sandbox.sandbox.guarding import check, keep_limits
from kernel_sandbox.sandbox.link import GuestLink, boot_bytes, guest_command, template_bytes
from kernel_sandbox.sandbox.live_kernel import LiveKernel, bounds, death_of, kernel_environment, start_request
from kernel_sandbox.sandbox.promises import Promise
from kernel_sandbox.sandbox.sandbox_state import (
    Lost,
    Parked,
    PutDown,
    Running,
    SandboxClosed,
    SandboxState,
    Stands,
)
from kernel_sandbox.sandbox.transports import Ways
from kernel_sandbox.spec.values import PYTHON_KERNEL, Limits, SandboxSpec

ADVICE = f"{what_is_kept('nothing')} Call restart() for a new one."
SIGNALLED_WITHIN, STOPPED_WITHIN = 5.0, 15.0
"""Seconds in which PID 1 does what it is told: 100 and 7 times what they take at worst. Later it counts as frozen."""

_collected: set[str] = set()
"""Engines on which what dead owners left was already looked for by this process."""


class LiveSandbox:
    """One sandbox, and the kernels in it. `open` starts it, `aclose` ends it."""

    def __init__(self, spec: SandboxSpec, engine: str | None, session_id: str, *, alone: bool = False) -> None:
        self.spec = spec
        self._alone = alone
        """Whether this process opens no other: what serves those to come is not made then."""
        self._wanted_engine = engine
        self.session_id = session_id
        self.generation = 0
        """How many kernels there have been."""
        self._state: SandboxState = Stands()
        self.kernels: dict[str, LiveKernel] = {}
        """Those that were started and not stopped, by their names in the guest protocol."""
        self._current: LiveKernel | None = None
        """The one that was started last, from the first start on; a copy of it is not."""
        self.promises: list[Promise] = []
        """What was found of them from inside, once that is known."""
        self._tasks: list[asyncio.Task[None]] = []
        forks.tell(self)

    def after_fork(self) -> None:
        """Leave the sandbox, and its directory, to the parent."""
        forks.keep((self._state, *self._all_kernels))
        forked = "The sandbox is that of the process that this one was forked from. Start another here."
        self._state = SandboxClosed(SandboxLost(forked))
        for kernel in self._all_kernels:
            kernel.left_to_parent()

    @property
    def lost(self) -> SandboxError | None:
        """Why the sandbox is no longer there, if it is not."""
        return None if isinstance(self._state, Stands) else self._state.why

    @property
    def current(self) -> LiveKernel:
        """The kernel that was started last, alive or not. Raises why there is none."""
        if self._current is None:
            raise self.lost or KernelNotReady("No kernel has been started in this sandbox yet.")
        return self._current

    @property
    def _all_kernels(self) -> list[LiveKernel]:
        """Those of the table, and the current one where it was stopped."""
        return list({kernel.name: kernel for kernel in (self._current, *self.kernels.values()) if kernel}.values())

    @property
    def death(self) -> Future[SandboxError]:
        """Why the current kernel is no longer alive, as soon as that is known. A new one for every kernel."""
        return self.current.death

    @property
    def exit_code(self) -> int | None:
        """How the current kernel has ended, if it has."""
        return self.current.exit_code

    @property
    def gate(self) -> Gate:
        """The current kernel's."""
        return self.current.gate

    async def open(self) -> None:
        """Start the sandbox; no kernel yet. Raises EngineError and its kin; then nothing is left."""
        choice = await choose_engine(self._wanted_engine, self.spec)
        self.engine: Engine = choice.engine
        self.engine_reason = choice.reason
        ipc = await self._choose_ipc()
        self.directory = RunDirectory()
        try:
            self.sandbox: Sandbox = await self.engine.start(
                self.spec,
                guest_command(),
                session_id=self.session_id,
                shared=self.directory.shared if ipc else None,
                boot=boot_bytes(),
                template=self._template() if ipc else None,
            )
        except BaseException:
            self.directory.remove()
            raise
        self.link = GuestLink(self.sandbox, self._frozen)
        self._ways = Ways(self.link, self.directory, self.sandbox.sockets, ipc=ipc)
        loop = asyncio.get_running_loop()
        work = (self._serve(), self._watch(), self._collect(), keep_limits(self.sandbox, self.session_id))
        self._tasks = [loop.create_task(task) for task in work]
        self._checked = loop.create_task(self._check_promises())

    def _template(self) -> TemplateBoot | None:
        """Return what a template for such sandboxes reads. A strict one shares not even an address layout."""
        spec = self.spec
        if spec.strict or self._alone or spec.kernel not in (None, PYTHON_KERNEL):
            return None
        return lambda modules: template_bytes(kernel_environment(spec), spec.workdir, [*modules, *(spec.preload or ())])

    async def _choose_ipc(self) -> bool:
        if self.spec.transport == "forward":
            return False
        supported = await self.engine.supports_ipc(self.spec)
        if self.spec.transport == "ipc" and not supported:
            raise PolicyError("transport='ipc' needs an engine on this machine that shares sockets: use 'forward'.")
        return supported

    async def start_kernel(self, key: bytes, signature_scheme: str, *, own_session: bool) -> dict[str, Any]:
        """Start the next kernel, `current` from now on, and return its connection info as jupyter_client wants it.

        `own_session` says that a session of ours will use it; for others it behaves as Jupyter's kernels do.
        Raises KernelNotReady, SandboxLost or ProtocolViolation.
        """
        self._require_directory()
        await self.stop_kernel()  # it may have ended by itself, as Jupyter asks kernels to; what it started did not
        kernel = self._current = self._add_kernel(key, signature_scheme, among_cells=bool(self.kernels))
        kernel.transport.prepare()
        request = start_request(self.spec, self.sandbox, engine=self.engine.name, own_session=own_session)
        request |= {"connection": kernel.connection(), "sockets": kernel.transport.place}
        started = self.link.start_kernel(kernel.name, request, self.spec.limits.start_timeout)
        kernel.started, _ = await asyncio.gather(started, self._checked)
        if kernel.started.by_ports:
            kernel.transport = self._ways.to_ports(kernel.transport, kernel.number)
        self.sandbox.settle()
        return kernel.listen(None if self.spec.listen == "tcp" else self.directory.listen_address)

    async def fork_kernel(self, source: LiveKernel, key: bytes, signature_scheme: str) -> LiveKernel:
        """Copy a kernel that is idle, or one that was parked, with all that it holds in memory; return the copy.

        No cell may run in `source` meanwhile. The copy has its own key and clients, and `current` stays what it is.
        Raises KernelNotReady where there is no copy; `source` has not noticed. Raises SandboxLost.
        """
        copy = await self._fork(source, key, signature_scheme, park=False)
        try:
            copy.listen(None if self.spec.listen == "tcp" else self.directory.address_of(copy.name))
        except (OSError, ProtocolViolation) as exc:  # a cell beside it was in its way
            await self.stop(copy)
            raise KernelNotReady(f"The kernel could not be copied: its sockets are not there ({exc}).") from exc
        return copy

    async def park_copy(self, source: LiveKernel) -> LiveKernel:
        """Copy a kernel as `fork_kernel`, and have the copy wait, without sockets, for copies to be made of it."""
        copy = await self._fork(source, b"", "hmac-sha256", park=True)
        copy.life = Parked()
        return copy

    async def _fork(self, source: LiveKernel, key: bytes, signature_scheme: str, *, park: bool) -> LiveKernel:
        self._require_directory()
        copy = self._add_kernel(key, signature_scheme, among_cells=True)
        try:
            if not park:
                copy.transport.prepare()
            request = {"source": source.name, "park": park, "sockets": copy.transport.place}
            await self.link.fork_kernel(copy.name, request | {"connection": copy.connection()})
        except OSError as exc:
            await self._drop(copy)
            raise KernelNotReady(f"The kernel could not be copied: no place for its sockets ({exc}).") from exc
        except KernelNotReady:
            await self._drop(copy)  # PID 1 has ended what there was of it
            raise
        except BaseException:
            await self.stop(copy)
            raise
        return copy

    def _require_directory(self) -> None:
        """Raise why no kernel can start, where that is so."""
        if not self.directory.path.is_dir():
            removed = f"The session's directory on this host was removed ({self.directory.path})"
            self._give_up(SandboxLost(f"{removed}, and no kernel can start without it.", advice=ADVICE))
        if self.lost is not None:
            raise self.lost

    def _add_kernel(self, key: bytes, signature_scheme: str, *, among_cells: bool) -> LiveKernel:
        self.generation += 1
        transport = self._ways.to_kernel(self.generation, among_cells=among_cells)
        kernel = LiveKernel(self.generation, key, signature_scheme, transport, bounds(self.spec.limits), self.violated)
        self.kernels[kernel.name] = kernel
        return kernel

    async def _check_promises(self) -> None:
        """Look from inside, before the first kernel is ready. Raises EngineError where the sandbox may not be used."""
        self.promises = await check(self.sandbox, self.link, self.spec, self.engine.name)

    def provenance(self) -> dict[str, Any]:
        """Return where a session's outputs come from, for its transcript."""
        spec = self.spec
        return {
            "session": self.session_id,
            "engine": self.engine.name,
            "transport": self.current.transport.name,
            "image": spec.image,
            "image_digest": self.sandbox.image,
            "network": spec.network,
            "limits": {name: getattr(spec.limits, name) for name in Limits.__dataclass_fields__},
            "weakened": list(self.sandbox.weakened),
        }

    async def stop_kernel(self) -> None:
        """End the current kernel; where it is the only one, everything that was started too. Files stay."""
        if self._current is not None:
            await self.stop(self._current)

    async def stop(self, kernel: LiveKernel) -> None:
        """End one kernel, and close the way to it. Does nothing at the second call.

        What it started is ended with the last kernel only: who has started which process is not known.
        """
        if self.kernels.get(kernel.name) is not kernel or isinstance(self._state, SandboxClosed):
            return
        if isinstance(self._state, Stands):
            await self._obeyed(self._stop(kernel.name), STOPPED_WITHIN)
        await self._drop(kernel)

    async def _drop(self, kernel: LiveKernel) -> None:
        await kernel.aclose()
        self.kernels.pop(kernel.name, None)

    async def _stop(self, name: str) -> None:
        if not await self.link.stop_kernel(name):
            changed = "the limits or the priority of its first process were changed, which no restart would mend"
            self._give_up(SandboxLost(f"The sandbox was ended because {changed}.", advice=ADVICE))

    async def signal_kernel(self, number: int) -> None:
        """Send a signal to the current kernel's process group, where it lives."""
        if isinstance(self._state, Stands) and self._current and isinstance(self._current.life, Running):
            await self._obeyed(self.link.signal_kernel(self._current.name, number), SIGNALLED_WITHIN)

    async def _obeyed(self, order: Coroutine[Any, Any, None], seconds: float) -> None:
        """Wait until PID 1 has done what it does at once; where it does not, the sandbox is frozen, and is ended."""
        asked = asyncio.ensure_future(order)
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # its end is told by `lost`
        done, _ = await asyncio.wait([asked], timeout=seconds)
        if not done:
            self._frozen(seconds)

    def _frozen(self, seconds: float) -> None:
        frozen = f"The sandbox was ended because it did not answer for {seconds:g} s: it is frozen or overloaded."
        self._give_up(SandboxLost(frozen, advice=ADVICE))

    async def aclose(self) -> None:
        """End the sandbox and remove all that belonged to it, on the host too."""
        if isinstance(self._state, SandboxClosed):
            return
        before, self._state = self._state, SandboxClosed(SandboxLost("The session was closed."))
        try:
            await self._close_gates()
            await (before.ending if isinstance(before, PutDown) else self.sandbox.aclose())
        finally:
            tasks = [*self._tasks, self._checked]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for kernel in self._all_kernels:
                kernel.transport.close()
            self._ways.close()
            self.directory.remove()
            self._end(self._state.why, 0)
            self.kernels.clear()

    async def _serve(self) -> None:
        """Serve the link; its end is the sandbox's end."""
        violation = ""
        try:
            await self.link.run()
        except MuxError as exc:
            violation = str(exc)
        if violation:
            self.violated(f"something that is not the guest protocol ({violation})")
        elif self.lost is None:
            gone = SandboxLost(f"The sandbox is gone: {await self.sandbox.epitaph()}.", advice=ADVICE)
            if self.lost is None:  # still
                self._state = Lost(gone)
                self._end(gone, 1)
            await self._close_gates()

    def violated(self, what: str) -> None:
        """End the sandbox, because it sent `what`. The next restart starts another."""
        self._give_up(ProtocolViolation(f"The sandbox was ended because it sent {what}.", advice=ADVICE))

    def _give_up(self, reason: SandboxError) -> None:
        if isinstance(self._state, Stands):
            self._state = PutDown(reason, asyncio.get_running_loop().create_task(self._put_down()))
            self._end(reason, 1)

    async def end_for_violation(self, what: str) -> None:
        """End the sandbox as `violated` does, for callers of another event loop."""
        self.violated(what)

    async def _close_gates(self) -> None:
        await asyncio.gather(*(kernel.gate.aclose() for kernel in self._all_kernels))

    async def _put_down(self) -> None:
        await self._close_gates()
        with contextlib.suppress(EngineError):
            await self.sandbox.aclose()

    async def _watch(self) -> None:
        """Turn the guest's report of a kernel's exit into its death; a name that is not in the table is nobody's."""
        with contextlib.suppress(SandboxLost):
            async for told in self.link.exits():
                if (kernel := self.kernels.get(told.kernel)) is not None:
                    kernel.end(death_of(told, self.spec), told.exit_code)

    def _end(self, reason: SandboxError, exit_code: int) -> None:
        """Take note that every kernel has ended with the sandbox."""
        for kernel in self._all_kernels:
            kernel.end(reason, exit_code)

    async def _collect(self) -> None:
        """At a process's first sandbox, remove what dead owners left behind, beside the start."""
        if self.engine.name not in _collected:
            _collected.add(self.engine.name)
            with contextlib.suppress(EngineError):
                remove_stale_directories()
                await self.engine.collect_garbage()


async def look_inside(engine: str, spec: SandboxSpec) -> list[Promise]:
    """Start a sandbox without a kernel, look at its promises from inside, and end it. Raises EngineError."""
    live = LiveSandbox(replace(spec, strict=False), engine, new_session_id())
    await live.open()
    try:
        await live._checked
        return live.promises
    finally:
        await live.aclose()
