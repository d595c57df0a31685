"""One image build in the engine: the context goes in, each step is reported, and what is left over is removed.

It speaks the classic builder's protocol, which every Docker engine has without buildx. `docker_images.build` decides
what is built from what; here is only the build itself.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import tempfile
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.docker_client import translated_errors
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.text.ansi import remove_ansi

if TYPE_CHECKING:
    import docker

STAGE = "build"
STEP_WIDTH = 90
NOTHING: Mapping[str, str] = MappingProxyType({})
END_PATIENCE = 20
"""Seconds in which an engine must have removed the container of a build that was given up."""


@contextlib.contextmanager
def build_context(files: Mapping[str, Path | bytes]) -> Iterator[IO[bytes]]:
    """Give the build context as a tar archive in a temporary file; `files` maps names in it to what they hold.

    Times, owners and modes are the same every time, so that the engine's layer cache sees only contents.
    """
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in sorted(files.items()):
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                    member = tarfile.TarInfo(name)
                    member.size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    tar.addfile(member, source)
        archive.seek(0)
        yield archive


def run_build(
    client: docker.DockerClient,
    context: IO[bytes],
    *,
    tag: str,
    base: str,
    more: Mapping[str, str] = NOTHING,
    tools: Sequence[str] = (),
    labels: Mapping[str, str],
    report: Report,
) -> str:
    """Build the context's Dockerfile on the image `base`, tag the result, and return its id.

    `more` are arguments of the Dockerfile's besides. No step has a network, unless `tools` names packages of Debian to
    install. Raises EngineError with the last lines of a step that fails. Whatever the end, Ctrl-C included, the engine
    keeps no container of the build and no untagged image, with one exception: an engine does not break a COPY off, and
    keeps its image when Ctrl-C came during one (the next `docker_images.build` removes it).
    """
    options: dict[str, Any] = {"fileobj": context, "custom_context": True, "labels": dict(labels)}
    options["buildargs"] = {"BASE": base, **more} | ({"TOOLS": " ".join(tools)} if tools else {})
    return _build(client, options | {"network_mode": None if tools else "none"}, tag, report)


def build_directory(
    client: docker.DockerClient, dockerfile: Path, *, tag: str, labels: Mapping[str, str], report: Report
) -> str:
    """Build a user's own Dockerfile, with what lies beside it, as `docker build` does; return the image's id."""
    options = {"path": str(dockerfile.parent.absolute()), "dockerfile": dockerfile.name, "labels": dict(labels)}
    return _build(client, options, tag, report)


def _build(client: docker.DockerClient, options: Mapping[str, Any], tag: str, report: Report) -> str:
    log = BuildLog(report)
    try:
        with translated_errors():
            events = client.api.build(tag=tag, rm=True, forcerm=True, decode=True, **options)
            with contextlib.closing(events):
                for event in events:
                    log.take(event)
    except BaseException as exc:
        # The engine gives a build up when its connection closes; frames of the traceback hold that open.
        traceback.clear_frames(exc.__traceback__)
        _await_end(client, log.container)
        raise
    finally:
        remove_untagged(client, reversed(log.images))
    built = _image_id(client, tag)
    if built is None:
        raise EngineError(f"Docker ended the build without an image {tag}:\n{log.tail()}")
    return built


class BuildLog:
    """What a build has said so far, read from the engine's event stream."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.images: list[str] = []
        """The image of every step, in order."""
        self.container: str | None = None
        """The container of the step that ran last."""
        self._lines: deque[str] = deque(maxlen=15)
        self._step, self._done, self._total = "", 0, 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Read one event. Raises EngineError when it says that the build failed."""
        if "error" in event:
            raise EngineError(f"The build failed at {self._step or 'its start'}: {self.tail()}\n{event['error']}")
        for line in str(event.get("stream", "")).splitlines():
            if text := remove_ansi(line).strip():
                self._read(text)

    def tail(self) -> str:
        return "\n".join(self._lines)

    def _read(self, line: str) -> None:
        if match := re.match(r"Step (\d+)/(\d+) : (.*)", line, re.DOTALL):
            self._done, self._total = int(match[1]), int(match[2])
            self._step = " ".join(match[3].split())[:STEP_WIDTH]
            self._lines.clear()
            self.report(Progress(STAGE, self._step, self._done, self._total))
        elif match := re.match(r"---> Running in ([0-9a-f]+)$", line):
            self.container = match[1]
        elif match := re.match(r"---> ([0-9a-f]+)$", line):
            self.images.append(match[1])
        elif not line.startswith(("--->", "Removing intermediate container")):
            self._lines.append(line)
            self.report(Progress(STAGE, line, self._done, self._total))


def _image_id(client: docker.DockerClient, name: str) -> str | None:
    with contextlib.suppress(EngineError), translated_errors():
        return client.images.get(name).id
    return None


def _await_end(client: docker.DockerClient, container: str | None) -> None:
    """Wait until the engine has removed the container of a build that was given up; its image is in use till then."""
    if container is not None:
        with contextlib.suppress(EngineError), translated_errors():
            client.api.wait(container, timeout=END_PATIENCE, condition="removed")


def remove_untagged(client: docker.DockerClient, images: Iterable[str]) -> None:
    """Remove those of the images that no tag, no other image and no container needs.

    The engine refuses to remove an image that another is built on, or that a container uses; that is relied on.
    """
    for image in images:
        with contextlib.suppress(EngineError), translated_errors():
            if not client.images.get(image).tags:
                client.api.remove_image(image)
