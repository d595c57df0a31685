"""The engines by name. A session names one, and never imports it.

base                what an engine is, and what it knows of a sandbox
choice              which engine a sandbox is started with, and why
all_engines         one question to every engine, for what is about all of them
image_names         the images that this package makes: names, folders, locks

docker              one locked-down container per sandbox
docker_client       the only module that imports docker-py
docker_host         what Docker has no option for, and root adds; `docker_mounts` what a container sees of the host
docker_findings     what `doctor` says of a Docker engine
attached            the connection of an attach call as a plain socket

bubblewrap          one locked-down process tree per sandbox, without a daemon
bubblewrap_host     what is wrong with this machine for it
bubblewrap_profile  the profile as its command line
bubblewrap_template a process with an image's modules, from which sandboxes fork; `bubblewrap_shelf` which there are
bubblewrap_forked   such a sandbox, as asyncio shows a process; `bubblewrap_newborn` what the kernel says of it
environments        where its file systems come from
registry            which sandboxes there are, without a daemon that could be asked

seccomp             the system calls that a sandbox may make: `system_calls`, `call_arguments`
masked_paths        what of /proc and /sys tells about the host
control_groups      a control group per sandbox; `scopes` where systemd owns them
"""

from __future__ import annotations

from functools import lru_cache

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.base import Engine
from kernel_sandbox.text.spelling import did_you_mean

NAMES = ("docker", "bubblewrap")


@lru_cache
def get_engine(name: str) -> Engine:
    """Return the engine of this name, the same one each time. Raises EngineError for an unknown name."""
    if name == "docker":
        from kernel_sandbox.sandbox.engines.docker import DockerEngine

        return DockerEngine()
    if name == "bubblewrap":
        from kernel_sandbox.sandbox.engines.bubblewrap import BubblewrapEngine

        return BubblewrapEngine()
    raise EngineError(f"There is no engine named {name!r}.{did_you_mean(name, NAMES)} Choose {' or '.join(NAMES)}.")
