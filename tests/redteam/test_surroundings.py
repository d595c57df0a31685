"""Where a command is started, and what is typed: neither lets a stranger choose what runs here or who gets the data."""

from __future__ import annotations

import pytest

from kernel_sandbox import ImageNotFound, Session

from .cells import attack


@attack("Escape")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("image", ["datasciens", "pyhton:3.12", "kernel-sandbox/datascience:1", "anybodys-image"])
def test_mistyped_image_is_not_pulled_from_a_registry(engine: str, image: str) -> None:
    """Anybody may have registered the mistake, and people do what an error message says."""
    with pytest.raises(ImageNotFound) as refused, Session(engine=engine, image=image):
        pass
    assert "docker pull" not in str(refused.value)
    assert ("Did you mean" in str(refused.value)) == image.startswith(("datasciens", "pyhton"))
