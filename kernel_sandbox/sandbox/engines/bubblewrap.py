"""The bubblewrap engine: one locked-down process tree per sandbox, with no daemon, no image and no root.

bubblewrap makes the namespaces and the view of the file system; inside/confinement.py, which runs in it first, makes
the writable places and gives the privileges up. As root a sandbox gets a user id of its own; otherwise it runs as its
owner, in a user namespace. The root directory comes from environments.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from kernel_sandbox.errors import EngineUnavailable, SandboxLost
from kernel_sandbox.host import programs
from kernel_sandbox.host.forks import Descriptor, making, own, passing, pipe
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import control_groups, environments, registry, scopes
from kernel_sandbox.sandbox.engines.base import (
    SOCKETS_INSIDE,
    Engine,
    Finding,
    Sandbox,
    SandboxInfo,
    TemplateBoot,
    in_thread,
    source_missing,
    write,
)
from kernel_sandbox.sandbox.engines.bubblewrap_forked import ForkedProcess
from kernel_sandbox.sandbox.engines.bubblewrap_host import examine_host, start_failure
from kernel_sandbox.sandbox.engines.bubblewrap_profile import IN_REACH, Profile, shared_inodes
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import Standing, Visit, shelf
from kernel_sandbox.sandbox.engines.environments import Environment
from kernel_sandbox.spec.values import PYTHON_KERNEL, SandboxSpec

PYTHON = (None, PYTHON_KERNEL)
"""The kernels that a template makes."""
CHUNK = 256 * 1024
STDERR_KEPT = 4096
END_PATIENCE = 5.0
"""Seconds that a killed sandbox may take until all of its processes are gone."""


class BubblewrapSandbox(Sandbox):
    """One bubblewrap process, and the pipes to the PID 1 below it."""

    def __init__(self, name: str, image: str) -> None:
        self.id = name
        self.image = image
        self.process: asyncio.subprocess.Process | ForkedProcess | None = None
        self.first_pid = 0
        """PID 1 of the sandbox, as this process counts."""
        self.sockets: Path | None = None
        self._stream: asyncio.StreamWriter | None = None
        """To PID 1's standard input: its end is the sandbox's."""
        self._stderr = bytearray()
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._template: Standing | None = None
        """From which it was forked, if from any."""
        self.visit: Visit | None = None
        """By which this process's templates count it, if they do."""

    async def hold(self, stream: socket.socket) -> None:
        """Take over the socket that is PID 1's standard input."""
        stream.setblocking(False)
        _, self._stream = await asyncio.open_unix_connection(sock=stream)

    async def adopt(self, spawning: asyncio.Task[asyncio.subprocess.Process]) -> None:
        """Take the process over once it is there, also where this is cancelled meanwhile.

        asyncio waits for ever where it is cancelled before it has connected the pipes (Python 3.11, base_subprocess).
        """
        with anyio.CancelScope(shield=True):
            try:
                self.process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                self.process = await spawning
                raise
            finally:
                if self.process is not None:
                    self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def come_from(self, template: Standing, process: ForkedProcess, stdin: socket.socket) -> None:
        """Take over what a template has forked."""
        self._template, self.process, self.first_pid = template, process, process.first_pid
        self.sockets = process.sockets
        self._listening = asyncio.get_running_loop().create_task(self._listen())
        await self.hold(stdin)

    async def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        while chunk := await self.process.stderr.read(CHUNK):
            self._stderr += chunk
            del self._stderr[:-STDERR_KEPT]

    async def said(self) -> str:
        """Return what came on standard error, once it has ended."""
        if self._listening is not None:
            await asyncio.wait([self._listening], timeout=1)
        return self._stderr.decode("utf-8", "replace").strip()

    async def receive(self) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        return await self.process.stdout.read(CHUNK)

    async def send(self, data: bytes) -> None:
        assert self._stream is not None
        await write(self._stream, data)

    async def epitaph(self) -> str:
        assert self.process is not None
        said = await self.said()
        try:
            async with asyncio.timeout(1):
                status = await self.process.wait()
        except TimeoutError:
            return said or "its stream was cut"
        # bubblewrap passes a signal on as 128 and its number.
        meaning = " (killed: from outside, or out of memory)" if status in (137, -9) else ""
        return f"its first process ended with status {status}{meaning}{': ' + said if said else ''}"

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._stream is not None:
            self._stream.transport.abort()
        if self.process is not None:
            await self._end(self.process)
        if self._template is not None:
            shelf().give_back(self._template)
        if self.visit is not None:
            shelf().leave(self.visit)
        if self._listening is not None:
            self._listening.cancel()
        await in_thread(control_groups.remove, self.group.directories)
        registry.remove(self.id)

    def settle(self) -> None:
        if self.visit is not None:
            shelf().settle(self.visit)

    async def _end(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        """Kill PID 1, with which the kernel ends all others, and wait until bubblewrap has reaped it."""
        if isinstance(process, ForkedProcess):
            process.end()
        elif process.returncode is None:
            # The id is PID 1's for as long as bubblewrap has not ended: nobody else reaps it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first_pid or process.pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(END_PATIENCE):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class BubblewrapEngine(Engine):
    name = "bubblewrap"

    async def check(self, spec: SandboxSpec) -> None:
        if spec.runtime is not None:
            raise EngineUnavailable(f"The bubblewrap engine has no runtime {spec.runtime!r}: runtimes are Docker's.")
        if sys.platform != "linux" or programs.find("bwrap") is None:
            raise EngineUnavailable(start_failure(""))
        environments.find(spec.image)

    async def supports_ipc(self, spec: SandboxSpec) -> bool:
        return True

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
        await self.check(spec)
        for mount in spec.mounts:
            if not Path(mount.source).exists():
                raise source_missing(str(mount.source))
        environment = environments.find(spec.image)
        await in_thread(scopes.manager)  # asked once, and at once from then on
        sandbox = BubblewrapSandbox(f"kernel-sandbox-{session_id}-{secrets.token_hex(4)}", environment.digest)
        sandbox.preload, sandbox.kernel = environment.preload, environment.kernel
        sandbox.own_facts = environments.read_facts(environment.directory)
        try:
            # Before there is anything: a host that is killed from here on leaves word of what to remove.
            registry.add(_record(sandbox, spec, session_id, environment))
            sandbox.group = control_groups.create(sandbox.id, spec.limits)
            profile = Profile(
                spec=spec,
                root=environment.root,
                group=sandbox.group,
                nested=os.getuid() != 0,
                shares_sockets=shared is not None,
            )
            sandbox.weakened = profile.weakened
            control_groups.hasten_entry(sandbox.group)
            forked = template is not None and await self._fork(sandbox, profile, environment, template)
            if not forked:
                await self._spawn(sandbox, profile, argv)
            registry.add(_record(sandbox, spec, session_id, environment))
            if shared is not None and not forked:
                sandbox.sockets = Path(f"/proc/{sandbox.first_pid}/root{SOCKETS_INSIDE}")
            if not forked:
                await sandbox.send(boot)
        except BaseException as exc:
            with anyio.CancelScope(shield=True):
                await sandbox.aclose()
            if isinstance(exc, ConnectionError):
                raise SandboxLost(f"The sandbox ended while it started ({exc}).") from exc
            raise
        return sandbox

    async def _fork(
        self, sandbox: BubblewrapSandbox, profile: Profile, environment: Environment, boot: TemplateBoot
    ) -> bool:
        """Have the sandbox forked from a template; return whether there was one that did."""
        if not profile.suits_template or scopes.manager() is not None or environment.kernel not in PYTHON:
            return False
        sandbox.visit = shelf().enter(environment, boot(environment.preload))
        if sandbox.visit is None:
            return False
        # Who has modules loaded before the first kernel waits for them in any case.
        there = await shelf().find(sandbox.visit, patient=profile.spec.preload is not None)
        if there is None or (born := await shelf().bear(there, profile.forked_preparation(), sandbox.group)) is None:
            sandbox.visit.starts_by_itself()
            return False
        process, stdin, shared = born
        await sandbox.come_from(there, process, stdin)
        sandbox.weakened += (*shared_inodes(shared), *((IN_REACH,) if profile.nested else ()))
        return True

    async def _spawn(self, sandbox: BubblewrapSandbox, profile: Profile, argv: list[str]) -> None:
        """Start bubblewrap and wait until the command in it is about to run. Raises EngineUnavailable."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as ours:
            with contextlib.ExitStack() as theirs:
                (info, info_in), (ready, ready_in) = _pipe(ours, theirs), _pipe(ours, theirs)
                with making():
                    stream, stdin = map(own, socket.socketpair())
                theirs.enter_context(stdin)
                await sandbox.hold(stream)
                # With both ends of `info`: had this process just died, bubblewrap would end when it writes there, and
                # its child would wait for it for ever.
                passed = {"info": info.fileno(), "ready": ready_in.fileno()}
                spawning = asyncio.create_subprocess_exec(
                    *profile.command(info_in.fileno()),
                    json.dumps(profile.preparation() | passed | {"session": sandbox.id}),
                    *argv,
                    stdin=stdin.fileno(),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    limit=CHUNK,
                    env={"PATH": programs.environment()["PATH"]} | scopes.environment(),
                    pass_fds=(info_in.fileno(), *passed.values()),
                    start_new_session=True,  # Ctrl-C in the terminal is not meant for it
                )
                with passing(info, info_in, ready_in, stdin):
                    await sandbox.adopt(loop.create_task(spawning))
            told = await _read_to_end(loop, info.fileno())
            sandbox.first_pid = int(json.loads(told)["child-pid"]) if told else 0
            prepared = await _read_to_end(loop, ready.fileno())
            if not prepared:
                raise EngineUnavailable(start_failure(await sandbox.said()))
            sandbox.weakened += shared_inodes(json.loads(prepared))

    async def sandboxes(self) -> list[SandboxInfo]:
        found = (record for record in registry.records() if record["session"] is not None)  # a template has none
        return [_info(record) for record in found if registry.is_running(record)]

    async def collect_garbage(self) -> int:
        """Remove what dead owners left: their sandboxes end by themselves, their control groups do not."""
        count = 0
        for record in registry.records():
            if registry.owner_is_gone(record):
                registry.kill(record)
                groups = tuple(Path(path) for path in record["groups"])
                await in_thread(control_groups.remove, groups)
                registry.remove(record["id"])
                count += 1
        return count

    async def examine(self) -> list[Finding]:
        return await in_thread(examine_host)


def _pipe(reading: contextlib.ExitStack, writing: contextlib.ExitStack) -> tuple[Descriptor, Descriptor]:
    """Make a pipe whose ends the two stacks close: at once, for the next one may find no descriptors."""
    reader, writer = pipe()
    reading.callback(reader.close)
    writing.callback(writer.close)
    return reader, writer


async def _read_to_end(loop: asyncio.AbstractEventLoop, descriptor: int) -> bytes:
    """Read a pipe whose writers say little and then close it.

    Not by `connect_read_pipe`: uvloop closes what it is given twice, and another thread's may have that number by then.
    """
    os.set_blocking(descriptor, False)
    told, readable = bytearray(), asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(descriptor, CHUNK)
                if not chunk:
                    return bytes(told)
                told += chunk
    finally:
        loop.remove_reader(descriptor)


def _record(sandbox: BubblewrapSandbox, spec: SandboxSpec, session_id: str, environment: Environment) -> dict[str, Any]:
    return {
        "id": sandbox.id,
        "session": session_id,
        "image": spec.image,
        "environment": str(environment.directory),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "owner": asdict(Owner.current()),
        "process": asdict(Owner.of(sandbox.process.pid)) if sandbox.process else None,
        "first_pid": sandbox.first_pid,
        "groups": [str(path) for path in control_groups.places(sandbox.id)],
    }


def _info(record: dict[str, Any]) -> SandboxInfo:
    return SandboxInfo(
        id=re.sub(r"^kernel-sandbox-", "", record["id"]),
        session_id=record["session"],
        image=record["image"],
        status="running",
        created=datetime.fromisoformat(record["created"]),
        owner_pid=record["owner"]["pid"],
        owner_gone=registry.owner_is_gone(record),
    )
