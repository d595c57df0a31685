"""What only the Docker engine does: containers that dead owners left, and what a mount must not do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pytest

from kernel_sandbox import EngineError, Mount, SandboxSpec, Session
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import get_engine
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.conftest import missing


@pytest.fixture(autouse=True)
def engine_is_there() -> None:
    if reason := missing("docker"):
        pytest.skip(reason)


@pytest.fixture
def left_behind() -> Iterator[list[str]]:
    """Removes the containers whose names a test adds."""
    names: list[str] = []
    yield names
    for name in names:
        for container in connect().containers.list(all=True, filters={"name": name}):
            container.remove(force=True)


def leave(name: str, owner: Owner, names: list[str]) -> None:
    labels = {"org.kernel-sandbox.session": name, "org.kernel-sandbox.owner": json.dumps(asdict(owner))}
    connect().api.create_container("kernel-sandbox/python:latest", ["python3"], name=name, labels=labels)
    names.append(name)


def exists(name: str) -> bool:
    return bool(connect().containers.list(all=True, filters={"name": name}))


def test_garbage_is_what_a_dead_process_of_this_machine_owns(left_behind: list[str]) -> None:
    here = Owner.current()
    dead = replace(here, pid=2**22 - 1)  # above any process id that this machine gives out
    kin = {
        "ks-test-dead": dead,
        "ks-test-reused-pid": replace(here, started="1"),
        "ks-test-earlier-boot": replace(here, boot="earlier"),
        "ks-test-alive": here,
        "ks-test-other-machine": replace(dead, machine="elsewhere"),
        "ks-test-other-container": replace(dead, namespace="pid:[1]"),
    }
    for name, owner in kin.items():
        leave(name, owner, left_behind)
    assert portal().call(get_engine("docker").collect_garbage) >= 3
    assert [name for name in kin if exists(name)] == [
        "ks-test-alive",
        "ks-test-other-machine",
        "ks-test-other-container",
    ]


def test_mount_of_a_missing_source_is_refused_and_makes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "missing"
    spec = SandboxSpec(image="python", mounts=(Mount(source, "data"),))
    with pytest.raises(EngineError, match=r"mount's source .* is not on the engine's machine"), Session(spec=spec):
        pass
    assert not source.exists()


def test_cpus_are_held_to_what_the_machine_has() -> None:
    from kernel_sandbox import Limits

    with Session(image="python", limits=Limits(cpus=1000)) as session:
        (container,) = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={session.id}"})
        assert container.attrs["HostConfig"]["NanoCpus"] <= (os.cpu_count() or 1) * 1e9


def test_limits_stand_on_the_container() -> None:
    from kernel_sandbox import Limits

    with Session(image="python", limits=Limits(memory="512m", pids=77)) as session:
        (container,) = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={session.id}"})
    host = container.attrs["HostConfig"]
    least = 4096 if connect().info()["CgroupDriver"] == "systemd" else 0
    assert (host["Memory"], host["MemorySwap"] - least, host["PidsLimit"]) == (512 * 1024**2, 512 * 1024**2, 77)
    assert (host["NetworkMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert (host["IpcMode"], host["LogConfig"]["Type"], host["AutoRemove"]) == ("none", "none", True)
    assert "no-new-privileges" in host["SecurityOpt"]


NETWORK = """
import os, socket
names = {socket.gethostbyname(name) for name in ("localhost", "sandbox")}
with socket.create_server(("localhost", 0)) as server, socket.create_connection(server.getsockname()):
    print(os.readlink("/proc/self/ns/net"), *names)
print(*[line.partition(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])
"""


@pytest.mark.parametrize("transport", ["ipc", "forward"])
def test_network_is_a_loopback_of_each_sandbox_s_own(transport: Literal["ipc", "forward"]) -> None:
    """Also where the engine is told to leave the network alone (ipc): it makes the namespace all the same."""
    with Session(image="python", transport=transport) as one, Session(image="python", transport=transport) as other:
        (first, interfaces), (second, _) = (s.execute(NETWORK).text.splitlines() for s in (one, other))
        attrs = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={one.id}"})[0].attrs
    spaces = {os.readlink("/proc/self/ns/net"), first.split()[0], second.split()[0]}
    assert (len(spaces), first.split()[1:], interfaces) == (3, ["127.0.0.1"], "lo")
    assert bool(attrs["Config"].get("NetworkDisabled")) == (transport == "ipc")
