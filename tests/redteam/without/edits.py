"""How removals edit what an engine is told: Docker's host configuration, bubblewrap's command line, the guest's source.

Each edit wraps what stands there, an earlier edit included, so that removals can be joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel_sandbox.sandbox import link as guest_link
from kernel_sandbox.sandbox.engines import bubblewrap_profile, call_arguments, control_groups, docker, seccomp
from kernel_sandbox.sandbox.engines.bubblewrap_profile import Profile
from tests.redteam.without.removal import Ground

Config = dict[str, Any]


def edit_config(ground: Ground, change: Callable[[Config], None]) -> None:
    """Change the host configuration of containers."""
    honest = docker._profile

    def edited(*args: Any) -> Config:
        options = honest(*args)
        change(options["host_config"])
        return options

    ground.patch.setattr(docker, "_profile", edited)


def set_config(ground: Ground, **values: Any) -> None:
    edit_config(ground, lambda config: config.update(values))


def edit_command(ground: Ground, change: Callable[[list[str]], list[str]]) -> None:
    """Change bubblewrap's command line."""
    honest = Profile.command
    ground.patch.setattr(Profile, "command", lambda self, info: change(honest(self, info)))


def drop_options(ground: Ground, *options: str) -> None:
    """Leave options without values out of bubblewrap's command line; each must be there."""

    def change(command: list[str]) -> list[str]:
        assert set(options) <= set(command)
        return [word for word in command if word not in options]

    edit_command(ground, change)


def edit_preparation(ground: Ground, change: Callable[[Config], None]) -> None:
    """Change what prepare.py is told to do in a bubblewrap sandbox."""
    honest = Profile.preparation

    def edited(self: Profile) -> Config:
        config = honest(self)
        change(config)
        return config

    ground.patch.setattr(Profile, "preparation", edited)


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"not there any more: {old}"
    return text.replace(old, new)


def edit_prepare(ground: Ground, old: str, new: str) -> None:
    """Change the program that runs first in a bubblewrap sandbox."""
    honest = bubblewrap_profile._prepare_source
    ground.patch.setattr(bubblewrap_profile, "_prepare_source", lambda: _replaced(honest(), old, new))


def edit_guest(ground: Ground, module: str, old: str, new: str) -> None:
    """Change a module of the guest, which is sent to the sandbox as text."""
    honest = guest_link._source

    def edited(name: str) -> str:
        return _replaced(honest(name), old, new) if name == module else honest(name)

    ground.patch.setattr(guest_link, "_source", edited)


def edit_filter(ground: Ground, **tables: Any) -> None:
    """Change names of the module that makes the filters of system calls, and have them made anew."""
    for name, value in tables.items():
        ground.patch.setattr(seccomp, name, value)
    ground.patch.setattr(docker, "docker_profile", seccomp.docker_profile.__wrapped__)
    ground.patch.setattr(bubblewrap_profile, "filter_program", seccomp.filter_program.__wrapped__)


def let_through(ground: Ground, *names: str) -> None:
    """Allow system calls whatever their arguments are, which are looked at otherwise."""
    honest = call_arguments.rules
    any_argument: dict[str, tuple[call_arguments.Rule, ...]] = dict.fromkeys(names, ((),))
    ground.patch.setattr(call_arguments, "rules", lambda: honest() | any_argument)
    edit_filter(ground)


def unlimit(ground: Ground, controller: str) -> None:
    """Leave one controller's limits out of bubblewrap's control groups."""
    first, unified = control_groups._values_v1, control_groups._values_unified
    ground.patch.setattr(
        control_groups, "_values_v1", lambda given, limits: [] if given == controller else first(given, limits)
    )
    ground.patch.setattr(
        control_groups,
        "_values_unified",
        lambda limits: [pair for pair in unified(limits) if not pair[0].startswith(controller)],
    )


def raise_ulimit(ground: Ground, name: str, value: int) -> None:
    """Give a resource limit (`ulimit` in Docker's words) another value."""

    def change(config: Config) -> None:
        (found,) = (ulimit for ulimit in config["Ulimits"] if ulimit["Name"] == name)
        found.update({"Soft": value, "Hard": value})

    edit_config(ground, change)
    edit_preparation(ground, lambda config: config["rlimits"].update({f"RLIMIT_{name.upper()}": value}))


def edit_tmpfs(ground: Ground, change: Callable[[str], str]) -> None:
    """Change the options of the writable places."""
    honest = docker._tmpfs
    ground.patch.setattr(docker, "_tmpfs", lambda *args: change(honest(*args)))

    def each(config: Config) -> None:
        config["tmpfs"] = [(place, change(options)) for place, options in config["tmpfs"]]

    edit_preparation(ground, each)
