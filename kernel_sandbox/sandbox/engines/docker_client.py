"""The one door to docker-py: connects to an engine, and turns its exceptions into ours.

The Docker engine and the image builder use the client that `connect` gives. Where the engine is comes from
DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, then from the Docker CLI's current context; Podman's
socket serves the same API.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator

import docker
import docker.errors
import requests.exceptions

from kernel_sandbox.errors import EngineError, EngineUnavailable, ImageNotFound, SandboxLost
from kernel_sandbox.host import programs
from kernel_sandbox.host.run_directory import exhausted
from kernel_sandbox.sandbox.engines.base import source_missing

API_TIMEOUT = 60
"""Seconds that one API call may take."""

DAEMON_PLACES = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/sbin"
"""Where dockerd is; a user's PATH has not all of them."""
INSTALLATION = "https://docs.docker.com/engine/install/"


@functools.lru_cache(maxsize=8)
def _client(host: str | None, context: str | None, process: int) -> docker.DockerClient:
    """One client per engine and process (a forked child must not share its parent's connections)."""
    with translated_errors():
        if host and "DOCKER_TLS_VERIFY" not in os.environ:
            return docker.DockerClient(base_url=host, version="auto", timeout=API_TIMEOUT, max_pool_size=8)
        return docker.from_env(version="auto", timeout=API_TIMEOUT, max_pool_size=8)


def connect(host: str | None = None) -> docker.DockerClient:
    """Connect to the engine at `host` (a URL), or where the environment says.

    Raises EngineUnavailable when none answers.
    """
    return _client(host or os.environ.get("DOCKER_HOST"), os.environ.get("DOCKER_CONTEXT"), os.getpid())


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what docker-py raises into EngineError and its kin, with the engine's own words."""
    try:
        yield
    except docker.errors.ImageNotFound as exc:
        raise ImageNotFound(str(exc.explanation or exc)) from exc
    except docker.errors.APIError as exc:
        raise EngineError(f"Docker refused: {exc.explanation or exc}") from exc
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as exc:
        if refusal := exhausted(_innermost(exc)):
            raise refusal from exc
        raise _no_answer(exc) from exc


def _no_answer(exc: BaseException) -> EngineUnavailable:
    cause = _root_cause(exc)
    what, remedy = _remedy(cause)
    return EngineUnavailable(f"No Docker engine answers ({cause}). {what} ({remedy}).", remedy=remedy)


def _remedy(cause: str) -> tuple[str, str]:
    """Return what to do, and the command for this user."""
    sudo = "" if os.getuid() == 0 else "sudo "
    if "Permission denied" in cause:
        return "Join the group that may use it", "sudo usermod -aG docker $USER, then log in again"
    if host := os.environ.get("DOCKER_HOST"):
        return "Point DOCKER_HOST at one that runs", f"unset DOCKER_HOST, or correct it: it is {host}"
    if programs.find("dockerd", DAEMON_PLACES) is None:
        return "Install one, or use bubblewrap (--engine bubblewrap)", INSTALLATION
    return "Start it, or point DOCKER_HOST at one that runs", f"{sudo}systemctl start docker"


def _innermost(exc: BaseException) -> BaseException:
    """The reason: docker-py and requests wrap the interesting OSError several times."""
    while (inner := exc.__cause__ or exc.__context__) is not None:
        exc = inner
    return exc


def _root_cause(exc: BaseException) -> str:
    seen = _innermost(exc)
    return str(seen) or type(seen).__name__


def is_gone(exc: EngineError) -> bool:
    """Whether an engine's refusal says that the container is not there."""
    return isinstance(exc.__cause__, docker.errors.NotFound)


def registry_answers(client: docker.DockerClient, image: str, patience: float) -> bool:
    """Whether the registry of an image says anything within `patience` seconds, an error included.

    The engine itself waits for a silent registry for minutes (several attempts, 15 s and more each).
    """
    api = client.api
    try:
        api.get(f"{api.base_url}/v{api.api_version}/distribution/{image}/json", timeout=patience)
    except requests.exceptions.Timeout:
        return False
    except requests.exceptions.RequestException as exc:
        raise _no_answer(exc) from exc
    return True


@contextlib.contextmanager
def start_errors(image: str, runtime: str | None) -> Iterator[None]:
    """Translate the errors of a container that did not start into ones that name what to do."""
    try:
        yield
    except ConnectionError as exc:
        raise SandboxLost(f"The sandbox ended while it started ({exc}).") from exc
    except EngineError as exc:
        text = str(exc)
        if "executable file not found" in text:
            raise EngineError(f"{image!r} has no python3: images/README.md says what an image needs.") from exc
        if "unknown runtime" in text.lower() or "invalid runtime" in text.lower():
            raise EngineError(f"The engine has no runtime {runtime!r}; `docker info` lists what it has.") from exc
        if missing := re.search(r"bind source path does not exist: ([^\n\"]+)", text):
            raise source_missing(missing[1]) from exc
        raise
