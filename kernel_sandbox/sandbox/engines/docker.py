"""The Docker engine: one locked-down container per sandbox, through docker-py (Podman's socket serves too).

The profile and the reason for each control: the guide "Security" in the README. docker-py blocks, so each call runs
in a worker thread; the stream to PID 1 is the connection of the attach call, taken over by the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from kernel_sandbox.errors import EngineError, EngineUnavailable, ImageNotFound
from kernel_sandbox.host.forks import renew
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import docker_host
from kernel_sandbox.sandbox.engines.attached import attach
from kernel_sandbox.sandbox.engines.base import (
    NAMES_INSIDE,
    SOCKETS_INSIDE,
    Engine,
    Finding,
    Sandbox,
    SandboxInfo,
    TemplateBoot,
    in_thread,
    write,
)
from kernel_sandbox.sandbox.engines.control_groups import LEAST_SWAP
from kernel_sandbox.sandbox.engines.docker_client import connect, is_gone, start_errors, translated_errors
from kernel_sandbox.sandbox.engines.docker_findings import findings
from kernel_sandbox.sandbox.engines.docker_mounts import input_mounts, shared_mounts
from kernel_sandbox.sandbox.engines.image_names import how_to_get, own_facts, references
from kernel_sandbox.sandbox.engines.masked_paths import CONTAINER_MASKED, CONTAINER_READ_ONLY
from kernel_sandbox.sandbox.engines.seccomp import docker_profile
from kernel_sandbox.spec.values import HOME_DIRECTORY, Limits, SandboxSpec

if TYPE_CHECKING:
    import docker

T = TypeVar("T")

LABEL = "org.kernel-sandbox"
USER_RANGE = (1_000_000_000, 2_000_000_000)
"""User ids of sandboxes: above what hosts give to people, and enough for a new one each time."""
MAPPED_USER_RANGE = (20_000, 60_000)
"""The same where the engine maps users and a container has only 65,536 of them."""
FRAME = struct.Struct(">BxxxI")
"""The header of an attached stream without a terminal: which stream, how long (Docker API, ContainerAttach)."""
STDERR_KEPT = 4096
CHUNK = 256 * 1024


async def call(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a blocking docker-py call in a worker thread, its errors translated."""

    def translated() -> T:
        with translated_errors():
            return function(*args, **kwargs)

    return await in_thread(translated)


_doomed: dict[str, docker.DockerClient] = {}
"""Containers that are still to be removed. They do not run: their streams have ended."""
renew(_doomed.clear)  # the parent's


class DockerSandbox(Sandbox):
    """One container, and the attached stream to its PID 1."""

    def __init__(self, client: docker.DockerClient, name: str, image: str) -> None:
        self.id = name
        self.image = image
        self._client = client
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._frame_left = 0
        self._stderr = bytearray()
        self._closed = False

    async def attach(self) -> None:
        """Take over the connection of the attach call; before the start, so that nothing is missed."""
        raw = await call(attach, self._client.api, self.id)
        raw.setblocking(False)
        opening = asyncio.open_unix_connection if raw.family == socket.AF_UNIX else asyncio.open_connection
        self._reader, self._writer = await opening(sock=raw, limit=CHUNK)

    async def receive(self) -> bytes:
        chunk = await self._read()
        if not chunk and self._writer is not None:
            # The engine holds on to what PID 1 did not read: who waits to write more would wait for a minute.
            self._writer.transport.abort()
        return chunk

    async def _read(self) -> bytes:
        assert self._reader is not None
        try:
            while True:
                if self._frame_left:
                    chunk = await self._reader.read(min(self._frame_left, CHUNK))
                    self._frame_left -= len(chunk)
                    return chunk
                stream, length = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                if stream != 2:
                    self._frame_left = length
                    continue
                self._stderr += await self._reader.readexactly(length)
                del self._stderr[:-STDERR_KEPT]
        except asyncio.IncompleteReadError:
            return b""

    async def send(self, data: bytes) -> None:
        assert self._writer is not None
        await write(self._writer, data)

    async def epitaph(self) -> str:
        """Ask what became of the container; one that is gone was removed from outside (or by its own end)."""
        said = self._stderr.decode("utf-8", "replace").strip()
        try:
            state = (await call(self._client.api.inspect_container, self.id))["State"]
        except EngineUnavailable:
            return said or "the engine that ran it does not answer any more"
        except EngineError:
            state = {"Running": True}
        if not state.get("Running"):
            status = state.get("ExitCode")
            # OOMKilled is no help: it stays set from a kernel that ran out of memory hours ago.
            meaning = " (killed: from outside, or out of memory)" if status == 137 else ""
            return f"its container ended with status {status}{meaning}{': ' + said if said else ''}"
        return said or "its container was killed or removed"

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.transport.abort()  # close() would first wait until PID 1 has taken everything
        try:
            await self._remove()
        except EngineError:
            # Its own end removes it at this moment (engines say so in several ways): only when that is over is
            # nothing left.
            with contextlib.suppress(EngineError):
                await call(self._client.api.wait, self.id, timeout=10, condition="removed")
            await self._remove()

    async def _remove(self) -> None:
        """Remove the container; then what earlier ones could not: a call needs a descriptor, which may not be free."""
        await self._remove_named(self.id)
        for name in [name for name, client in _doomed.items() if client is self._client]:
            with contextlib.suppress(EngineError):
                await self._remove_named(name)

    async def _remove_named(self, name: str) -> None:
        _doomed.pop(name, None)
        try:
            await call(self._client.api.remove_container, name, force=True)
        except EngineError as exc:
            if not is_gone(exc):
                _doomed[name] = self._client
                raise


class DockerEngine(Engine):
    name = "docker"

    def __init__(self, host: str | None = None) -> None:
        self._host = host
        self._facts: dict[str, Any] | None = None

    async def client(self) -> docker.DockerClient:
        """Connect, at the first call. Raises EngineUnavailable."""
        return await in_thread(connect, self._host)

    async def facts(self) -> dict[str, Any]:
        """What the engine says of itself (docker info), asked once."""
        if self._facts is None:
            client = await self.client()
            version, told = await asyncio.gather(call(client.version), call(client.info))
            names = [part.get("Name", "") for part in version.get("Components") or []]
            self._facts = dict(told) | {"IsPodman": any("Podman" in name for name in names)}
        return self._facts

    async def check(self, spec: SandboxSpec) -> None:
        client = await self.client()
        await call(client.ping)
        await self._image(client, spec.image)

    async def supports_ipc(self, spec: SandboxSpec) -> bool:
        facts = await self.facts()
        local = sys.platform == "linux" and await self._is_here()
        # gVisor and Kata do not share a socket file between the host's kernel and their own.
        runtime = spec.runtime or facts.get("DefaultRuntime", "runc")
        return local and "Desktop" not in facts.get("OperatingSystem", "") and runtime in ("runc", "crun")

    async def start(
        self,
        spec: SandboxSpec,
        argv: list[str],
        *,
        session_id: str,
        shared: Path | None,
        boot: bytes,
        template: TemplateBoot | None = None,
    ) -> Sandbox:
        client = await self.client()
        image, facts = await asyncio.gather(self._image(client, spec.image), self.facts())
        options = _profile(spec, facts, shared, client.api.create_host_config)
        labels = _labels(session_id, spec, image["Id"])
        # Named beforehand, so that a start that is cancelled at any point knows what to remove.
        name = f"kernel-sandbox-{session_id}-{secrets.token_hex(4)}"
        sandbox = DockerSandbox(client, name, image["Id"])
        image_labels = image["Config"].get("Labels") or {}
        sandbox.preload = tuple(image_labels.get(f"{LABEL}.preload", "").split())
        sandbox.kernel = image_labels.get(f"{LABEL}.kernel") or None
        sandbox.own_facts = own_facts(image_labels)
        try:
            with start_errors(spec.image, spec.runtime):
                await self._create(sandbox, image["Id"], argv, labels, options)
                await sandbox.attach()
                # The engine hands on what it is sent before: PID 1 never waits for it.
                await asyncio.gather(call(client.api.start, sandbox.id), sandbox.send(boot))
                await self._bound(sandbox, spec)
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(EngineError):
                await sandbox.aclose()
            raise
        return sandbox

    async def _create(
        self, sandbox: DockerSandbox, image: str, argv: list[str], labels: dict[str, str], options: dict[str, Any]
    ) -> None:
        api = (await self.client()).api
        await call(
            api.create_container,
            image,
            name=sandbox.id,
            entrypoint=argv,
            command=[],
            stdin_open=True,
            hostname="sandbox",
            working_dir="/",
            labels=labels,
            healthcheck={"test": ["NONE"]},
            stop_signal="SIGKILL",  # PID 1 ignores SIGTERM, and an engine that stops or restarts waits 10 s for it
            use_config_proxy=False,  # the host's proxies are none of the sandbox's business
            **options,
        )

    async def _bound(self, sandbox: DockerSandbox, spec: SandboxSpec) -> None:
        """Add what the engine has no option for, while PID 1 gets ready."""
        if not (sys.platform == "linux" and await self._is_here()):
            return
        found = await call((await self.client()).api.inspect_container, sandbox.id)
        pid = int(found["State"].get("Pid") or 0)
        sandbox.group = await in_thread(docker_host.bound, pid, found["Id"], spec.limits)

    async def _is_here(self) -> bool:
        """Whether the engine's sockets are on this machine."""
        return (await self.client()).api.base_url.startswith("http+docker://localhost")

    async def _image(self, client: docker.DockerClient, name: str) -> dict[str, Any]:
        *firsts, last = references(name)
        try:
            for first in firsts:
                with contextlib.suppress(ImageNotFound):
                    return dict(await call(client.api.inspect_image, first))
            return dict(await call(client.api.inspect_image, last))
        except ImageNotFound as exc:
            there = [tag for found in await call(client.api.images) for tag in found.get("RepoTags") or ()]
            raise ImageNotFound(f"The engine has no image {name!r}. {how_to_get(name, there)}") from exc

    async def sandboxes(self) -> list[SandboxInfo]:
        client = await self.client()
        filters = {"label": f"{LABEL}.session"}
        return [_info(found) for found in await call(client.api.containers, all=True, filters=filters)]

    async def collect_garbage(self) -> int:
        client = await self.client()
        stale = [info for info in await self.sandboxes() if info.owner_gone]
        for info in stale:
            await DockerSandbox(client, info.id, info.image).aclose()
        return len(stale)

    async def examine(self) -> list[Finding]:
        try:
            facts = await self.facts()
        except EngineError as exc:
            remedy = getattr(exc, "remedy", "")
            return [Finding("Docker engine", "problem", str(exc).replace(f" ({remedy})", ""), remedy)]
        return findings(facts)


def _profile(
    spec: SandboxSpec, facts: dict[str, Any], shared: Path | None, host_config: Callable[..., Any]
) -> dict[str, Any]:
    """The default profile as arguments of create_container."""
    limits = spec.limits
    security = facts.get("SecurityOptions") or []
    mapped = any(name in option for option in security for name in ("rootless", "userns"))
    low, high = MAPPED_USER_RANGE if mapped else USER_RANGE
    user = low + secrets.randbelow(high - low)
    mounts = input_mounts(spec.mounts, local=shared is not None)
    # Podman knows neither an inode limit nor an owner for a tmpfs; mode 1777 lets the sandbox's user write there.
    tmpfs_options = _podman_tmpfs if facts.get("IsPodman") else _tmpfs
    tmpfs = {place: tmpfs_options(size, limits.inodes, user) for place, size in limits.tmpfs_sizes.items()}
    if shared is not None:
        mounts += shared_mounts(shared, user)
    else:
        tmpfs[SOCKETS_INSIDE] = tmpfs_options(1024 * 1024, 100, user)
        tmpfs[NAMES_INSIDE] = tmpfs_options(64 * 1024, 10, user)
    config = host_config(
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", f"seccomp={docker_profile()}"],
        read_only=True,
        ipc_mode="none",
        auto_remove=True,
        log_config={"Type": "none"},
        restart_policy={"Name": "no"},
        runtime=spec.runtime,
        mounts=mounts,
        tmpfs=tmpfs,
        extra_hosts={"sandbox": "127.0.0.1"},  # where the engine's own /etc/hosts stays
        mem_limit=limits.memory_bytes,
        memswap_limit=limits.memory_bytes + (LEAST_SWAP if facts.get("CgroupDriver") == "systemd" else 0),
        nano_cpus=int(min(limits.cpus, facts.get("NCPU") or limits.cpus) * 1e9),
        pids_limit=limits.pids,
        ulimits=_ulimits(limits, facts),
    )
    # docker-py has no arguments for these; they take the place of the engine's own, shorter lists.
    config["MaskedPaths"], config["ReadonlyPaths"] = list(CONTAINER_MASKED), list(CONTAINER_READ_ONLY)
    config["CgroupnsMode"] = "private"  # with control groups version 1 the default is the host's, whose paths it tells
    return {
        "host_config": config,
        # The container has a network namespace of its own in either case, with its loopback up. An engine that manages
        # it runs itself anew in a hook of every start, which doubles the start's time; and it writes /etc/hosts, which
        # is wanted only where ours is not shown.
        "network_disabled": shared is not None,
        "user": f"{user}:{user}",
        "environment": {"HOME": HOME_DIRECTORY},
    }


def _tmpfs(size: int, inodes: int, user: int) -> str:
    return f"rw,nosuid,nodev,noexec,size={size},nr_inodes={inodes},mode=0700,uid={user},gid={user}"


def _podman_tmpfs(size: int, inodes: int, user: int) -> str:
    return f"rw,nosuid,nodev,noexec,size={size},mode=1777,notmpcopyup"


def _ulimits(limits: Limits, facts: dict[str, Any]) -> list[dict[str, Any]]:
    largest = max(limits.tmpfs_sizes.values())
    values = {"core": 0, "nofile": limits.open_files, "fsize": largest, "memlock": 65536}
    values |= {"msgqueue": 0, "sigpending": 1024}
    if facts.get("IsPodman"):
        values["nproc"] = 4096  # its own default is above what a process without capabilities may set
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in values.items()]


def _labels(session_id: str, spec: SandboxSpec, image: str) -> dict[str, str]:
    return {
        f"{LABEL}.session": session_id,
        f"{LABEL}.owner": json.dumps(asdict(Owner.current())),
        f"{LABEL}.created": datetime.now(UTC).isoformat(timespec="seconds"),
        f"{LABEL}.spec-image": spec.image,
        f"{LABEL}.image-id": image,
    }


def _info(found: dict[str, Any]) -> SandboxInfo:
    labels = found.get("Labels") or {}
    try:
        owner: Owner | None = Owner(**json.loads(labels.get(f"{LABEL}.owner", "")))
    except (ValueError, TypeError):
        owner = None
    return SandboxInfo(
        id=found["Id"][:12],
        session_id=labels.get(f"{LABEL}.session", ""),
        image=labels.get(f"{LABEL}.spec-image", found.get("Image", "")),
        status=found.get("Status", ""),
        created=datetime.fromtimestamp(found.get("Created", 0), UTC),
        owner_pid=owner.pid if owner else 0,
        owner_gone=owner.is_gone if owner else False,
    )
