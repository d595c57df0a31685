"""`%%shell`: a cell that is a shell command. Part of the kernel; nothing but the standard library.

The command runs beside the cells: in the kernel's working directory and environment, without touching a variable.
What it writes is shown as it comes; its exit status is shown last, as data that the host reads
(session/shell_commands.py).
"""

from __future__ import annotations

import array
import codecs
import errno
import fcntl
import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from typing import Any

EXIT_TYPE = "application/vnd.kernel-sandbox.exit+json"
LONGEST_ARGUMENT = 100_000
"""Bytes of one argument that Linux takes for certain (MAX_ARG_STRLEN is 128 KB); a longer command is a file."""
PIECE = 64 * 1024
TIMED_OUT, NOT_STARTED, NOT_FOUND = 124, 126, 127
"""Exit statuses, as timeout(1) and the shells have them."""


def register(shell: Any, advice: Callable[[str], str | None]) -> None:
    """Give an IPython shell the cell magic. `advice` is what is said of a command that failed, if anything."""

    def magic(line: str, cell: str) -> None:
        timeout, kind = _options(line)
        argv = json.loads(cell) if kind == "argv" else None
        status = Command(cell, kind, argv).run(timeout)
        if status and (said := advice(" ".join(argv) if argv else cell)):
            print(said, file=sys.stderr)
        text = f"[exit status {status}]" if status else ""
        shell.display_pub.publish({"text/plain": text, EXIT_TYPE: {"exit_status": status}})

    magic.__doc__ = "Run a shell command: `%%shell [--timeout SECONDS] [--sh | --argv]` (--argv: a JSON list of words)."
    shell.register_magic_function(magic, "cell", "shell")


def _options(line: str) -> tuple[float | None, str]:
    """Read the magic's line: the time-out, and "bash", "sh" or "argv"."""
    timeout, kind = None, "bash"
    words = iter(shlex.split(line))
    for word in words:
        if word == "--timeout":
            timeout = float(next(words, "nan"))
            if not timeout > 0:
                raise ValueError("--timeout: give seconds above 0.")
        elif word in ("--sh", "--argv"):
            kind = word[2:]
        else:
            raise ValueError(f"{word}: %%shell takes --timeout SECONDS, --sh and --argv.")
    return timeout, kind


class Command:
    """One command: its process group, and its two streams."""

    def __init__(self, text: str, kind: str, argv: list[str] | None) -> None:
        self._text, self._kind, self._argv = text, kind, argv
        self._decoders: dict[int, Any] = {}
        self._streams: dict[int, str] = {}

    def run(self, timeout: float | None) -> int:
        """Run it to its end and return the exit status; 128 and the number for a signal."""
        with tempfile.TemporaryFile() as script:
            try:
                process = self._start(script)
            except OSError as exc:
                print(f"{(self._argv or ['the shell'])[0]}: {exc.strerror or exc}", file=sys.stderr)
                return NOT_FOUND if exc.errno == errno.ENOENT else NOT_STARTED
            try:
                in_time = self._follow(process, timeout)
            finally:  # an interrupt, too, ends the whole group
                if process.poll() is None:
                    _kill_group(process.pid)
                    process.wait()
                self._close(process)
        if not in_time:
            print(f"[kernel-sandbox: the command ran longer than {timeout:g} s and was killed]", file=sys.stderr)
            return TIMED_OUT
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _start(self, script: Any) -> subprocess.Popen[bytes]:
        argv, kept = self._argv, list[int]()
        if argv is None:
            program = "bash" if self._kind == "bash" and shutil.which("bash") else "sh"
            command = self._text.encode("utf-8", "replace")
            if len(command) <= LONGEST_ARGUMENT:
                argv = [program, "-c", self._text]
            else:
                script.write(command)
                script.flush()
                argv, kept = [program, f"/proc/self/fd/{script.fileno()}"], [script.fileno()]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True, pass_fds=kept
        )

    def _follow(self, process: subprocess.Popen[bytes], timeout: float | None) -> bool:
        """Show what it writes until it ends. Returns False when its time was over before."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for stream, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
                assert stream is not None
                self._streams[stream.fileno()] = name
                self._decoders[stream.fileno()] = codecs.getincrementaldecoder("utf-8")("replace")
                selector.register(stream.fileno(), selectors.EVENT_READ)
            ended = os.pidfd_open(process.pid)
            selector.register(ended, selectors.EVENT_READ)
            try:
                return self._select(process, selector, ended, deadline)
            finally:
                os.close(ended)

    def _select(self, process: Any, selector: Any, ended: int, deadline: float | None) -> bool:
        in_time = True
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                in_time, deadline = False, None
                _kill_group(process.pid)
                continue
            ready = [key.fd for key, _ in selector.select(left)]
            if ended in ready:
                process.wait()
                self._drain()
                return in_time
            for descriptor in ready:
                if not self._show(descriptor, PIECE):
                    selector.unregister(descriptor)

    def _drain(self) -> None:
        """Show what the pipes hold now: all that it wrote. Its background processes may keep them open."""
        for descriptor in self._streams:
            waiting = array.array("i", [0])
            fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
            while waiting[0] > 0 and (size := self._show(descriptor, min(PIECE, waiting[0]))):
                waiting[0] -= size
            self._write(descriptor, self._decoders[descriptor].decode(b"", final=True))

    def _show(self, descriptor: int, size: int) -> int:
        data = os.read(descriptor, size)
        self._write(descriptor, self._decoders[descriptor].decode(data))
        return len(data)

    def _write(self, descriptor: int, text: str) -> None:
        if text:
            (sys.stdout if self._streams[descriptor] == "stdout" else sys.stderr).write(text)

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
