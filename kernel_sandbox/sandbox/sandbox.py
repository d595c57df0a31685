"""A started sandbox with its guest answering: what the provisioner drives, and the session asks about its kernel.

It composes the engine's sandbox, the link to PID 1, the run directory, the transport and the gate, and it knows the
one thing that none of them knows alone: whether the current kernel is alive, and if not, why. Runs in the reactor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from kernel_sandbox.errors import (
    EngineError,
    PolicyError,
    ProtocolViolation,
    SandboxError,
    SandboxLost,
    kernel_death,
    what_is_kept,
)
from kernel_sandbox.host import forks
from kernel_sandbox.host.run_directory import InsideSockets, RunDirectory, remove_stale_directories
from kernel_sandbox.inside.mux import MuxError
from kernel_sandbox.sandbox.engines.base import Engine, Sandbox, new_session_id
from kernel_sandbox.sandbox.engines.choice import choose_engine
from kernel_sandbox.sandbox.engines.masked_paths import CONTAINER_MASKED
from kernel_sandbox.sandbox.gate import Gate
from kernel_sandbox.sandbox.link import GuestLink, boot_bytes, guest_command, kernel_name
from kernel_sandbox.sandbox.promises import Promise, judge
from kernel_sandbox.sandbox.remedies import after_death, notices
from kernel_sandbox.sandbox.sandbox_state import (
    Ended,
    KernelLife,
    Lost,
    NoKernel,
    PutDown,
    Running,
    SandboxClosed,
    SandboxState,
    Stands,
    ended,
    stopped,
)
from kernel_sandbox.sandbox.transports import ForwardTransport, IpcTransport, Transport
from kernel_sandbox.sandbox.zmtp import Bounds
from kernel_sandbox.spec.values import HOME_DIRECTORY, Limits, SandboxSpec, parse_size
from kernel_sandbox.text.amounts import format_size

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
"""In the order of their ports, 1 to 5."""

ADVICE = f"{what_is_kept('nothing')} Call restart() for a new one."
LEAST_FRAME = 8 * 1024 * 1024
"""Bytes of one part of a message that are always let through."""
OVERHEAD = 64 * 1024
"""Of that, what an honest kernel leaves for the JSON around an output."""

SIGNALLED_WITHIN, STOPPED_WITHIN = 5.0, 15.0
"""Seconds in which PID 1 does what it is told: 100 and 7 times what they take at worst. Later it counts as frozen."""

LIMITS_READ_EVERY = 10.0
"""Seconds; it takes some 50 µs."""

logger = logging.getLogger(__name__)

_collected: set[str] = set()
"""Engines on which what dead owners left was already looked for by this process."""


class LiveSandbox:
    """One sandbox, and one kernel after the other in it. `open` starts it, `aclose` ends it."""

    def __init__(self, spec: SandboxSpec, engine: str | None, session_id: str) -> None:
        self.spec = spec
        self._wanted_engine = engine
        self.session_id = session_id
        self.generation = 0
        self._state: SandboxState = Stands()
        self._kernel: KernelLife = NoKernel()
        """The current kernel's."""
        self.promises: list[Promise] = []
        """What was found of them from inside, once that is known."""
        self._tasks: list[asyncio.Task[None]] = []
        forks.tell(self)

    def after_fork(self) -> None:
        """Leave the sandbox, and its directory, to the parent."""
        forks.keep((self._state, self._kernel))
        forked = "The sandbox is that of the process that this one was forked from. Start another here."
        self._state, self._kernel = SandboxClosed(SandboxLost(forked)), stopped(self._kernel)

    @property
    def lost(self) -> SandboxError | None:
        """Why the sandbox is no longer there, if it is not."""
        return None if isinstance(self._state, Stands) else self._state.why

    @property
    def death(self) -> Future[SandboxError]:
        """Why the current kernel is no longer alive, as soon as that is known. A new one for every kernel."""
        return self._kernel.death

    @property
    def exit_code(self) -> int | None:
        """How the current kernel has ended, if it has."""
        return self._kernel.exit_code

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
            )
        except BaseException:
            self.directory.remove()
            raise
        self.link = GuestLink(self.sandbox, self._frozen)
        self.transport = self._transport(ipc=ipc)
        self.gate = Gate(self.transport.dial, _bounds(self.spec.limits), self.violated)
        loop = asyncio.get_running_loop()
        work = (self._serve(), self._watch(), self._collect(), self._keep_limits())
        self._tasks = [loop.create_task(task) for task in work]
        self._checked = loop.create_task(self._check_promises())

    def _transport(self, *, ipc: bool) -> Transport:
        if not ipc:
            return ForwardTransport(self.link)
        sockets = self.sandbox.sockets
        return IpcTransport(self.directory if sockets is None else InsideSockets(sockets))

    async def _choose_ipc(self) -> bool:
        if self.spec.transport == "forward":
            return False
        supported = await self.engine.supports_ipc(self.spec)
        if self.spec.transport == "ipc" and not supported:
            raise PolicyError("transport='ipc' needs an engine on this machine that shares sockets: use 'forward'.")
        return supported

    async def start_kernel(self, key: bytes, signature_scheme: str, *, own_session: bool) -> dict[str, Any]:
        """Start the next kernel and return its connection info, as jupyter_client wants it.

        `own_session` says that a session of ours will use it; for others it behaves as Jupyter's kernels do.
        Raises KernelNotReady, SandboxLost or ProtocolViolation.
        """
        if not self.directory.path.is_dir():
            removed = f"The session's directory on this host was removed ({self.directory.path})"
            self._give_up(SandboxLost(f"{removed}, and no kernel can start without it.", advice=ADVICE))
        if self.lost is not None:
            raise self.lost
        if isinstance(self._kernel, Running | Ended):
            await self.stop_kernel()  # it ended by itself, as Jupyter asks kernels to; what it started did not
        self.generation += 1
        self._kernel = Running()
        self.transport.prepare(self.generation)
        connection: dict[str, Any] = {f"{channel}_port": port for port, channel in enumerate(CHANNELS, 1)}
        connection |= {"transport": "ipc", "key": key.decode(), "signature_scheme": signature_scheme}
        request = {
            "connection": connection,
            "env": kernel_environment(self.spec),
            "workdir": self.spec.workdir,
            "kernelspec": self.spec.kernel,
            "own_session": own_session,
            "table_rows": self.spec.limits.table_rows,
            "largest_output": _bounds(self.spec.limits).frame - OVERHEAD,
            "full_places": notices(self.spec),
            "preload": self.sandbox.preload,
            "load_first": self.spec.preload,
        }
        await asyncio.gather(
            self.link.start_kernel(self.generation, request, self.spec.limits.start_timeout), self._checked
        )
        self.transport.secure(self.generation)
        await self.gate.aclose()
        if self.spec.listen == "tcp":
            ports, address, transport = self.gate.listen_tcp(), "127.0.0.1", "tcp"
        else:
            ports, address, transport = {port: port for port in range(1, 6)}, self.directory.listen_address, "ipc"
            self.gate.listen_unix(address)
        named = {f"{channel}_port": ports[port] for port, channel in enumerate(CHANNELS, 1)}
        return {"transport": transport, "ip": address, "key": key, "signature_scheme": signature_scheme, **named}

    async def _check_promises(self) -> None:
        """Look from inside, before the first kernel is ready. Raises EngineError where the sandbox may not be used."""
        facts = await self.link.inspect(list(self.spec.limits.tmpfs_sizes), CONTAINER_MASKED)
        self.promises = judge(facts, self.spec)
        broken = [promise for promise in self.promises if not promise.kept]
        refused = [p for p in broken if self.spec.strict or (self.spec.strict is None and p.wall)]
        _, lost = await self.sandbox.renew_limits()
        weakened = list(dict.fromkeys([*self.sandbox.weakened, *(promise.detail for promise in broken), *lost]))
        if refused or (self.spec.strict and weakened):
            found = "; ".join(promise.detail for promise in refused) or "; ".join(weakened)
            raise EngineError(
                f"The engine {self.engine.name} does not keep what a sandbox promises here: {found}. What mends it: "
                "kernel-sandbox doctor. (strict=False runs all the same, and lists it as weakened.)"
            )
        self.sandbox.weakened = tuple(weakened)

    async def _keep_limits(self) -> None:
        """Read the limits again while the sandbox lives; one that has gone is put back, and said in the log."""
        while self.lost is None:
            await asyncio.sleep(LIMITS_READ_EVERY)
            mended, lost = await self.sandbox.renew_limits()
            for limit in mended:
                logger.warning("Session %s: its %s was gone, and was set again.", self.session_id, limit)
            for weakness in set(lost) - set(self.sandbox.weakened):
                self.sandbox.weakened += (weakness,)
                logger.warning("Session %s is weakened from now on: %s any more.", self.session_id, weakness)

    def provenance(self) -> dict[str, Any]:
        """Return where a session's outputs come from, for its transcript."""
        spec = self.spec
        return {
            "session": self.session_id,
            "engine": self.engine.name,
            "transport": self.transport.name,
            "image": spec.image,
            "image_digest": self.sandbox.image,
            "network": spec.network,
            "limits": {name: getattr(spec.limits, name) for name in Limits.__dataclass_fields__},
            "weakened": list(self.sandbox.weakened),
        }

    async def stop_kernel(self) -> None:
        """End the current kernel and everything that it started. Files under /mnt/data stay."""
        if isinstance(self._state, SandboxClosed):
            return
        if isinstance(self._state, Stands):
            await self._obeyed(self._stop(kernel_name(self.generation)), STOPPED_WITHIN)
        await self.gate.aclose()
        self._kernel = stopped(self._kernel)

    async def _stop(self, name: str) -> None:
        if not await self.link.stop_kernel(name):
            changed = "the limits or the priority of its first process were changed, which no restart would mend"
            self._give_up(SandboxLost(f"The sandbox was ended because {changed}.", advice=ADVICE))

    async def signal_kernel(self, number: int) -> None:
        if isinstance(self._state, Stands) and isinstance(self._kernel, Running):
            await self._obeyed(self.link.signal_kernel(kernel_name(self.generation), number), SIGNALLED_WITHIN)

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
            await self.gate.aclose()
            await (before.ending if isinstance(before, PutDown) else self.sandbox.aclose())
        finally:
            tasks = [*self._tasks, self._checked]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.transport.close()
            self.directory.remove()
            self._end(self._state.why, 0)

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
            await self.gate.aclose()

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

    async def _put_down(self) -> None:
        await self.gate.aclose()
        with contextlib.suppress(EngineError):
            await self.sandbox.aclose()

    async def _watch(self) -> None:
        """Turn the guest's report of the current kernel's exit into its death."""
        with contextlib.suppress(SandboxLost):
            async for told in self.link.exits():
                if told.kernel == kernel_name(self.generation):
                    memory = format_size(self.spec.limits.memory_bytes)
                    remedy = after_death(told.exit_code, self.spec, out_of_memory=told.out_of_memory)
                    death = kernel_death(
                        told.exit_code, out_of_memory=told.out_of_memory, memory=memory, remedy=remedy, said=told.said
                    )
                    self._end(death, told.exit_code)

    def _end(self, reason: SandboxError, exit_code: int) -> None:
        self._kernel = ended(self._kernel, exit_code)
        if not self.death.done():
            self.death.set_result(reason)

    async def _collect(self) -> None:
        """At a process's first sandbox, remove what dead owners left behind, beside the start."""
        if self.engine.name not in _collected:
            _collected.add(self.engine.name)
            with contextlib.suppress(EngineError):
                remove_stale_directories()
                await self.engine.collect_garbage()


def _bounds(limits: Limits) -> Bounds:
    """What a kernel may send: one output may be half of what a cell may show."""
    frame = max(LEAST_FRAME, parse_size(limits.output_bytes) // 2)
    return Bounds(frame=frame, message=2 * frame)


def kernel_environment(spec: SandboxSpec) -> dict[str, str]:
    """The kernel's environment, added to the image's own: nothing of the host, and `spec.env` on top."""
    threads = str(max(1, math.ceil(spec.limits.cpus)))
    return {
        "HOME": HOME_DIRECTORY,
        "USER": "sandbox",  # its user id has no name in every image, which getpass.getuser() would trip over
        "LOGNAME": "sandbox",
        "HOSTNAME": "sandbox",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TZ": "UTC",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONNOUSERSITE": "1",
        "JPY_PARENT_PID": "1",
        # Numeric libraries would start a thread for each processor of the host.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        **spec.env,
    }


async def look_inside(engine: str, spec: SandboxSpec) -> list[Promise]:
    """Start a sandbox without a kernel, look at its promises from inside, and end it. Raises EngineError."""
    live = LiveSandbox(replace(spec, strict=False), engine, new_session_id())
    await live.open()
    try:
        await live._checked
        return live.promises
    finally:
        await live.aclose()
