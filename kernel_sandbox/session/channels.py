"""The session's own client of its kernel: one reader per channel, each message to the request that caused it.

jupyter_client's conveniences lose replies, lose `idle`, or wait for ever when a kernel dies (they read a channel
from several places and throw away what is not theirs); here every channel has one reader that never stops. Message
ids are random: with jupyter_client's own, which count, a cell could send the result of the next one in advance. The
messages and their signatures are jupyter_client's, the way they go is ours (wire.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_client.session import Session

from kernel_sandbox.errors import KernelNotReady, ProtocolViolation
from kernel_sandbox.sandbox.wire import Connection, Frames, Line
from kernel_sandbox.sandbox.zmtp import message as on_the_wire
from kernel_sandbox.session.messages import InvalidMessage, Message, read_message, refused_reply

if TYPE_CHECKING:
    from kernel_sandbox.sandbox.gate import Gate

Handler = Callable[[str, Message], None]
"""Called with the channel's name and the message, in the session's event loop."""

HANDSHAKE_RETRY = 0.25
MOST_INVALID = 100
"""Messages of one kernel that nobody honest sends, after which its sandbox is ended."""
SETTLE = 0.02
SETTLE_LIMIT = 0.3
"""Seconds: after a kernel's death, its last outputs are awaited until nothing has come for SETTLE."""


SOCKETS = {"shell": (1, b"DEALER"), "iopub": (2, b"SUB"), "stdin": (3, b"DEALER"), "control": (4, b"DEALER")}
"""The ports, and what a client has there (the Jupyter messaging protocol, "Introduction")."""


class Channels:
    """Connected channels of one kernel, from `open` to `close`. A restart makes new ones, with nothing old in them."""

    def __init__(
        self, gate: Gate, session: Session, unparented: Handler, failed: Callable[[BaseException], None]
    ) -> None:
        """Take the messages of the kernel behind `gate`, whose key `session` has."""
        self._gate = gate
        self._session = session
        self._unparented = unparented
        self._failed = failed
        self._handlers: dict[str, Handler] = {}
        self._lines: dict[str, Line] = {}
        self._asked: set[asyncio.Future[dict[str, Any] | None]] = set()
        self._gives_up = False
        """Whether no reply is waited for any more."""
        self._heard_iopub = asyncio.Event()
        self._failure: BaseException | None = None
        """Why nothing more comes."""
        self.invalid = 0
        """How many messages were refused; an honest kernel sends none."""
        self.messages = 0

    def open(self) -> None:
        """Begin to connect to each channel."""
        gate, identity = self._gate, self._session.bsession
        for name, (port, kind) in SOCKETS.items():
            take = functools.partial(self._take, name)
            # The kernel sends an input request to the stdin client of the same identity as the shell client.
            make = functools.partial(Connection, kind, identity, gate.bounds, take, self._fail)
            line = self._lines[name] = Line(gate.dial, port, make, self._fail)
            line.open()

    def _fail(self, exc: BaseException) -> None:
        self._failure = exc
        self._failed(exc)

    async def close(self) -> None:
        self.give_up()
        await asyncio.gather(*(line.close() for line in self._lines.values()))
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
                    if self._failure is not None:
                        raise self._failure
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
        self._lines[channel].send(on_the_wire(self._session.serialize(message)))

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

    def _take(self, channel: str, frames: Frames) -> None:
        """Give a message to the request that caused it. Raises ProtocolViolation at one too many that is invalid."""
        self.messages += 1
        try:
            message = read_message(channel, frames, self._session.key)
        except InvalidMessage as exc:
            self.invalid += 1
            if self.invalid > MOST_INVALID:
                raise ProtocolViolation(f"more than {MOST_INVALID} invalid messages, the last {exc}") from exc
            if channel == "shell" and exc.parent in self._handlers:  # who waits for it would wait for ever
                self._handlers[exc.parent](channel, refused_reply(exc))
            return
        if channel == "iopub":
            self._heard_iopub.set()
        if message is not None:
            (self._handlers.get(message["parent"]) or self._unparented)(channel, message)
