"""Serves over HTTP until it is told to end: the listening socket, uvicorn's limits, signals, the way down.

uvicorn counts idle connections as it counts requests, and gives a client all the time in the world to send its
headers; so the number of connections is large here, and a connection without a request has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kernel_sandbox.doors.http.asgi_app import create_app
from kernel_sandbox.doors.http.tls import tls_context
from kernel_sandbox.service.authenticator import Authenticator
from kernel_sandbox.service.logs import log_event
from kernel_sandbox.service.opening import open_service
from kernel_sandbox.service.settings import ServerSettings, SettingsError
from kernel_sandbox.service.traces import Tracing

HEADER_TIME = 10.0
"""Seconds from the first byte of a request, or from its connection, to the end of its headers."""
LARGEST_HEADER = 32 * 1024
MOST_CONNECTIONS = 4096
BACKLOG = 1024
USER_TIMEOUT = 60
"""Seconds after which the kernel gives up a connection whose other side takes nothing (tcp(7), TCP_USER_TIMEOUT)."""
GRACE = 20
"""Seconds that requests have to end when the server is told to; then their cells are interrupted."""


async def serve(settings: ServerSettings, announce: Callable[[str], None], told: asyncio.Event | None = None) -> None:
    """Serve until SIGINT or SIGTERM (or `told`); `announce` is given the address as soon as it answers.

    Raises SettingsError where the address cannot be had, and what `open_service` raises.
    """
    _raise_descriptor_limit()
    context = tls_context(settings)
    with contextlib.closing(listen(settings.host, settings.port)) as listener, _tracing(settings) as tracing:
        address = address_of(listener, "https" if context else "http")
        async with open_service(settings) as service, Authenticator(settings, service.store) as authenticator:
            server = _Server(_config(settings, context))
            app = server.config.app = create_app(
                service, authenticator, is_ready=lambda: not server.should_exit, tracing=tracing
            )

            def on_started() -> None:
                log_event("serving", address=address, accepts=", ".join(authenticator.modes))
                announce(address)

            server.on_started = on_started
            async with app.router.lifespan_context(app):
                with _signals(server, told):
                    await server.serve(sockets=[listener])


@contextlib.contextmanager
def _tracing(settings: ServerSettings) -> Iterator[Tracing]:
    tracing = Tracing(settings.trace_endpoint)
    try:
        yield tracing
    finally:
        tracing.close()


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket; port 0 takes any. Raises SettingsError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as exc:
        reason = exc.strerror or exc
        raise SettingsError(f"{host}, port {port}, cannot be had ({reason}): choose another with --port.") from exc
    # Accepted connections inherit these. asyncio sets the first only where a socket names its protocol, which this one
    # does not: without it, each answer waits for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT * 1000)
    return listener


def address_of(listener: socket.socket, scheme: str) -> str:
    """Write the address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _config(settings: ServerSettings, context: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app="",  # set when the service is open
        log_config=None,
        access_log=False,  # it would hold URLs, and so identifiers
        http=PatientProtocol,
        h11_max_incomplete_event_size=LARGEST_HEADER,
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        ws_max_queue=4,
        lifespan="off",  # entered here: uvicorn leaves it open when it is told twice to end
        server_header=False,
        proxy_headers=False,  # proxies.py, which has to see the proxy's own address
        ssl_context_factory=None if context is None else lambda config, default: context,
        limit_concurrency=MOST_CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # a number of seconds for call_later
        timeout_graceful_shutdown=GRACE,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, with signals of our own: its would end the process before the sandboxes are."""

    on_started: Callable[[], None]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()


@contextlib.contextmanager
def _signals(server: uvicorn.Server, told: asyncio.Event | None) -> Iterator[None]:
    """End the server at the first signal; at the second, without waiting for its requests."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    async def wait(event: asyncio.Event) -> None:
        await event.wait()
        end()

    waiting = asyncio.ensure_future(wait(told)) if told is not None else None
    handled = (signal.SIGINT, signal.SIGTERM) if told is None else ()
    for number in handled:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        if waiting is not None:
            waiting.cancel()
        for number in handled:
            loop.remove_signal_handler(number)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as this process may have: connections and sandboxes each need some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, with a deadline for the headers of a request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade(event)
        self._upgraded = True

    _upgraded = False

    def _watch(self) -> None:
        """Count while headers are awaited; a request that is answered, or has been, has other limits."""
        if self._upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_TIME, self._too_late)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
