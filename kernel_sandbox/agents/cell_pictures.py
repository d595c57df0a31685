"""The pictures of one cell: saved on the host while it runs, told to the model when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread

from kernel_sandbox.agents.vision import MAX_PICTURES, is_showable
from kernel_sandbox.artifacts import PictureFolder, Saved
from kernel_sandbox.session.outputs import ClearOutput, Event, Output, Picture, picture_of
from kernel_sandbox.show.model_text import UNSEEN


@dataclass(frozen=True, slots=True)
class ToldPictures:
    """What the model is told of the pictures of a cell."""

    words: Mapping[int, str]
    """What became of each, by the place of its output; follows its description."""
    shown: tuple[Picture, ...]
    """Those that the model is to be shown."""


class CellPictures:
    """Takes the events of one cell as they come, then its outputs as they stand at the end."""

    def __init__(self, folder: PictureFolder, cell: int) -> None:
        """Save into `folder`, which may keep nothing, as pictures of the `cell`th cell."""
        self._folder = folder
        folder.start_cell(cell)
        self._saved: dict[str | int, tuple[Mapping[str, Any], Saved | None]] = {}
        """By display_id, or by the identity of a bundle: what was saved, and where."""

    async def take(self, event: Event) -> Saved | None:
        """Save the picture of an event; None where it has none, or none is kept."""
        if isinstance(event, ClearOutput):
            self._folder.restart_cell()
            self._saved.clear()
        data = getattr(event, "data", None)
        return None if data is None else await self._save(data, getattr(event, "display_id", None))

    async def _save(self, data: Mapping[str, Any], display_id: str | None) -> Saved | None:
        if self._folder.directory is None or (picture := picture_of(data)) is None:
            return None
        saved = await anyio.to_thread.run_sync(self._folder.keep, picture, display_id)
        self._saved[display_id or id(data)] = data, saved
        return saved

    async def tell(self, outputs: Sequence[Output], *, seen: bool) -> ToldPictures:
        """Describe what became of the pictures at the end; a model that has them `seen` is shown the first of them."""
        words: dict[int, str] = {}
        shown: list[Picture] = []
        for place, output in enumerate(outputs):
            picture = picture_of(getattr(output, "data", {}))
            if picture is None:
                continue
            words[place] = _where(await self._saved_at_last(output))
            if seen and is_showable(picture) and len(shown) < MAX_PICTURES:
                shown.append(picture)
                words[place] += f". It is shown below as picture {len(shown)}."
            else:
                words[place] += UNSEEN
        return ToldPictures(words, tuple(shown))

    async def _saved_at_last(self, output: Any) -> Saved | None:
        """Find where an output was saved. Its event may never have come: the stream leaves some out under load."""
        data, saved = self._saved.get(output.display_id or id(output.data), (None, None))
        return saved if data is output.data else await self._save(output.data, output.display_id)


def _where(saved: Saved | None) -> str:
    if saved is None:
        return ""
    return f", saved as {saved.path.name}" if saved.path is not None else f", not saved ({saved.problem})"
