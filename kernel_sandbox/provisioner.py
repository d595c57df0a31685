"""The plug-in through which every Jupyter tool gets a sandboxed kernel.

jupyter_client creates a SandboxProvisioner for a kernelspec that names "kernel-sandbox" (see
`kernel-sandbox kernelspec install`), and calls it as the docstrings of KernelProvisionerBase say. The session uses
the same way. Everything real happens in `live`, in the reactor; this class translates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Dict, List, Unicode

from kernel_sandbox.engines.base import new_session_id
from kernel_sandbox.live import LiveSandbox
from kernel_sandbox.policy import SandboxSpec
from kernel_sandbox.reactor import on_reactor, result_of

PROVISIONER = "kernel-sandbox"
LOG = logging.getLogger("kernel_sandbox.jupyter_client")
"""Of managers of ours. Their default is the logger of the Jupyter application that this process is, if it is one: there
IPython would show a stack for every error that our callers raise as a line."""
LOG.addHandler(logging.NullHandler())
SHUTDOWN_WAIT = 1.0
"""Seconds that a polite shutdown may take: nothing in a sandbox needs longer, and ipykernel can hang in its exit."""

_default = SandboxSpec()


def kernelspec_in_memory(engine: str | None, session_id: str, spec: SandboxSpec) -> KernelSpec:
    """Make the kernelspec of one session: it names the provisioner below, and all that is to be in its traits."""
    config = {"engine": engine, "session_id": session_id, "own_session": True, "door": spec.door, **spec.to_config()}
    return KernelSpec(
        argv=[],
        display_name="Python (sandbox)",
        language="python",
        interrupt_mode="message",
        metadata={"kernel_provisioner": {"provisioner_name": PROVISIONER, "config": config}},
    )


def register() -> None:
    """Register the provisioner below with jupyter_client, in this process: it asks what is installed for that name.

    Where modules come from the working directory, as in Python's own prompt, a directory of metadata there says so too.
    """
    here = f"{__name__}:{SandboxProvisioner.__name__}"
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[PROVISIONER] = EntryPoint(PROVISIONER, here, KernelProvisionerFactory.GROUP_NAME)


class SandboxProvisioner(KernelProvisionerBase):
    """Runs a kernel in a sandbox. Its traits are the fields of SandboxSpec."""

    engine = Unicode(None, allow_none=True, config=True, help="What starts the sandbox; chosen where not given.")
    session_id = Unicode("", help="The session that the sandbox belongs to; made up where none is given.")
    own_session = Bool(False, help="Whether a session of ours uses the kernel, and no front end of Jupyter's.")
    image = Unicode(_default.image, config=True, help="A folder of images/, or any image that the engine has.")
    kernel = Unicode(_default.kernel, config=True, help="The kernelspec inside the image.")
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

    live: LiveSandbox | None = None
    _running = False
    _keeps_connection_file = False

    def spec(self) -> SandboxSpec:
        """Read the traits as a SandboxSpec. Raises PolicyError."""
        names = ("image", "kernel", "limits", "mounts", "env", "workdir", "runtime", "transport", "listen", "strict")
        return SandboxSpec.from_config({name: getattr(self, name) for name in (*names, "preload", "door")})

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
        info: Any = await on_reactor(self._launch, manager.session.key, manager.session.signature_scheme)
        self.connection_info = info
        self._running = True
        if not manager.connection_file or self._keeps_connection_file:
            # A manager that was given no place would put it, and its sockets' names, into the working directory.
            assert self.live is not None
            self._keeps_connection_file = True
            manager.connection_file = str(self.live.directory.connection_file)
        return self.connection_info

    async def _launch(self, key: bytes, signature_scheme: str) -> dict[str, Any]:
        if self.live is not None and self.live.lost is not None:
            await self.live.aclose()
            self.live = None
        if self.live is None:
            live = LiveSandbox(self.spec(), self.engine, self.session_id or new_session_id())
            await live.open()
            self.live = live
        try:
            return await self.live.start_kernel(key, signature_scheme, own_session=self.own_session)
        except BaseException:
            live, self.live = self.live, None
            if live is not None:  # cleanup() may have taken it meanwhile
                await asyncio.shield(live.aclose())
            raise

    async def cleanup(self, restart: bool = False) -> None:
        if not restart and self.live is not None:
            live, self.live, self._running = self.live, None, False
            await on_reactor(live.aclose)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        return min(recommended, SHUTDOWN_WAIT)

    async def get_provisioner_info(self) -> dict[str, Any]:
        info = dict(await super().get_provisioner_info())
        with contextlib.suppress(KeyError, AttributeError):
            info["connection_info"] = {**info["connection_info"], "key": info["connection_info"]["key"].decode()}
        return info
