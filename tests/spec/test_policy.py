import json
from typing import Any

import pytest

from kernel_sandbox import Limits, Mount, PolicyError, SandboxSpec
from kernel_sandbox.spec.values import parse_size
from kernel_sandbox.text.amounts import format_size


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 536_870_912), ("2g", 2_147_483_648), ("1.5K", 1536), (4096, 4096), ("3MiB", 3_145_728)]
)
def test_size_reads_binary_units(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", 0, True, "1e9", "5 parsecs"])
def test_size_refuses_what_is_none(text: int | str) -> None:
    with pytest.raises(PolicyError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (1536, "1.5 KB"), (27_000_000, "25.7 MB"), (2**31, "2 GB")])
def test_size_is_written_as_people_read_it(size: int, text: str) -> None:
    assert format_size(size) == text


def test_limits_refuse_file_systems_that_fill_the_memory() -> None:
    with pytest.raises(PolicyError, match="raise memory"):
        Limits(memory="512m", data_size="512m")


@pytest.mark.parametrize("memory", [1, "1", "100m"])
def test_memory_that_is_too_small_is_refused_by_its_name(memory: int | str) -> None:
    with pytest.raises(PolicyError, match=r"memory=\d+\) \(bytes\): give at least 128 MB"):
        Limits(memory=memory)


@pytest.mark.parametrize("wrong", [{"data_size": 0}, {"tmp_size": "much"}, {"memory": 0}, {"output_bytes": None}])
def test_size_that_is_none_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=rf"^Limits\({next(iter(wrong))}="):
        Limits(**wrong)


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"pids": -5}, {"cell_timeout": float("inf")}, {"memory": "lots"}])
def test_limits_refuse_impossible_values(wrong: dict[str, float]) -> None:
    with pytest.raises(PolicyError):
        Limits(**wrong)  # type: ignore[arg-type]


def test_spec_survives_the_way_through_a_kernelspec() -> None:
    spec = SandboxSpec(
        image="python", limits=Limits(memory="1g"), mounts=(Mount("/tmp", "t"),), env={"A": "1"}, preload=("wave",)
    )
    assert SandboxSpec.from_config(spec.to_config()) == spec
    assert SandboxSpec.from_config(json.loads(json.dumps(spec.to_config()))) == spec
    assert SandboxSpec.from_config(SandboxSpec(preload=()).to_config()).preload == ()
    assert SandboxSpec().to_config() == {}


def test_spec_refuses_unknown_configuration() -> None:
    with pytest.raises(PolicyError, match="colour"):
        SandboxSpec.from_config({"colour": "red"})


@pytest.mark.parametrize("name", ["../up", "a/b", "x\ny", ".hidden"])
def test_mount_refuses_names_that_are_paths(name: str) -> None:
    with pytest.raises(PolicyError, match="name under /mnt/input"):
        Mount("/tmp", name)


@pytest.mark.parametrize("name", ["os; import sys", "", "a..b", ".a", "1a"])
def test_spec_refuses_to_preload_what_is_no_module(name: str) -> None:
    with pytest.raises(PolicyError, match="module"):
        SandboxSpec(preload=(name,))


def test_spec_refuses_a_network() -> None:
    with pytest.raises(PolicyError, match="network"):
        SandboxSpec(network="host")  # type: ignore[arg-type]
