"""What a forked kernel does: become an ordinary process, bind its sockets, set the shell up, serve.

Runs in the process that will run the user's code. After `run` has begun there is nothing here to protect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from traitlets.config import Config

from kernel_sandbox.inside import (
    apart,
    application,
    command_line,
    common_memory,
    copying,
    error_notes,
    full_places,
    image_directories,
    leaving,
    missing_packages,
    no_network,
    randomness,
    rehearsal,
    shell,
    streams,
)
from kernel_sandbox.inside.archive import ArchiveFinder
from kernel_sandbox.inside.table_data import send_tables
from kernel_sandbox.inside.widget_text import show_widgets

PR_SET_DUMPABLE = 4
BASE64_KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "audio/", "video/")
STREAM_PIECE = 1024 * 1024
"""Characters of one stream message: what is printed at once goes to the host in pieces."""
OUR_FINDERS = ("SourceFinder", "ArchiveFinder")
"""A kernel has none of its own: the user's files come before the image's modules, as everywhere."""
LONGEST_TEXT, LEAST_TEXT = 100_000, 100
"""Characters of each text in a message that is too large; fewer where it still is."""
MOST_ITEMS = 2000
"""Items of each list in such a message."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def run(request: dict[str, Any]) -> None:
    """Run an ipykernel for the connection file that the request names, until it is told to stop; then end."""
    _become_ordinary(request)
    asyncio.set_event_loop(asyncio.new_event_loop())  # never one that was inherited in a fork
    app: Any = application.IPKernelApp.instance()
    app.update_config(Config({"IPKernelApp": {"connection_file": request["connection_file"]}}))
    # The sockets must be connectable for the host's user, who is another one; their directory is private.
    mask = os.umask(0)
    app.initialize(application.ARGUMENTS)
    os.umask(mask)
    _log_what_is_shown(app)
    missing = missing_packages.MissingPackages(request["missing_packages"])
    missing_packages.judge_commands(app.shell, missing)
    room = functools.partial(full_places.find, notices=request["full_places"])
    error_notes.add(app.shell, room, missing.about_error, no_network.about_error)
    if request["own_session"]:
        _behave_as_a_session(app, int(request["table_rows"]))
    _mend_texts(app.session)
    _keep_outputs_small(app, int(request["largest_output"]))
    shell.register(app.shell, missing.about_command)
    tell_ready = functools.partial(_tell_ready, request["sockets"])
    rehearse = request["untouched"] and request["load_first"] is not None  # nobody waits for such a start
    while True:
        try:
            _serve(app, tell_ready, rehearse=rehearse)
            break
        except copying.Copied as copied:
            order = copied.order
        copying.begin_anew(app, order)
        tell_ready, rehearse = functools.partial(_tell_copied, order["token"]), False
    leaving.finish(app)


def _serve(app: Any, tell_ready: Callable[[], None], *, rehearse: bool) -> None:
    """Serve in this process's own event loop until it is told to stop. Raises Copied in a copy."""
    loop = asyncio.get_event_loop()
    _wake_on_signals()
    streams.take_over(app)
    if rehearse:
        rehearsal.rehearse(app)
    # Told from the loop's first round: by then the kernel has announced that it starts, and a client that connects
    # now gets iopub's welcome before anything else.
    loop.call_soon(tell_ready)
    leaving.end_when_asked(app)
    copying.copy_when_asked(app)
    loop.call_soon(leaving.end_copies, app)
    app.start()


def _tell_copied(token: str) -> None:
    common_memory.tell(1, token=token, pid=os.getpid(), words=application.errors()._fid)


def _tell_ready(sockets: str) -> None:
    try:
        with open(os.path.join(sockets, "ready.new"), "w") as sign:
            sign.write(str(getattr(sys.stderr, "_fid", "")))  # for PID 1, see last_words.py
        os.rename(sign.name, os.path.join(sockets, "ready"))
    except OSError:
        os._exit(1)  # the event loop would only log it, and the host would wait for its patience's end


def _become_ordinary(request: dict[str, Any]) -> None:
    """Undo what the zygote had for its own protection, and enter the cell's world."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # psutil, faulthandler and debuggers read /proc/self
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")  # out of memory must end the kernel, not PID 1, which tells the host
    except OSError:
        pass
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()  # ipykernel interrupts its children with it when it leads its own group
    command_line.show_as("python3", "-m", "ipykernel_launcher")
    os.environ.clear()
    os.environ.update(request["env"])
    apart.become_the_kernels()
    apart.restore_path()
    os.chdir(request["workdir"])
    sys.argv = ["ipykernel_launcher"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "kernel_sandbox"]:
        del sys.modules[name]
    for finder in [finder for finder in sys.meta_path if type(finder).__name__ in OUR_FINDERS]:
        sys.meta_path.remove(finder)
        if isinstance(finder, ArchiveFinder):
            image_directories.find_along_the_path(finder, apart.WRITABLE)
    randomness.renew()


def _log_what_is_shown(app: Any) -> None:
    """Spare each cell four records that no handler takes: traitlets' logger makes them from DEBUG on.

    That logger stays as it is, and shows what comes; this one is nobody's but the kernel's.
    """
    log = logging.Logger(app.log.name, app.log_level)
    log.parent = app.log
    app.kernel.log = log


def _wake_on_signals() -> None:
    """Wake the event loop on signals, so that an interrupt reaches a cell that awaits.

    ipykernel's SIGINT handler schedules the cancellation without waking the event loop (ipykernel issue 881);
    a signal handler of asyncio's own installs the wake-up descriptor for every signal.
    """
    asyncio.get_event_loop().add_signal_handler(signal.SIGUSR2, lambda: None)


def _behave_as_a_session(app: Any, table_rows: int) -> None:
    """Do what a session wants of its kernel; one that Jupyter's front ends use behaves as they know it."""
    _refuse_exit(app.shell)
    _explain_input(app.kernel)
    _forget_outputs(app.shell)
    send_tables(app.shell, table_rows)
    show_widgets(app.shell)


def _refuse_exit(shell: Any) -> None:
    """Make exit() and quit() an error: ending the kernel would silently lose every variable."""

    def ask_exit() -> None:
        raise RuntimeError("exit() does not end this kernel; the session's restart() or close() does.")

    shell.ask_exit = ask_exit


def _explain_input(kernel: Any) -> None:
    """Name the way out where input() is refused."""
    from IPython.core.error import StdinNotImplementedError

    def explained(method: Any) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except StdinNotImplementedError:
                raise StdinNotImplementedError(
                    "input() is refused in this session. Put the value into the cell, "
                    "or give the session an input handler."
                ) from None

        return ask

    kernel.raw_input = explained(kernel.raw_input)
    kernel.getpass = explained(kernel.getpass)


def _forget_outputs(shell: Any) -> None:
    """Keep nothing of what cells showed: IPython 9 keeps all of it, for `%notebook`; here the transcript has it.

    It takes it from the streams, whose `write` it replaces for the time of a cell by one of seven calls.
    """

    class Forgotten(dict):  # type: ignore[type-arg]
        def __missing__(self, count: int) -> list[Any]:
            return []

    shell.history_manager.outputs = Forgotten()
    shell._tee = lambda channel: contextlib.nullcontext()


def _mend_texts(session: Any) -> None:
    """Replace lone surrogates that would cost a message: jupyter_client packs those of file names only."""
    pack = session.pack

    def pack_mended(value: Any) -> Any:
        try:
            return pack(value)
        except ValueError:
            return pack(_mended(value))

    session.pack = pack_mended


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, (list, tuple)) else value


def _keep_outputs_small(app: Any, limit: int) -> None:
    """Send what is large so that the host takes it: streams in pieces, a notice for a display, other texts clipped.

    The host ends a sandbox whose messages are larger than any that come from here.
    """
    session, send = app.session, app.session.send
    notice = f"of more than {limit:,} bytes was not sent: that is the limit]"

    def send_bounded(stream: Any, kind: Any, content: Any = None, parent: Any = None, *rest: Any, **named: Any) -> Any:
        name, body = (kind["msg_type"], kind["content"]) if isinstance(kind, dict) else (kind, content)
        if name == "stream" and len(body["text"]) > STREAM_PIECE:
            text, header = body["text"], parent or kind["parent_header"]
            for start in range(0, len(text), STREAM_PIECE):
                piece = {**body, "text": text[start : start + STREAM_PIECE]}
                sent = send(stream, "stream", piece, header, *rest, **named)
            return sent
        binary = sum(memoryview(buffer).nbytes for buffer in named.get("buffers") or ())
        if binary + _at_most(body) > limit and binary + len(session.pack(body)) > limit:
            if name.startswith("comm_"):
                return send(stream, "stream", {"name": "stderr", "text": f"[a widget's message {notice}\n"}, parent)
            if name in ("display_data", "execute_result", "update_display_data"):
                body["data"], body["metadata"] = {"text/plain": f"[an output {notice}"}, {}
            else:
                _clip(body, limit, session.pack)
        return send(stream, kind, content, parent, *rest, **named)

    session.send = send_bounded


def _clip(body: Any, limit: int, pack: Any) -> None:
    """Shorten the texts and lists of a message until it fits: an error, a prompt, a page, a cell that is echoed."""
    most = LONGEST_TEXT
    clipped = _clipped(body, most)
    while most > LEAST_TEXT and len(pack(clipped)) > limit:
        most //= 10
        clipped = _clipped(body, most)
    body.update(clipped)


def _clipped(value: Any, most: int) -> Any:
    if isinstance(value, str) and len(value) > most:
        half = most // 2
        return f"{value[:half]}\n[{len(value) - 2 * half:,} characters cut here]\n{value[-half:]}"
    if isinstance(value, dict):
        return {name: _clipped(item, most) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        half = MOST_ITEMS // 2
        return [_clipped(item, most) for item in (value if len(value) <= 2 * half else [*value[:half], *value[-half:]])]
    return value


def _at_most(body: Any) -> int:
    """Bound the bytes that JSON takes for a message, without writing it: base64 as it is, text six times."""
    data = body.get("data") if isinstance(body, dict) else None
    bundle = data if isinstance(data, dict) else {}
    base64 = (value for kind, value in bundle.items() if str(kind).startswith(BASE64_KINDS))
    return 6 * _characters(body) - 5 * sum(len(value) for value in base64 if isinstance(value, (str, bytes)))


def _characters(value: Any) -> int:
    """Bound the characters of a value in JSON by a sixth at least: a comma or a brace counts, too."""
    if isinstance(value, (str, bytes)):
        return len(value) + 1
    if isinstance(value, dict):
        return 1 + sum(_characters(name) + _characters(item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_characters, value))
    return 8 + value.bit_length() // 3 if isinstance(value, int) else 8
