"""The options that describe a sandbox, once for all commands that start one or name one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.choice import VARIABLE
from kernel_sandbox.spec.values import Limits, Mount, SandboxSpec, parse_size
from kernel_sandbox.text.amounts import format_size

Command = Callable[..., Any]
_default = SandboxSpec()
_memory = format_size(_default.limits.memory_bytes)


def _check_size(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return value if value is None or parse_size(value) else None
    except PolicyError as exc:
        raise click.BadParameter(str(exc)) from exc


def engine_option(help_text: str) -> Callable[[Command], Command]:
    """Add --engine, for what starts a sandbox or prepares it; KERNEL_SANDBOX_ENGINE counts too."""
    return click.option("--engine", type=click.Choice(NAMES), envvar=VARIABLE, help=help_text)


def one_engine_option(command: Command) -> Command:
    """Add --engine, for what is about every engine unless one is named."""
    return click.option("--engine", type=click.Choice(NAMES), help="Only this one.")(command)


def sandbox_options(command: Command) -> Command:
    """Add what describes a sandbox; the command gets it as `engine` and `spec`."""

    @functools.wraps(command)
    def with_spec(*args: Any, **options: Any) -> Any:
        names = ("image", "memory", "cpus", "mount", "transport", "runtime", "strict")
        described = {name: options.pop(name) for name in names}
        return command(*args, spec=_spec(cell_timeout=options.pop("cell_timeout", "default"), **described), **options)

    decorators = [
        engine_option(
            "What starts the sandbox.  [default: docker where it answers and has the image, else bubblewrap]"
        ),
        click.option(
            "--image",
            default=_default.image,
            show_default=True,
            help="One of `image list`, or any that the engine has.",
        ),
        click.option(
            "--memory",
            metavar="SIZE",
            callback=_check_size,
            help=f"Memory of the whole sandbox, such as 1g or 4g.  [default: {_memory}]",
        ),
        click.option(
            "--cpus",
            type=click.FloatRange(min=0, min_open=True),
            help=f"How many processors' worth of time.  [default: {_default.limits.cpus:g}]",
        ),
        click.option(
            "--mount",
            metavar="SRC[:NAME]",
            multiple=True,
            help="Show a file or directory read-only at /mnt/input/NAME. Repeatable.",
        ),
        click.option("--transport", type=click.Choice(["ipc", "forward"]), help="How to reach inside; rarely needed."),
        click.option("--runtime", metavar="NAME", help="The OCI runtime, such as runsc for gVisor."),
        click.option(
            "--strict/--no-strict",
            default=None,
            help="Refuse a sandbox with any limit that this host cannot hold; or accept whatever it cannot.  "
            "[default: broken walls are refused, weak limits shown]",
        ),
    ]
    decorated: Command = with_spec
    for decorator in reversed(decorators):
        decorated = decorator(decorated)
    return decorated


def _spec(
    *,
    image: str,
    memory: str | None,
    cpus: float | None,
    mount: tuple[str, ...],
    transport: Any,
    runtime: str | None,
    strict: bool | None,
    cell_timeout: Any,
) -> SandboxSpec:
    """Make the spec of the options; what was not given keeps its default. Raises PolicyError."""
    limits: dict[str, Any] = {"memory": memory, "cpus": cpus}
    limits = {name: value for name, value in limits.items() if value is not None}
    if cell_timeout != "default":
        limits["cell_timeout"] = cell_timeout
    mounts = tuple(Mount(source, name) for source, _, name in (text.partition(":") for text in mount))
    return SandboxSpec(
        image=image,
        limits=Limits(**limits),
        mounts=mounts,
        transport=transport,
        runtime=runtime,
        strict=strict,
        door="command line",
    )
