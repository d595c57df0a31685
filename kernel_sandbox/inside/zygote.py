"""A process that has imported ipykernel, and forks a kernel from itself whenever PID 1 asks.

The fork saves the import (200 ms) at every start. Where a sandbox's kernel has been restarted, it will be again: from
then on what the image declares as preload modules is imported here too, for the kernels to come. Before that it would
be there twice, here and in the kernel, for nobody. Where the host asks for it, they come before the first fork, and
all kernels share them (a pool does, where nobody waits for a start). PID 1
forks this process before it does anything else, so it holds no thread, no zmq context and no event loop (application.py
keeps to that): a fork from it is safe. It is not dumpable: code of the same user in the sandbox cannot trace it or
write to its memory (prctl(2), PR_SET_DUMPABLE), only kill it, and then PID 1 starts another.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from kernel_sandbox.inside import apart, archive, common_memory

MESSAGE_LIMIT = 256 * 1024
NEVER_AHEAD = ("polars",)
"""Modules that start threads when they are imported, and wait for them for ever in a process that was forked."""
PATIENCE = 2.0
"""Seconds without a request before the next module is imported ahead of its need."""


def start() -> tuple[int, socket.socket]:
    """Fork a zygote from this process and return its process id and the socket that asks it for kernels."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            # A zygote that replaces another one is forked from under PID 1's event loop.
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            close_descriptors(keep=theirs.fileno())
            _serve(theirs)
        finally:
            os._exit(1)
    theirs.close()
    return pid, ours


def close_descriptors(keep: int) -> None:
    """Close all inherited descriptors but one: PID 1's stream to the host above all."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own descriptor
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def load_all(workdir: str, modules: list[str]) -> str | None:
    """Import in a template what a zygote imports; return why there can be no kernels, or None."""
    _use_archive()
    gc.disable()
    if missing := _import_kernel():
        return missing
    sys.modules["kernel_sandbox.inside.application"].prepare(workdir)
    for name in modules:
        _import(name)  # as among cells, since nothing that a library notes of this place is so in a sandbox
    return None


def _serve(control: socket.socket) -> None:
    gc.disable()  # imports make many objects and free few: collecting between them takes a sixth of their time
    prepared, missing = "kernel_sandbox.inside.application" in sys.modules, None  # in a template, by load_all
    if not prepared:
        _use_archive()
        missing = _import_kernel()
    waiting: list[str] = []
    forked = False
    while True:
        # Not at once: the first kernel that starts now needs the processor.
        if waiting and not select.select([control], [], [], PATIENCE)[0]:
            _import(waiting.pop(0))
            continue
        message = control.recv(MESSAGE_LIMIT)
        if not message:
            os._exit(0)
        if missing is not None:
            control.send(json.dumps({"error": missing}).encode())
            continue
        request = json.loads(message)
        if not forked:
            # Libraries read their settings when they are imported: matplotlib its backend, OpenBLAS its threads.
            os.environ.clear()
            os.environ.update(request["env"])
            if not prepared:
                sys.modules["kernel_sandbox.inside.application"].prepare(request["workdir"])
            forked, asked = True, request["load_first"]
            if asked is not None and (refused := _load(request["preload"], asked, untouched=request["untouched"])):
                control.send(json.dumps({"refused": refused}).encode())
                continue
        if not request["untouched"]:
            waiting = [name for name in request["preload"] if name not in sys.modules]
        gc.freeze()  # what is there will not be freed: a collection in a kernel would only unshare its pages
        control.send(json.dumps({"pid": _fork_kernel(request, control)}).encode())


def _use_archive() -> None:
    """Import the image's modules from its archive, where it has one."""
    try:
        sys.meta_path.insert(0, archive.ArchiveFinder(archive.PLACE))
    except (OSError, ValueError):
        pass


def _import_kernel() -> str | None:
    """Import what a kernel runs; return why that cannot be, or None."""
    for name in ("application", "kernel"):
        if missing := _import(f"kernel_sandbox.inside.{name}", untouched=True):
            return missing
    return None


def _load(waiting: list[str], asked: list[str], *, untouched: bool) -> str | None:
    """Import all now, so that kernels share it; return why a module that the host asked for cannot be, or None.

    A zygote that replaces another does without what it cannot import apart from cells.
    """
    while waiting:
        _import(waiting.pop(0), untouched=untouched)
    for name in asked:
        if (why := _import(name, untouched=untouched)) and untouched:
            return f"{name} cannot be loaded ({why})"
    return None


def _import(name: str, *, untouched: bool = False) -> str | None:
    """Import a module of the image; return why it failed, or None. `untouched` means that no cell has run yet."""
    if name.partition(".")[0] in NEVER_AHEAD:
        return "it would wait for ever in a kernel that was forked after its import"
    application = sys.modules.get("kernel_sandbox.inside.application")
    try:
        world = contextlib.nullcontext() if untouched else apart.from_cells()
        with world, application.as_in_a_cell() if application else contextlib.nullcontext():
            importlib.import_module(name)
    except Exception as exc:  # noqa: BLE001 - an image's module may raise anything, and must not end the zygote
        return f"{type(exc).__name__}: {exc}"
    return None


def _fork_kernel(request: dict[str, Any], control: socket.socket) -> int:
    """Fork twice, so that the kernel becomes a child of PID 1, which alone learns how it ends."""
    reader, writer = os.pipe()
    intermediate = os.fork()
    if intermediate:
        os.close(writer)
        pid = int(os.read(reader, 32) or b"0")
        os.close(reader)
        os.waitpid(intermediate, 0)
        return pid
    try:
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        os.close(reader)
        os.close(writer)
        control.close()
        from kernel_sandbox.inside import kernel

        common_memory.use(request["slot"])
        gc.enable()
        kernel.run(request)
    except SystemExit:
        pass
    except Exception:  # noqa: BLE001 - where the kernel cannot even start, PID 1 tells why
        common_memory.keep_words(traceback.format_exc().encode("utf-8", "replace"))
    finally:
        _flush()
        os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
