"""The session's own client of its kernel: one reader per channel, each message to the request that caused it.

jupyter_client's conveniences lose replies, lose `idle`, or wait for ever when a kernel dies (they read a channel
from several places and throw away what is not theirs); here every channel has one reader that never stops. Message
ids are random: with jupyter_client's own, which count, a cell could send the result of the next one in advance.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio

from kernel_sandbox.errors import KernelNotReady, ProtocolViolation
from kernel_sandbox.forks import own
from kernel_sandbox.run_directory import explained
from kernel_sandbox.validate import InvalidMessage, Message, read_message, refused_reply

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

Handler = Callable[[str, Message], None]
"""Called with the channel's name and the message, in the session's event loop."""

HANDSHAKE_RETRY = 0.25
MOST_INVALID = 100
"""Messages of one kernel that nobody honest sends, after which its sandbox is ended."""
SLICE = 0.005
"""Seconds for which a channel that never runs dry is read before other sessions have their turn."""
QUEUE = 2
"""Messages that wait in this process, per channel; more wait in the kernel's own process, within its memory."""
SETTLE = 0.02
SETTLE_LIMIT = 0.3
"""Seconds: after a kernel's death, its last outputs are awaited until nothing has come for SETTLE."""


@functools.lru_cache(maxsize=4)
def _shared_context(process: int) -> zmq.asyncio.Context:
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, 16_384)
    context.setsockopt(zmq.LINGER, 0)
    # A full queue stops libzmq from reading; the kernel's queue has no mark at which it would drop (guest/kernel.py).
    context.setsockopt(zmq.RCVHWM, QUEUE)
    # Nothing may wait in a send: it would stop every session of this process.
    context.setsockopt(zmq.SNDTIMEO, 0)
    context.setsockopt(zmq.RECONNECT_IVL, 5)
    return context


def shared_context() -> zmq.asyncio.Context:
    """Return this process's context for all sessions: each context costs a thread."""
    return _shared_context(os.getpid())


@contextlib.contextmanager
def refusals_named() -> Iterator[None]:
    """Raise EngineError where libzmq or this process gets no descriptors, processes or room from the system."""
    with explained(also_room=False):
        try:
            yield
        except zmq.ZMQError as exc:
            raise OSError(exc.errno, exc.strerror) from exc


class Channels:
    """Connected channels of one kernel, from `open` to `close`. A restart makes new ones, with nothing old in them."""

    def __init__(
        self, manager: AsyncKernelManager, unparented: Handler, failed: Callable[[BaseException], None]
    ) -> None:
        self._manager = manager
        self._session = manager.session
        self._unparented = unparented
        self._failed = failed
        self._handlers: dict[str, Handler] = {}
        self._sockets: dict[str, Any] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._asked: set[asyncio.Future[dict[str, Any] | None]] = set()
        self._gives_up = False
        """Whether no reply is waited for any more."""
        self._heard_iopub = asyncio.Event()
        self.invalid = 0
        """How many messages were refused; an honest kernel sends none."""
        self.messages = 0

    def open(self) -> None:
        # The kernel sends an input request to the stdin client of the same identity as the shell client.
        manager, identity = self._manager, self._session.bsession
        self._sockets["shell"] = manager.connect_shell(identity=identity)
        self._sockets["iopub"] = manager.connect_iopub()
        self._sockets["control"] = manager.connect_control(identity=identity)
        self._sockets["stdin"] = manager.connect_stdin(identity=identity)
        for socket in self._sockets.values():
            own(socket)  # a child that asked libzmq would take what it says to the parent
        loop = asyncio.get_running_loop()
        self._readers = [loop.create_task(self._read(name, socket)) for name, socket in self._sockets.items()]
        for reader in self._readers:
            reader.add_done_callback(self._reader_ended)

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and (exc := reader.exception()) is not None:
            self._failed(exc)

    async def close(self) -> None:
        self.give_up()
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for socket in self._sockets.values():
            socket.close(0)
        self._handlers.clear()

    def give_up(self) -> None:
        """Wait for replies no longer, those that are asked for from now on included: the kernel is gone, or going."""
        self._gives_up = True
        for reply in self._asked:
            if not reply.done():
                reply.set_result(None)

    async def settle(self) -> None:
        """Wait until a dead kernel's last messages have been read."""
        self.give_up()
        deadline = asyncio.get_running_loop().time() + SETTLE_LIMIT
        before = -1
        while before != self.messages and asyncio.get_running_loop().time() < deadline:
            before = self.messages
            await asyncio.sleep(SETTLE)

    async def handshake(self, timeout: float) -> dict[str, Any]:
        """Return the kernel's kernel_info once both ways stand. Raises KernelNotReady.

        The reply must be to our own request, and iopub must have delivered something (its welcome, JEP 65, or any
        status): only then will it deliver the first cell's outputs.
        """
        info: dict[str, Any] = {}
        answered = asyncio.Event()

        def take(channel: str, message: Message) -> None:
            if channel == "shell" and message["msg_type"] == "kernel_info_reply":
                info.update(message["content"])
                answered.set()

        async def both() -> None:
            await answered.wait()
            await self._heard_iopub.wait()

        try:
            async with asyncio.timeout(timeout):
                while not (answered.is_set() and self._heard_iopub.is_set()):
                    self.request("shell", "kernel_info_request", {}, take)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(HANDSHAKE_RETRY):
                            await both()
        except TimeoutError as exc:
            raise KernelNotReady(f"The kernel started, but did not answer within {timeout:g} s.") from exc
        return info

    def request(self, channel: str, kind: str, content: dict[str, Any], handler: Handler) -> str:
        """Send a request and return its id; `handler` gets every message whose parent it is, until `forget`."""
        message = self._session.msg(kind, content)
        message["msg_id"] = message["header"]["msg_id"] = identifier = uuid.uuid4().hex
        self._handlers[identifier] = handler
        self._send(channel, message)
        return identifier

    def _send(self, channel: str, message: dict[str, Any]) -> None:
        # Not by the session's own `send`, which passes the asyncio socket by: a message that arrives just then uses up
        # the one sign of it (zmq_getsockopt(3), ZMQ_FD), and its reader would never hear of it.
        sent = self._sockets[channel].send_multipart(self._session.serialize(message), flags=zmq.DONTWAIT)
        if isinstance(refused := sent.exception(), zmq.Again):
            # libzmq has given the connection up for good, as it does where a peer breaks the handshake.
            self._failed(ProtocolViolation("a handshake that no client can complete"))
        elif refused is not None:
            raise refused

    async def ask(self, channel: str, kind: str, content: dict[str, Any], timeout: float) -> dict[str, Any] | None:
        """Send a request and return its reply's content; None when none came in time, or `give_up` was called."""
        if self._gives_up:
            return None
        reply: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._asked.add(reply)

        def answered(where: str, message: Message) -> None:
            if where == channel and not reply.done():
                reply.set_result(message["content"])

        identifier = self.request(channel, kind, content, answered)
        try:
            async with asyncio.timeout(timeout):
                return await reply
        except TimeoutError:
            return None
        finally:
            self._asked.discard(reply)
            self.forget(identifier)

    def answer_input(self, value: str) -> None:
        """Send what the user typed to the cell that asked for it."""
        self._send("stdin", self._session.msg("input_reply", {"value": value, "status": "ok"}))

    def forget(self, identifier: str) -> None:
        self._handlers.pop(identifier, None)

    async def _read(self, channel: str, socket: Any) -> None:
        key, clock = self._session.key, time.monotonic
        turn_ends = clock() + SLICE
        while True:
            frames = await socket.recv_multipart()
            if clock() > turn_ends:
                await asyncio.sleep(0)  # a message that is there already is received without a pause
                turn_ends = clock() + SLICE
            self.messages += 1
            try:
                message = read_message(channel, frames, key)
            except InvalidMessage as exc:
                self.invalid += 1
                if self.invalid > MOST_INVALID:
                    raise ProtocolViolation(f"more than {MOST_INVALID} invalid messages, the last {exc}") from exc
                if channel == "shell" and exc.parent in self._handlers:  # who waits for it would wait for ever
                    self._handlers[exc.parent](channel, refused_reply(exc))
                continue
            if channel == "iopub":
                self._heard_iopub.set()
            if message is not None:
                (self._handlers.get(message["parent"]) or self._unparented)(channel, message)
