"""The offline analyst: two fixed analyses of a table, for when there is no language model.

    question_forms  which of the two a question asks for, and which column it names
    analyst     OfflineAnalyst: the next cell of an analysis, from cells/*.py, or its answer
    reports     what a cell reports, checked: it comes from the sandbox
    answers     the reports in words

They are "describe this table" and "what goes with COLUMN". No other question is understood, or guessed at.
"""

from __future__ import annotations

from kernel_sandbox.agents.offline.analyst import OfflineAnalyst
from kernel_sandbox.agents.offline.question_forms import ANALYSES, NEEDS_MODEL, read_question

__all__ = ["ANALYSES", "NEEDS_MODEL", "OfflineAnalyst", "read_question"]
