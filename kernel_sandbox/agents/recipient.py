"""Which model is asked and who receives the data: chosen, and put into words, once for `ask` and `%ask`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kernel_sandbox.agents.models import BASE_URL, LanguageModelInterface, OpenAILanguageModel
from kernel_sandbox.errors import ModelNotConfigured
from kernel_sandbox.text.spelling import nearest

OFFLINE = "offline"
DEFAULT_MODEL = "o3-mini"
ACCESS = ("OPENAI_API_KEY", BASE_URL)
_LIKENESS = 0.8
"""Of a name that is refused; "online", which a server may have, is 0.77."""


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model that is asked."""

    name: str
    named_by: str
    """What chose it: an option, a setting, or "default"."""
    model: LanguageModelInterface


def choose_model(*named: tuple[str, str | None], base_url: str | None = None) -> ChosenModel:
    """Make the first model that has a name; each of `named` is what may name one, and the name.

    Raises ModelNotConfigured for a name that is nearly "offline".
    """
    by, name = next(((by, name) for by, name in named if name), ("default", unnamed_model(base_url)))
    return ChosenModel(name, by, make_model(name, base_url=base_url))


def unnamed_model(base_url: str | None = None) -> str:
    """Return the model where nobody names one."""
    return DEFAULT_MODEL if base_url or has_access() else OFFLINE


def has_access() -> bool:
    """Return whether the environment names a key or a server to ask."""
    return any(os.environ.get(name) for name in ACCESS)


def make_model(name: str, *, base_url: str | None = None) -> LanguageModelInterface:
    """Make the model of that name: the two fixed analyses for "offline", else one of an OpenAI-compatible server.

    Raises ModelNotConfigured for a name that is nearly "offline".
    """
    if name != OFFLINE:
        if nearest(name, [OFFLINE], _LIKENESS):  # else a slip of the finger sends everything to a server
            raise ModelNotConfigured(f"There is no model {name!r}. Did you mean {OFFLINE}, which asks no server?")
        return OpenAILanguageModel(base_url=base_url)
    from kernel_sandbox.agents.offline import OfflineAnalyst

    return OfflineAnalyst()


def recipient(name: str, model: LanguageModelInterface, *, named_by: str, places: Mapping[str, str]) -> str:
    """Write which model at which address receives the data, and what named each.

    `named_by` is what chose the model; `places` says for "base_url" and OPENAI_BASE_URL where they were given.
    """
    if not isinstance(model, OpenAILanguageModel):
        return "No language model: a fixed analysis answers, and nothing leaves this machine."
    where = model.destination
    given = places.get(where.named_by, where.named_by)
    return (
        f"Asking {name} ({named_by}) at {where} ({given}): it receives the question, data previews and cells' outputs."
    )
