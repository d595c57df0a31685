"""PID 1 of a sandbox: starts and reaps kernels, answers the host's operations, and ends with its input.

Its standard input and output are the one stream to the host (mux.py): a channel is one operation, a JSON
line that asks, then the operation's own bytes. The operations are inspect, start, fork, stop, signal, said, watch,
usage, connect and those of file_operations.py. When the stream ends, the host is gone or has closed the session, and
the sandbox ends.

Code in the sandbox runs as the same user. It can send no signal to PID 1 that PID 1 does not handle (it is the init
of its pid namespace), cannot trace it or open its descriptors (it is not dumpable), and finds no socket of it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import traceback
from typing import Any

from kernel_sandbox.inside import command_line, zygote

PR_SET_DUMPABLE = 4
LINK_IN, LINK_OUT = 3, 4
PIPE_SIZE = 1024 * 1024


def run() -> None:
    """Serve the host until its stream ends. Never returns to the boot code."""
    command_line.show_as("kernel-sandbox")
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which an init process ignores; Python's own handler would end it
    _take_standard_streams()
    # Before asyncio is imported here (by kernels.py), so that both imports run at the same time.
    zygote_process = zygote.start()
    import asyncio

    from kernel_sandbox.inside import fresh_places, kernels, survivors, watch

    fresh_places.copy_skeleton()
    fresh_places.write_names()
    status = 1
    try:
        asyncio.run(Guest(kernels.Kernels(*zygote_process)).serve())
        status = 0
    except watch.TooMuch as exc:
        print(exc, file=sys.stderr, flush=True)  # which only the host reads
    except Exception:
        traceback.print_exc()
        raise
    finally:
        survivors.kill_everything()
        os._exit(status)


def _take_standard_streams() -> None:
    """Move the host's stream to descriptors that no child inherits, and leave /dev/null in their place.

    Standard error stays PID 1's own, for its last words; its children get /dev/null for all three.
    """
    for standard, link in ((0, LINK_IN), (1, LINK_OUT)):
        os.dup2(standard, link, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    os.close(null)
    for link in (LINK_IN, LINK_OUT):
        try:
            fcntl.fcntl(link, 1031, PIPE_SIZE)  # F_SETPIPE_SZ: fewer wake-ups for a large file
        except OSError:
            pass  # not a pipe, or the user's share of pipe memory is used up


class Guest:
    """The stream to the host, and the operations that reach in; those on kernels and files are in their own rooms."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels

    async def serve(self) -> None:
        import asyncio

        from kernel_sandbox.inside import mux

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.kernels.reap)
        # A cell may send more of them than fit in the loop's pipe: Python would complain of each on standard error.
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
        reader = asyncio.StreamReader(limit=PIPE_SIZE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(LINK_IN, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(LINK_OUT, "wb", 0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        tasks: set[Any] = set()

        def accept(channel: mux.Channel, payload: bytes) -> None:
            task = loop.create_task(self.answer(channel, payload))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await self._until_too_much(mux.Mux(lambda: reader.read(PIPE_SIZE), send, accept).run())

    async def _until_too_much(self, serving: Any) -> None:
        """Serve until the host's stream ends. Raises what ends the sandbox before that."""
        import asyncio

        from kernel_sandbox.inside import watch

        both = [asyncio.ensure_future(serving), asyncio.ensure_future(watch.watch())]
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()

    async def answer(self, channel: Any, payload: bytes) -> None:
        """Run one operation, and answer with what went wrong if it fails before its answer."""
        from kernel_sandbox.inside import file_operations, kernels, mux

        request = json.loads(payload)
        name = "do_" + request["op"]
        operation = (
            getattr(self, name, None) or getattr(self.kernels, name, None) or file_operations.OPERATIONS[request["op"]]
        )
        try:
            try:
                await operation(channel, request)
            except file_operations.Refused as exc:
                await file_operations.answer(channel, ok=False, error="refused", message=str(exc))
            except OSError as exc:
                if isinstance(exc, mux.MuxError):
                    raise
                await file_operations.answer(
                    channel, ok=False, error=file_operations.code(exc), message=exc.strerror or str(exc)
                )
            except kernels.KernelFailed as exc:
                await file_operations.answer(
                    channel, ok=False, error="failed", message=str(exc), said=kernels.as_text(exc.said)
                )
            except (RuntimeError, LookupError, ValueError) as exc:
                await file_operations.answer(channel, ok=False, error="failed", message=f"{type(exc).__name__}: {exc}")
            await channel.send_eof()
        except mux.MuxError:
            pass  # the host gave the operation up

    async def do_connect(self, channel: Any, request: dict[str, Any]) -> None:
        """Join the channel to one of a kernel's sockets: bytes both ways until either side ends."""
        import asyncio

        kernel, port = self.kernels.kernels[request["kernel"]], int(request["port"])
        try:
            if kernel.loopback is None:
                reader, writer = await asyncio.open_unix_connection(f"{kernel.sockets}/s-{port}")
            else:
                reader, writer = await kernel.loopback.connect(port)
        except OSError:
            return  # nobody listens there any more: the channel ends, as the connection would

        async def inwards() -> None:
            while chunk := await channel.receive():
                writer.write(chunk)
                await writer.drain()

        async def outwards() -> None:
            while chunk := await reader.read(256 * 1024):
                await channel.send(chunk)

        both = [asyncio.ensure_future(inwards()), asyncio.ensure_future(outwards())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()

    async def do_inspect(self, channel: Any, request: dict[str, Any]) -> None:
        from kernel_sandbox.inside import file_operations, inspection

        await file_operations.answer(channel, ok=True, facts=inspection.facts(request["places"], request["masked"]))

    async def do_usage(self, channel: Any, request: dict[str, Any]) -> None:
        from kernel_sandbox.inside import file_operations, survivors

        space = os.statvfs(file_operations.ROOT)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        await file_operations.answer(
            channel, ok=True, memory=survivors.memory_used(), data=used, processes=len(survivors.processes())
        )
