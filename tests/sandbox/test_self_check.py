"""The look from inside at the start: a broken wall refuses the sandbox, a weak limit is listed, and one can ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernel_sandbox import EngineError, Limits, Session
from kernel_sandbox.sandbox.engines import bubblewrap_profile, docker
from kernel_sandbox.sandbox.engines.seccomp import docker_profile
from kernel_sandbox.spec.values import SandboxSpec

SMALL = Limits(memory="1g")


def break_docker(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]) -> None:
    """Make containers start with a profile that was changed."""
    honest = docker._profile

    def changed(*args: Any) -> dict[str, Any]:
        options = honest(*args)
        change(options["host_config"])
        options["network_disabled"] = options["host_config"]["NetworkMode"] == "none"  # or the mode means nothing
        return options

    monkeypatch.setattr(docker, "_profile", changed)


def set_to(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update({name: value})


BROKEN = {
    "system calls": (set_to("SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]), "no seccomp filter"),
    "capabilities": (lambda config: config.pop("CapDrop"), "CapBnd is not empty"),
    "privileges": (set_to("SecurityOpt", [f"seccomp={docker_profile()}"]), "NoNewPrivs is not set"),
    "network": (set_to("NetworkMode", "host"), "there are interfaces"),
}


@pytest.mark.parametrize("wall", BROKEN)
def test_broken_wall_refuses_the_sandbox(docker: None, monkeypatch: pytest.MonkeyPatch, wall: str) -> None:
    change, found = BROKEN[wall]
    break_docker(monkeypatch, change)
    with pytest.raises(EngineError, match=found), Session(engine="docker", image="python", limits=SMALL):
        pass


def test_who_asks_gets_a_broken_one_with_the_list(docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    break_docker(monkeypatch, set_to("SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]))
    with Session(engine="docker", spec=SandboxSpec(image="python", limits=SMALL, strict=False)) as session:
        assert "no seccomp filter is active" in session.weakened
        assert session.execute("1 + 1").text == "2"
        assert "no seccomp filter is active" in session.transcript.metadata["kernel_sandbox"]["weakened"]


def test_weak_limit_is_listed_and_refused_by_strict(docker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    break_docker(monkeypatch, set_to("MaskedPaths", []))
    with Session(engine="docker", image="python", limits=SMALL) as session:
        (listed,) = session.weakened
        assert "/proc/cmdline" in listed
    spec = SandboxSpec(image="python", limits=SMALL, strict=True)
    with pytest.raises(EngineError, match="readable: /proc/"), Session(engine="docker", spec=spec):
        pass


def test_bubblewrap_without_its_filter_is_refused(either_way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template has a filter of its own, which stays; but it needs namespaces, and a cell must not have them."""
    honest = bubblewrap_profile.Profile.preparation
    # RET ALLOW: a filter that lets everything through still counts as one, so what it should refuse is tried.
    everything = {"seccomp": "BgAAAAAA/38="}
    monkeypatch.setattr(bubblewrap_profile.Profile, "preparation", lambda self: honest(self) | everything)
    found = {"by_itself": "io_uring can be used", "from_templates": "user namespace can be used"}[either_way]
    with pytest.raises(EngineError, match=found), Session(engine="bubblewrap", image="python"):
        pass


def test_sandbox_keeps_every_promise_here(engine: str) -> None:
    with Session(engine=engine, spec=SandboxSpec(image="python", limits=SMALL, strict=True)) as session:
        assert session.weakened == ()
