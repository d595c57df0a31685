"""Wrong types at the door: each is refused there, by the argument's name and with the right form."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import (
    AsyncSession,
    EngineError,
    Limits,
    Mount,
    PolicyError,
    PoolSettings,
    SandboxSpec,
    Session,
    SessionPool,
)

WRONG: dict[str, tuple[Any, ...]] = {
    "limits": ({"memory": "1g"}, 5, "1g", True),
    "mounts": (["/tmp"], "/tmp", 5, {"a": "b"}, [("/tmp", "a")]),
    "env": (["A=1"], "A=1", 5, True),
    "image": (5, ["python"], True),
    "runtime": (5, ["runc"]),
    "transport": (5, ["ipc"], "udp"),
    "spec": ({"image": "python"}, "python"),
    "transcript": (5, "x.txt", ["a.ipynb"]),
    "engine": (5, ["docker"]),
    "input_handler": (5, "yes"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_session_refuses_a_wrong_argument_by_name(name: str, value: Any) -> None:
    for kind in (Session, AsyncSession):
        with pytest.raises((PolicyError, TypeError), match=rf"{name}.*(: give |'ipc', )"):
            kind(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, True, [], {}, "many", ...], ids=repr)
def test_every_limit_is_checked(value: Any) -> None:
    for field in dataclasses.fields(Limits):
        with pytest.raises(PolicyError):
            Limits(**{field.name: value})
    for setting in dataclasses.fields(PoolSettings):
        if (setting.name, value) not in (("ready", 0), ("queue_length", 0)) and value != []:
            with pytest.raises(PolicyError):
                PoolSettings(**{setting.name: value})


@pytest.mark.parametrize("name", ["pids", "inodes", "open_files", "table_rows"])
def test_counts_are_whole(name: str) -> None:
    with pytest.raises(PolicyError, match=f"{name}.*whole number"):
        Limits(**{name: 100.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("preload", ["numpy", [5], 5, {"numpy": 1}])
def test_other_values_are_refused(preload: Any) -> None:
    wrong: Any = 5
    for refused in (
        lambda: Mount(wrong),
        lambda: SandboxSpec(preload=preload),
        lambda: PoolSettings(preload=preload),
    ):
        with pytest.raises(PolicyError, match="give "):
            refused()
    with pytest.raises(PolicyError, match=r"settings=.*give PoolSettings"):
        SessionPool({"ready": 1})  # type: ignore[arg-type]


def test_methods_refuse_a_wrong_argument(session: Session) -> None:
    wrong: dict[str, Any] = {
        "source=None": lambda: session.execute(None),  # type: ignore[arg-type]
        "source=b'1'": lambda: session.stream(b"1"),  # type: ignore[arg-type]
        "timeout='5'": lambda: session.execute("1", timeout="5"),  # type: ignore[arg-type]
        "timeout=True": lambda: session.execute("1", timeout=True),
        "metadata=": lambda: session.execute("1", metadata=["a"]),  # type: ignore[arg-type]
        "content=": lambda: session.request("kernel_info_request", None),  # type: ignore[arg-type]
        "data=5": lambda: session.files.write("a", 5),  # type: ignore[arg-type]
        "path=5": lambda: session.files.upload(5),  # type: ignore[arg-type]
        "path=None": lambda: session.files.download("a", None),  # type: ignore[arg-type]
        "limit='1'": lambda: session.files.download("a", "b", limit="1"),  # type: ignore[arg-type]
    }
    for words, use in wrong.items():
        with pytest.raises(TypeError, match=f"^{words}.*: give "):
            use()
    for value in (math.nan, math.inf, -1, 0):
        with pytest.raises(ValueError, match="above 0, or None"):
            session.execute("1", timeout=value)
    assert session.execute("6 * 7").text == "42"
    assert session.files.list() == ()


def test_missing_mount_source_is_one_error_on_both_engines(engine: str, tmp_path: Path) -> None:
    missing = tmp_path / "no such.csv"
    with pytest.raises(EngineError) as caught, Session(engine=engine, image="python", mounts=[Mount(missing, "data")]):
        raise AssertionError("it was opened")
    assert type(caught.value) is EngineError
    said = f"The mount's source {missing} is not on the engine's machine: correct its path."
    assert str(caught.value) == said
