"""The sandboxed kernel as a process: `python -P -m kernel_sandbox.doors.jupyter.launcher -f FILE [--config JSON]`.

For front ends that know no kernel provisioners (VS Code, PyCharm, nteract): they run a kernelspec's argv, which would
be an unsandboxed kernel if it were ipykernel's. The front end has chosen the addresses and the key, and written them
into the file; the sandbox's kernel takes the key, and the addresses are joined to its sockets, byte for byte: ZMTP does
not care what carries it. The gate sees every byte all the same.

Runs as long as the kernel does. SIGINT interrupts the cell; SIGTERM, and the end of the process that started it, end
the sandbox. Every other Jupyter tool enters at `provisioner`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.live_kernel import CHANNELS
from kernel_sandbox.sandbox.sandbox import LiveSandbox
from kernel_sandbox.spec.values import SandboxSpec

PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What a connection file asks for (jupyter-client.readthedocs.io, "Connection files")."""

    transport: str
    ip: str
    ports: Mapping[str, int]
    key: bytes
    signature_scheme: str


def read_connection_file(path: Path) -> LaunchRequest:
    """Read a connection file. Raises SandboxError for one that cannot be served."""
    try:
        info = json.loads(path.read_text())
        ports = {channel: int(info[f"{channel}_port"]) for channel in CHANNELS}
        wanted = LaunchRequest(
            str(info.get("transport", "tcp")), str(info["ip"]), ports, info["key"].encode(), info["signature_scheme"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise SandboxError(f"{path} is no connection file: {type(exc).__name__}: {exc}") from exc
    if wanted.transport not in ("tcp", "ipc") or 0 in ports.values():
        raise SandboxError(f"{path} names no addresses that a kernel can listen on.")
    return wanted


async def serve(wanted: LaunchRequest, engine: str | None, spec: SandboxSpec) -> int:
    """Run one kernel until its end, and return its exit status. Raises SandboxError where it does not start."""
    live = LiveSandbox(spec, engine, new_session_id())
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # what is still starting has nothing to interrupt
    await live.open()
    try:
        info = await live.start_kernel(wanted.key, wanted.signature_scheme, own_session=False)
        loop.add_signal_handler(signal.SIGINT, lambda: loop.create_task(live.signal_kernel(signal.SIGINT)))
        async with contextlib.AsyncExitStack() as stack:
            for channel in CHANNELS:
                inside = f"{info['ip']}-{info[f'{channel}_port']}"
                await stack.enter_async_context(await _listen(wanted, channel, inside))
            ends = {asyncio.ensure_future(end) for end in (told.wait(), _orphaned(), _death(live))}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        return live.exit_code or 0
    finally:
        await live.aclose()


async def _listen(wanted: LaunchRequest, channel: str, inside: str) -> asyncio.Server:
    """Join an address of the front end's to a socket of the sandbox's gate. Raises SandboxError where it is taken."""
    splice = partial(_splice, inside)
    port = wanted.ports[channel]
    try:
        if wanted.transport == "ipc":
            return await asyncio.start_unix_server(splice, f"{wanted.ip}-{port}")
        return await asyncio.start_server(splice, wanted.ip, port, family=socket.AF_UNSPEC)
    except OSError as exc:
        raise SandboxError(
            f"The kernel cannot listen on {wanted.ip}, port {port} ({channel}): {exc.strerror}."
        ) from exc


async def _splice(inside: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry the bytes of one connection both ways until either end closes."""
    try:
        there = await asyncio.open_unix_connection(inside)
    except OSError:  # the kernel is gone, and so will this process be
        writer.close()
        return
    ways = {asyncio.ensure_future(way) for way in (_carry(reader, there[1]), _carry(there[0], writer))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for end in (writer, there[1]):
            end.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


async def _death(live: LiveSandbox) -> None:
    reason = await asyncio.wrap_future(live.death)
    if live.exit_code:
        print(reason, file=sys.stderr)


async def _orphaned() -> None:
    """Return when the front end that started this process has ended, where it says which that is; else never.

    jupyter_client gives its own process id. Where the front end is gone before this is asked, its id is free: nobody
    else's death would be waited for but by a rare chance.
    """
    ended = asyncio.Event()
    if (named := os.environ.get("JPY_PARENT_PID", "")).isdigit():
        parent = int(named) if int(named) > 1 else os.getppid()
        try:
            asyncio.get_running_loop().add_reader(os.pidfd_open(parent), ended.set)
        except ProcessLookupError:
            return
    await ended.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the launcher, and return the exit status: the kernel's, or 2 where none starts."""
    parser = argparse.ArgumentParser(
        prog="python -P -m kernel_sandbox.doors.jupyter.launcher",
        description=(__doc__ or "").split("\n")[0],
        epilog="Other arguments are for ipykernel (nbclient gives it some), and are ignored.",
        allow_abbrev=False,
    )
    # The spellings that ipykernel takes; VS Code writes --f.
    names = ("-f", "--f", "--IPKernelApp.connection_file")
    parser.add_argument(*names, dest="file", type=Path, required=True, metavar="CONNECTION_FILE")
    parser.add_argument(
        "--config", type=json.loads, default={}, metavar="JSON", help="the kernelspec's: engine, image …"
    )
    options, _ = parser.parse_known_args(arguments)
    try:
        config: dict[str, Any] = dict(options.config)
        engine = config.pop("engine", None)
        spec = SandboxSpec.from_config({"door": "command line", **config})  # where a kernelspec is made
        return asyncio.run(serve(read_connection_file(options.file), engine, spec))
    except SandboxError as exc:
        print(exc, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
