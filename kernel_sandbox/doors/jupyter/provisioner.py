"""The plug-in through which every Jupyter tool gets a sandboxed kernel.

jupyter_client creates a SandboxProvisioner for a kernelspec that names "kernel-sandbox" (see
`kernel-sandbox kernelspec install`), and calls it as the docstrings of KernelProvisionerBase say. Everything real
happens in `standing` and `live`, in the reactor; this class translates.
"""

from __future__ import annotations

import contextlib
import functools
import signal
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Dict, List, Unicode

from kernel_sandbox.host.reactor import on_reactor, result_of
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.sandbox import LiveSandbox
from kernel_sandbox.sandbox.standing import StandingSandbox
from kernel_sandbox.spec.values import SandboxSpec

PROVISIONER = "kernel-sandbox"
SHUTDOWN_WAIT = 1.0
"""Seconds that a polite shutdown may take: nothing in a sandbox needs longer, and ipykernel can hang in its exit."""

_default = SandboxSpec()


class SandboxProvisioner(KernelProvisionerBase):
    """Runs a kernel in a sandbox. Its traits are the fields of SandboxSpec."""

    engine = Unicode(None, allow_none=True, config=True, help="What starts the sandbox; chosen where not given.")
    image = Unicode(_default.image, config=True, help="A folder of images/, or any image that the engine has.")
    kernel = Unicode(None, allow_none=True, config=True, help="The kernelspec inside the image, if not its own.")
    limits = Dict(config=True, help="Fields of Limits, such as {'memory': '1g'}.")
    mounts: List[Any] = List(
        config=True, help="Read-only mounts under /mnt/input: [{'source': '/data', 'name': 'data'}]."
    )
    env = Dict(config=True, help="Environment variables for the kernel. Nothing of the host's goes in by itself.")
    workdir = Unicode(_default.workdir, config=True, help="The kernel's working directory.")
    runtime = Unicode(None, allow_none=True, config=True, help="The OCI runtime, such as runsc.")
    transport = Unicode(None, allow_none=True, config=True, help="ipc or forward; chosen by itself where not given.")
    listen = Unicode(_default.listen, config=True, help="What clients connect to: ipc, or tcp on 127.0.0.1.")

    preload: List[Any] = List(
        default_value=None, allow_none=True, config=True, help="Modules to load before a kernel is ready, or None."
    )
    door = Unicode("command line", help="Whose words messages use; a kernelspec is made on the command line.")
    strict = Bool(None, allow_none=True, config=True, help="What a look from inside refuses: see SandboxSpec.")

    _standing: StandingSandbox | None = None
    _running = False
    _keeps_connection_file = False

    def spec(self) -> SandboxSpec:
        """Read the traits as a SandboxSpec. Raises PolicyError."""
        names = ("image", "kernel", "limits", "mounts", "env", "workdir", "runtime", "transport", "listen", "strict")
        return SandboxSpec.from_config({name: getattr(self, name) for name in (*names, "preload", "door")})

    @property
    def live(self) -> LiveSandbox | None:
        """The sandbox, where one stands."""
        return self._standing.live if self._standing is not None else None

    @property
    def has_process(self) -> bool:
        return self._running

    async def poll(self) -> int | None:
        if self.live is None or not self._running:
            return 0
        return self.live.exit_code

    async def wait(self) -> int | None:
        """Wait for the kernel's end; from then on there is no process."""
        if self.live is not None and self._running and self.live.exit_code is None:
            await result_of(self.live.death)
        self._running = False
        return self.live.exit_code if self.live is not None else 0

    async def send_signal(self, signum: int) -> None:
        if signum == signal.SIGKILL:
            await self.kill()
        elif self.live is not None and signum != 0:
            await on_reactor(self.live.signal_kernel, signum)

    async def kill(self, restart: bool = False) -> None:
        """End the kernel at once. Frees nothing: jupyter_client does not say reliably whether a restart follows."""
        if self.live is not None:
            await on_reactor(self.live.stop_kernel)

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Give launch_kernel nothing of the host: neither its environment nor its working directory.

        Raises RuntimeError where the caller requires encryption, which a sandboxed kernel does not offer: its
        sockets lie in a private directory.
        """
        if getattr(self.parent, "transport_encryption", "auto") == "required":
            raise RuntimeError("A sandboxed kernel has no transport encryption: set transport_encryption to 'auto'.")
        return {"cmd": []}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start a kernel, in the sandbox that stands or in a new one.

        Raises EngineError, KernelNotReady, SandboxLost; then the sandbox is closed again.
        """
        manager: Any = self.parent
        if self._standing is None:
            self._standing = StandingSandbox(self.spec(), self.engine, new_session_id())
        key, scheme = manager.session.key, manager.session.signature_scheme
        start = functools.partial(self._standing.start_kernel, key, scheme, own_session=False)
        info: Any = await on_reactor(start)
        self.connection_info = info
        self._running = True
        if not manager.connection_file or self._keeps_connection_file:
            # A manager that was given no place would put it, and its sockets' names, into the working directory.
            assert self.live is not None
            self._keeps_connection_file = True
            manager.connection_file = str(self.live.directory.connection_file)
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        if not restart and self._standing is not None:
            self._running = False
            await on_reactor(self._standing.close)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        return min(recommended, SHUTDOWN_WAIT)

    async def get_provisioner_info(self) -> dict[str, Any]:
        info = dict(await super().get_provisioner_info())
        with contextlib.suppress(KeyError, AttributeError):
            info["connection_info"] = {**info["connection_info"], "key": info["connection_info"]["key"].decode()}
        return info
