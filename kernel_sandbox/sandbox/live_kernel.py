"""One kernel of a sandbox, as the host holds it: its way in, its gate, and whether it lives. Runs in the reactor.

LiveSandbox makes them and keeps the table of them; what a kernel is told at its start is made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kernel_sandbox.errors import SandboxError, kernel_death
from kernel_sandbox.sandbox import known_packages
from kernel_sandbox.sandbox.engines.base import Sandbox
from kernel_sandbox.sandbox.gate import Gate
from kernel_sandbox.sandbox.link import KernelExit, StartedKernel, kernel_name
from kernel_sandbox.sandbox.remedies import after_death, notices
from kernel_sandbox.sandbox.sandbox_state import KernelLife, Running, ended, stopped
from kernel_sandbox.sandbox.transports import Transport
from kernel_sandbox.sandbox.zmtp import Bounds
from kernel_sandbox.spec.values import HOME_DIRECTORY, Limits, SandboxSpec, parse_size
from kernel_sandbox.text.amounts import format_size

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
"""In the order of their ports, 1 to 5."""
LEAST_FRAME = 8 * 1024 * 1024
"""Bytes of one part of a message that are always let through."""
OVERHEAD = 64 * 1024
"""Of that, what an honest kernel leaves for the JSON around an output."""


class LiveKernel:
    """From the moment that it is asked for. Its clients come through `gate`."""

    def __init__(
        self,
        number: int,
        key: bytes,
        signature_scheme: str,
        transport: Transport,
        bounds: Bounds,
        violated: Callable[[str], None],
    ) -> None:
        self.number, self.name = number, kernel_name(number)
        self._key, self._signature_scheme = key, signature_scheme
        self.transport = transport
        self.gate = Gate(lambda port: self.transport.dial(port), bounds, violated)
        self.started = StartedKernel()
        """What is known of it, from its start on."""
        self.life: KernelLife = Running()
        self.info: dict[str, Any] = {}
        """What its clients are told, as jupyter_client wants it; empty until it listens."""

    @property
    def death(self) -> Future[SandboxError]:
        """Why it is no longer alive, as soon as that is known."""
        return self.life.death

    @property
    def exit_code(self) -> int | None:
        """How it has ended, if it has."""
        return self.life.exit_code

    def connection(self) -> dict[str, Any]:
        """Return what its own connection file says, less the place of its sockets, which PID 1 knows."""
        ports: dict[str, Any] = {f"{channel}_port": port for port, channel in enumerate(CHANNELS, 1)}
        return ports | {
            "transport": "ipc",
            "key": self._key.decode(),
            "signature_scheme": self._signature_scheme,
        }

    def listen(self, address: str | None) -> dict[str, Any]:
        """Listen for clients, on `address`-1 to `address`-5 or on ports of 127.0.0.1; return their connection info.

        From now on nothing in the sandbox can change where its sockets lead. Raises ProtocolViolation.
        """
        self.transport.secure()
        if address is None:
            ports, ip, transport = self.gate.listen_tcp(), "127.0.0.1", "tcp"
        else:
            ports, ip, transport = {port: port for port in range(1, 6)}, address, "ipc"
            self.gate.listen_unix(address)
        named = {f"{channel}_port": ports[port] for port, channel in enumerate(CHANNELS, 1)}
        ways = {"transport": transport, "ip": ip, "key": self._key, "signature_scheme": self._signature_scheme}
        self.info = ways | named
        return self.info

    def end(self, reason: SandboxError, exit_code: int) -> None:
        """Take note that it has ended, and why; the first reason stays."""
        self.life = ended(self.life, exit_code)
        if not self.death.done():
            self.death.set_result(reason)

    def left_to_parent(self) -> None:
        """Take note, in a process that was forked, that it is the parent's."""
        self.life = stopped(self.life)

    async def aclose(self) -> None:
        """Drop its clients and its way in: PID 1 has ended it, or the sandbox is gone."""
        await self.gate.aclose()
        self.transport.close()
        self.life = stopped(self.life)


def death_of(told: KernelExit, spec: SandboxSpec) -> SandboxError:
    """Return in words why a kernel has ended."""
    remedy = after_death(told.exit_code, spec, out_of_memory=told.out_of_memory)
    memory = format_size(spec.limits.memory_bytes)
    return kernel_death(told.exit_code, out_of_memory=told.out_of_memory, memory=memory, remedy=remedy, said=told.said)


def start_request(spec: SandboxSpec, sandbox: Sandbox, *, engine: str, own_session: bool) -> dict[str, Any]:
    """Return what PID 1 is asked for at a start, beside the kernel's name and connection.

    `sandbox` knows what its image wants; `own_session` as in LiveSandbox.start_kernel.
    """
    return {
        "env": kernel_environment(spec),
        "given_env": dict(spec.env),
        "workdir": spec.workdir,
        "kernelspec": spec.kernel or sandbox.kernel,
        "own_session": own_session,
        "table_rows": spec.limits.table_rows,
        "largest_output": bounds(spec.limits).frame - OVERHEAD,
        "full_places": notices(spec),
        "missing_packages": known_packages.words(spec.image, engine, sandbox.own_facts),
        "preload": sandbox.preload,
        "load_first": spec.preload,
    }


def bounds(limits: Limits) -> Bounds:
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
