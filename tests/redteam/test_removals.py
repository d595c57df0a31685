"""A control that no attack notices is untested: each attack fails with its control, and succeeds without it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel_sandbox import EngineError
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import shelf
from tests.conftest import missing
from tests.redteam.canaries import Canaries
from tests.redteam.removals import NOT_REMOVABLE, REMOVALS
from tests.redteam.without.removal import Ground, Removal

RUNS = [(name, engine) for name, removal in REMOVALS.items() for engine in removal.engines]
NOTICED = [(name, engine) for name, engine in RUNS if REMOVALS[name].noticed]


@pytest.fixture
def ground(engine: str, canaries: Canaries, tmp_path: Path) -> Iterator[Ground]:
    if reason := missing(engine):
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        yield Ground(engine, patch, canaries, tmp_path)


def run_without(ground: Ground, removal: Removal, *names: str) -> bool:
    """Make a removal's attack without these controls."""
    path = ground.path / ("without" if len(names) > len(removal.also) else "with")
    path.mkdir()
    with contextlib.ExitStack() as undo:
        shelf().end_all()  # what stands has the controls
        undo.callback(shelf().end_all)
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        own = dataclasses.replace(ground, patch=patch, path=path, removed=names, undo=undo)
        for name in names:
            REMOVALS[name].remove(own)
        return removal.succeeds(own)


@pytest.mark.parametrize(("control", "engine"), RUNS)
def test_attack_fails_with_its_control_and_succeeds_without(
    control: str, ground: Ground, record_property: Callable[[str, object], None]
) -> None:
    removal = REMOVALS[control]
    record_property("control", control)
    contained = not run_without(ground, removal, *removal.also)
    record_property("contained_with", contained)
    assert contained, "the attack succeeds with the control in its place"
    succeeded = run_without(ground, removal, *removal.also, control)
    record_property("succeeded_without", succeeded)
    assert succeeded, "the attack does not notice that the control is gone"


@pytest.mark.parametrize(("control", "engine"), NOTICED)
def test_look_from_inside_notices_that_a_control_is_gone(control: str, ground: Ground) -> None:
    """`strict` has limits refused, too."""
    removal = REMOVALS[control]
    strict = dataclasses.replace(ground, strict=True)
    for name in (*removal.also, control):
        REMOVALS[name].remove(strict)
    with pytest.raises(EngineError, match=removal.noticed), strict.session():
        pass


def test_controls_that_go_together_are_in_the_table() -> None:
    assert {name for removal in REMOVALS.values() for name in removal.also} <= REMOVALS.keys()
    assert not REMOVALS.keys() & NOT_REMOVABLE.keys()
