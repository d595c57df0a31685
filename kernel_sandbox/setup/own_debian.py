"""Packages of Debian for a container image of one's own, from the mirror that this machine's apt uses.

apt verifies Debian's signatures, and runs in a container of the base: what packages run when they are installed sees
nothing of the host. The mirror's address, which may hold a password, is in no layer and no history of the image.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.docker_client import translated_errors
from kernel_sandbox.setup.debian_root import KEYRING, SUITE, debian_mirror
from kernel_sandbox.setup.image_builder import build_context
from kernel_sandbox.setup.killed_builds import labels
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.text.characters import visible

if TYPE_CHECKING:
    import docker

STAGE = "Debian's packages"
SCRIPT = """
set -eu
sources=/tmp/kernel-sandbox.list
trap 'rm -rf "$sources" /var/lib/apt/lists/* /var/cache/apt/*.bin' EXIT
if ls /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list >/dev/null 2>&1; then
    options=
else
    options="-o Dir::Etc::sourcelist=$sources"
fi
export DEBIAN_FRONTEND=noninteractive
mkdir -p /usr/share/man/man1 # where some packages link their manuals, and fail without it
apt-get $options -q update
apt-get $options -q -y --no-install-recommends install "$@"
apt-get clean
find / -xdev -perm /6000 ! -type l -exec chmod a-s '{}' +
"""


@contextlib.contextmanager
def equipped(client: docker.DockerClient, base: str, packages: Sequence[str], report: Report) -> Iterator[str]:
    """Give the id of an image like `base` with Debian's packages installed. Raises EngineError where that fails."""
    if not packages:
        yield base
        return
    report(Progress(STAGE, " ".join(packages)))
    image = _install(client, base, packages, report)
    try:
        yield image
    finally:
        with contextlib.suppress(EngineError), translated_errors():
            client.api.remove_image(image)  # the engine keeps it while another is built on it


def _install(client: docker.DockerClient, base: str, packages: Sequence[str], report: Report) -> str:
    api = client.api
    with translated_errors():
        before = client.images.get(base).attrs["Config"]
        container = api.create_container(
            base,
            entrypoint=["/bin/sh", "-c", SCRIPT, "sh"],
            command=list(packages),
            user="0:0",
            host_config=api.create_host_config(mem_limit="4g", pids_limit=512, network_mode=_network(api)),
            labels=labels("apt"),
            environment={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )["Id"]
    try:
        with translated_errors():
            with build_context({"kernel-sandbox.list": _sources()}) as archive:
                api.put_archive(container, "/tmp", archive)
            stream = api.attach(container, stdout=True, stderr=True, stream=True)
            api.start(container)
            last = _follow(stream, report)
            status = api.wait(container)["StatusCode"]
        if status:
            said = "\n".join(last)
            raise EngineError(f"Debian's packages could not be installed ({' '.join(packages)}):\n{said}")
        with translated_errors():
            kept = {name: before.get(name) for name in ("Cmd", "Entrypoint", "User", "Env", "Labels", "WorkingDir")}
            return str(api.commit(container, conf=kept)["Id"])
    finally:
        with contextlib.suppress(EngineError), translated_errors():
            api.remove_container(container, force=True)


def _network(api: Any) -> str:
    """The engine of this machine reaches what the machine reaches, proxies on its loopback included."""
    return "host" if api.base_url.startswith("http+docker://localhost") else "bridge"


def _follow(stream: Any, report: Report) -> deque[str]:
    last: deque[str] = deque(maxlen=6)
    rest = b""
    for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-500:]
        for line in lines:
            text = visible(line.decode(errors="replace").strip())[:200]
            if text:
                last.append(text)
                report(Progress(STAGE, text, done=0))
    return last


def _sources() -> bytes:
    """Return a list of Debian's archives, for an image that has none."""
    mirror = debian_mirror() or "http://deb.debian.org/debian"
    lines = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in (SUITE, f"{SUITE}-updates")]
    return "".join(lines).encode()
