"""The sandbox in which pip resolves and downloads: it has a network, sees what it is given of this machine's files, and
runs nothing that a package brings (`inside/package_fetcher.py`).

One for each engine, with the image that is built upon as its root, so that pip sees what is there and for which machine
it chooses. `package_fetch.py` runs it. Only packages of this project's own locks are in that root.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines.docker_client import translated_errors
from kernel_sandbox.setup.build_sandbox import PYTHON
from kernel_sandbox.setup.image_builder import build_context
from kernel_sandbox.setup.killed_builds import labels
from kernel_sandbox.setup.pip_settings import PipSettings
from kernel_sandbox.setup.wheels import cache_directory

if TYPE_CHECKING:
    import docker

FETCHER = Path(__file__).parents[1] / "inside" / "package_fetcher.py"
GIVEN, SCRATCH = "/given", "/scratch"
CONFIG = f"{GIVEN}/config.json"
"""A file, as one argument of a program has 128 KB at most (execve(2)), and a large lock has more."""
CACHE = "/cache"
"""Of pip's own downloads; it may be deleted at any time. Only pip writes there."""
CACHE_VOLUME = "kernel-sandbox-pip-cache"
MOST_BYTES = 8 * 1024**3
"""Of all packages of an image together."""
CHUNK = 1024 * 1024
LONGEST_LINE = 500
_NETWORK_FILES = ("resolv.conf", "hosts")
OnLine = Callable[[str], None]


class FetchSandbox(Protocol):
    """Runs the fetcher once."""

    def run(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Path],
        settings: PipSettings,
        answer: IO[bytes],
        on_line: OnLine,
    ) -> None:
        """Write its standard output to `answer`, and give each line of standard error to `on_line`.

        `given` says which file of the host has which name below GIVEN. Raises EngineError where it cannot run.
        """


def _variables(settings: PipSettings) -> dict[str, str]:
    variables = {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    if settings.certificates:
        variables |= {"PIP_CERT": f"{GIVEN}/certificates.pem", "SSL_CERT_FILE": f"{GIVEN}/certificates.pem"}
    return variables | settings.variables


@dataclass(frozen=True, slots=True)
class BubblewrapFetch:
    """In an environment of bubblewrap."""

    root: Path
    scratch: Path
    """An empty directory of the host, for downloads under way."""

    def run(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Path],
        settings: PipSettings,
        answer: IO[bytes],
        on_line: OnLine,
    ) -> None:
        """See FetchSandbox."""
        (self.scratch / "certificates.pem").write_bytes(settings.certificates)
        (self.scratch / "config.json").write_text(json.dumps(config))
        options = [*self._walls(settings.places), "--bind", str(self.scratch), SCRATCH]
        cache = cache_directory() / "http"
        cache.mkdir(parents=True, exist_ok=True)
        options += ["--bind", str(cache), CACHE]
        shown = {**given, **{name: self.scratch / name for name in ("certificates.pem", "config.json")}}
        for name, path in shown.items():
            options += ["--ro-bind", str(path), f"{GIVEN}/{name}"]
        for name, value in _variables(settings).items():
            options += ["--setenv", name, value]
        program = [PYTHON, "-I", "-c", FETCHER.read_text(), CONFIG]
        with _started(options, program) as process:
            listener = threading.Thread(target=_listen, args=(process.stderr, on_line), daemon=True)
            listener.start()
            try:
                assert process.stdout is not None
                _copy(process.stdout, answer)
                process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                listener.join(timeout=5)

    def _walls(self, places: tuple[Path, ...]) -> list[str]:
        """Return bubblewrap's options: the environment's files, and what settings name, in a root of their own."""
        walls = "--unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --new-session --die-with-parent"
        line = [*walls.split(), "--cap-drop", "ALL", "--clearenv", "--proc", "/proc", "--tmpfs", "/dev"]
        for device in ("null", "zero", "urandom"):
            line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        line += ["--tmpfs", "/dev/shm", "--tmpfs", "/tmp"]
        for path in self._shown():
            inside = f"/{path.relative_to(self.root)}"
            if path.is_symlink():
                line += ["--symlink", str(path.readlink()), inside]
            else:
                line += ["--ro-bind", str(path), inside]
        for name in _NETWORK_FILES:
            line += ["--ro-bind-try", str(Path("/etc", name).resolve()), f"/etc/{name}"]
        for place in places:
            if any(place.is_relative_to(f"/{path.relative_to(self.root)}") for path in self._shown()):
                raise EngineError(
                    f"pip's settings name {place}, where a sandbox has files of its own: put it elsewhere."
                )
            line += ["--ro-bind", str(place), str(place)]
        return line

    def _shown(self) -> list[Path]:
        """List what is to be seen of the environment: directories in which there may be others are made anew."""
        shown = []
        for path in sorted(self.root.iterdir()):
            if path.name in ("etc", "opt", "usr", "var", "home") and not path.is_symlink():
                shown += sorted(path.iterdir())
            elif path.name not in ("dev", "mnt", "proc", "run", "sys", "tmp"):
                shown.append(path)
        return [path for path in shown if path.parent.name != "etc" or path.name not in _NETWORK_FILES]


@contextlib.contextmanager
def _started(options: list[str], program: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with bubblewrap's options in a file: everybody reads command lines, and these hold passwords."""
    with os.fdopen(os.memfd_create("options"), "wb") as file:
        file.write("\0".join(options).encode(errors="surrogateescape"))
        file.flush()
        file.seek(0)
        command = ["bwrap", "--args", str(file.fileno()), "--", *program]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pipes |= {"pass_fds": (file.fileno(),), "start_new_session": True}
        with subprocess.Popen(command, **pipes, env=programs.environment()) as process:
            yield process


def _listen(stream: IO[bytes], on_line: OnLine) -> None:
    while line := stream.readline(64 * 1024):
        on_line(line.decode(errors="replace").rstrip()[:LONGEST_LINE])


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy to the end. Raises EngineError for more than packages may have."""
    copied = 0
    while chunk := source.read1(CHUNK):  # type: ignore[attr-defined]
        copied += len(chunk)
        _require_bounded(copied)
        target.write(chunk)


def _require_bounded(size: int) -> None:
    if size > MOST_BYTES:
        raise EngineError(f"The packages have more than {MOST_BYTES // 1024**3} GB: too much for an image.")


@dataclass(frozen=True, slots=True)
class ContainerFetch:
    """In a container of a Docker engine, perhaps on another machine."""

    client: docker.DockerClient
    image: str

    def run(
        self,
        config: Mapping[str, Any],
        given: Mapping[str, Path],
        settings: PipSettings,
        answer: IO[bytes],
        on_line: OnLine,
    ) -> None:
        """See FetchSandbox."""
        api = self.client.api
        here = api.base_url.startswith("http+docker://localhost")
        if settings.places and not here:
            raise EngineError(
                f"The engine is on another machine, which has no {settings.places[0]}: pip's settings name it."
            )
        binds: dict[str, Any] = {str(place): {"bind": str(place), "mode": "ro"} for place in settings.places}
        host = api.create_host_config(
            network_mode="host" if here else "bridge",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            binds=binds | {CACHE_VOLUME: {"bind": CACHE, "mode": "rw"}},
            mem_limit="4g",
            pids_limit=256,
        )
        host["LogConfig"] = {"Type": "none"}
        command = ["-I", "-c", FETCHER.read_text(), CONFIG]
        with translated_errors():
            container = api.create_container(
                self.image,
                entrypoint=[PYTHON],
                command=command,
                user="0:0",
                working_dir=SCRATCH,  # which makes the directory
                environment=_variables(settings),
                host_config=host,
                labels=labels("fetch"),
                use_config_proxy=False,
            )["Id"]
        try:
            with translated_errors():
                with _archive(given, settings.certificates, config) as archive:
                    api.put_archive(container, "/", archive)
                events = api.attach(container, stdout=True, stderr=True, stream=True, demux=True)
                api.start(container)
                _take(events, answer, on_line)
        finally:
            with contextlib.suppress(EngineError), translated_errors():
                api.remove_container(container, force=True)


def _take(events: Any, answer: IO[bytes], on_line: OnLine) -> None:
    copied, said = 0, b""
    for out, err in events:
        copied += len(out or b"")
        _require_bounded(copied)
        answer.write(out or b"")
        *lines, said = (said + (err or b"")).split(b"\n")
        for line in lines:
            on_line(line.decode(errors="replace").rstrip()[:LONGEST_LINE])
        said = said[-LONGEST_LINE:]


def _archive(
    given: Mapping[str, Path], certificates: bytes, config: Mapping[str, Any]
) -> AbstractContextManager[IO[bytes]]:
    """Give what the container gets, as the tar archive in which the engine takes it."""
    files: dict[str, Path | bytes] = {**given, "certificates.pem": certificates}
    files["config.json"] = json.dumps(config).encode()
    each = (below for name, content in files.items() for below in _below(name, content))
    return build_context({f"{GIVEN.lstrip('/')}/{inside}": content for inside, content in each})


def _below(name: str, content: Path | bytes) -> list[tuple[str, Path | bytes]]:
    if isinstance(content, bytes) or not content.is_dir():
        return [(name, content)]
    return [(f"{name}/{path.name}", path) for path in sorted(content.iterdir())]
