"""The connection of an attach call, as a plain socket that an event loop can take over.

docker-py gives back whatever carries its HTTP: a unix or TCP socket, which is one already; a TLS socket; or an SSH
channel. For the latter two a thread or two carry the bytes to and from one end of a socket pair.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kernel_sandbox.host.forks import making, own

CHUNK = 256 * 1024


def attach(api: Any, container: str) -> socket.socket:
    """Attach to a container's standard streams; a child that is forked meanwhile gets nothing of it."""
    with making():
        return plain_socket(api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}))


def plain_socket(attached: Any) -> socket.socket:
    """Return a plain socket that carries what `attached` does; `attached` is used up."""
    inner = getattr(attached, "_sock", attached)
    if type(inner) is socket.socket:
        plain = own(inner.dup())
        if (response := getattr(attached, "_response", None)) is not None:
            response.close()  # before its socket, or its own end would fail, of which Python tells since 3.13
        attached.close()
        inner.close()
        return plain
    ours, theirs = map(own, socket.socketpair())
    for carrier in _carriers(inner):
        own(carrier)
    if isinstance(inner, ssl.SSLSocket):
        _in_thread(_carry_tls, inner, theirs)
    else:
        _in_thread(_carry, inner.recv, theirs.sendall, theirs)
        _in_thread(_carry, theirs.recv, inner.sendall, inner)
    return ours


def _carriers(inner: Any) -> Iterator[Any]:
    """Yield what has the descriptors below a TLS socket or an SSH channel: docker-py's own client's, or paramiko's."""
    if isinstance(inner, ssl.SSLSocket):
        yield inner
    process = getattr(inner, "proc", None)
    yield from (stream for stream in (getattr(process, "stdin", None), getattr(process, "stdout", None)) if stream)
    if (carried := getattr(getattr(inner, "transport", None), "sock", None)) is not None:
        yield carried


def _in_thread(function: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=function, args=args, name="kernel-sandbox-attach", daemon=True).start()


def _carry(read: Callable[[int], bytes], write: Callable[[bytes], Any], sink: Any) -> None:
    with contextlib.suppress(OSError, ValueError):
        while chunk := read(CHUNK):
            write(chunk)
    with contextlib.suppress(OSError):
        sink.close()


class _Response:
    """The HTTP response that docker-py hangs on a TLS socket; the socket is only closed together with it."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls

    def close(self) -> None:
        response = getattr(self._tls, "_response", None)
        if response is not None:
            response.close()
        self._tls.close()


def _carry_tls(tls: ssl.SSLSocket, plain: socket.socket) -> None:
    """Carry both ways in one thread: OpenSSL does not allow a read and a write of one connection at the same time."""
    tls.setblocking(False)
    with contextlib.suppress(OSError, ValueError), contextlib.closing(_Response(tls)), plain:
        while True:
            readable = [tls] if tls.pending() else select.select([tls, plain], [], [])[0]
            if tls in readable:
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    chunk = tls.recv(CHUNK)
                    if not chunk:
                        return
                    plain.sendall(chunk)
            if plain in readable:
                chunk = plain.recv(CHUNK)
                if not chunk:
                    return
                _send_tls(tls, memoryview(chunk))


def _send_tls(tls: ssl.SSLSocket, data: memoryview) -> None:
    while data:
        try:
            data = data[tls.send(data) :]
        except ssl.SSLWantWriteError:
            select.select([], [tls], [])
        except ssl.SSLWantReadError:
            select.select([tls], [], [])
