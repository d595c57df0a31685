"""How removals edit what an engine is told: Docker's host configuration, bubblewrap's command line, the guest's source.

Each edit wraps what stands there, an earlier edit included, so that removals can be joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel_sandbox.sandbox.engines import seccomp
from kernel_sandbox.sandbox.engines.bubblewrap_profile import Profile
from kernel_sandbox.sandbox.engines.call_arguments import Rule
from tests.redteam.without import seams
from tests.redteam.without.removal import Ground
from tests.redteam.without.seams import Passage

Config = dict[str, Any]


def edit_profile(ground: Ground, change: Callable[[Config], None]) -> None:
    """Change what containers are made of."""
    honest = seams.CONTAINER_PROFILE.current

    def edited(*args: Any) -> Config:
        options: Config = honest(*args)
        change(options)
        return options

    ground.replace(seams.CONTAINER_PROFILE, edited)


def edit_config(ground: Ground, change: Callable[[Config], None]) -> None:
    """Change the host configuration of containers."""
    edit_profile(ground, lambda options: change(options["host_config"]))


def set_config(ground: Ground, **values: Any) -> None:
    edit_config(ground, lambda config: config.update(values))


def edit_command(ground: Ground, change: Callable[[list[str]], list[str]]) -> None:
    """Change bubblewrap's command line."""
    honest = seams.BUBBLEWRAP_COMMAND.current
    ground.replace(seams.BUBBLEWRAP_COMMAND, lambda self, info: change(honest(self, info)))


def drop_options(ground: Ground, *options: str) -> None:
    """Leave options without values out of bubblewrap's command line; each must be there."""

    def change(command: list[str]) -> list[str]:
        assert set(options) <= set(command)
        return [word for word in command if word not in options]

    edit_command(ground, change)


def join_namespace(ground: Ground, flag: int, *options: str) -> None:
    """Leave a namespace out, by its flag (linux/sched.h) and by bubblewrap's options for it."""
    drop_options(ground, *options)
    edit_guest(ground, seams.TEMPLATE_NAMESPACES, f"unshare(NAMESPACES & ~{flag:#x})")


def edit_preparation(ground: Ground, change: Callable[[Config], None]) -> None:
    """Change what prepare.py is told to do in a bubblewrap sandbox."""
    honest = seams.PREPARATION.current

    def edited(self: Profile) -> Config:
        config: Config = honest(self)
        change(config)
        return config

    ground.replace(seams.PREPARATION, edited)


def _replaced(source: str, passage: Passage, new: str) -> str:
    assert passage.text in source, f"not there any more: {passage.text}"
    assert passage.text != new, f"nothing is changed: {new}"
    return source.replace(passage.text, new)


def edit_prepare(ground: Ground, passage: Passage, new: str) -> None:
    """Change the program that runs first in a bubblewrap sandbox."""
    honest = seams.PREPARE_SOURCE.current
    ground.replace(seams.PREPARE_SOURCE, lambda: _replaced(honest(), passage, new))


def edit_guest(ground: Ground, passage: Passage, new: str) -> None:
    """Change a module of the guest, which is sent to the sandbox as text."""
    honest = seams.GUEST_SOURCE.current

    def edited(name: str) -> str:
        source: str = honest(name)
        return _replaced(source, passage, new) if name == passage.module else source

    ground.replace(seams.GUEST_SOURCE, edited)


def edit_keeper(ground: Ground, passage: Passage, new: str) -> None:
    """Change the program that makes a template's walls."""
    honest = seams.KEEPER_SOURCE.current

    def edited(name: str) -> str:
        source: str = honest(name)
        return _replaced(source, passage, new) if f"inside.{name}" == passage.module else source

    ground.replace(seams.KEEPER_SOURCE, edited)


def allow(ground: Ground, calls: str) -> None:
    """Allow more system calls, in the words of the table: each with its numbers."""
    ground.replace(seams.ALLOWED_CALLS, f"{seams.ALLOWED_CALLS.current.rstrip()}; {calls}\n")
    _make_filters_anew(ground)


def _make_filters_anew(ground: Ground) -> None:
    ground.replace(seams.CONTAINER_FILTER, seccomp.docker_profile.__wrapped__)
    ground.replace(seams.BUBBLEWRAP_FILTER, seccomp.filter_program.__wrapped__)
    ground.replace(seams.TEMPLATE_FILTER, seccomp.template_program.__wrapped__)


def let_through(ground: Ground, *names: str) -> None:
    """Allow system calls whatever their arguments are, which are looked at otherwise."""
    honest = seams.ARGUMENT_RULES.current
    any_argument: dict[str, tuple[Rule, ...]] = dict.fromkeys(names, ((),))
    ground.replace(seams.ARGUMENT_RULES, lambda: honest() | any_argument)
    _make_filters_anew(ground)


def unlimit(ground: Ground, controller: str) -> None:
    """Leave one controller's limits out of bubblewrap's control groups."""
    first, unified = seams.GROUP_VALUES_V1.current, seams.GROUP_VALUES_UNIFIED.current
    ground.replace(seams.GROUP_VALUES_V1, lambda given, limits: [] if given == controller else first(given, limits))
    ground.replace(
        seams.GROUP_VALUES_UNIFIED,
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
    honest = seams.CONTAINER_TMPFS.current
    ground.replace(seams.CONTAINER_TMPFS, lambda *args: change(honest(*args)))

    def each(config: Config) -> None:
        config["tmpfs"] = [(place, change(options)) for place, options in config["tmpfs"]]

    edit_preparation(ground, each)
