"""The offline analyst: a language model by rules, for when there is no key and no network.

    analyst         OfflineAnalyst: a conversation in, a Completion out
    plans           which cells a question needs, one after the other, and the answer from their numbers
    factors, groups, relations   the longer plans, by kind of question
    steps           running a cell in a plan: a simpler try, lost variables, giving up honestly
    wording         numbers and sentences
    conditions      which words of the question had no part in the answer
    questions       what kind of question, and which phrases name its columns
    columns         which column a phrase means
    words           tokens, stems, likeness of words
    conversation    what was asked, which files were named, what the cells so far have reported
    facts           the numbers that a cell reports, checked: they come from the sandbox
    notebook_cells  a cell's source, from cells/*.py and values

Plans are generators: each yields a cell and is sent what came of it. The analyst keeps nothing between two requests;
it runs the plan again over the results that the conversation holds, so the same conversation has the same answer.
"""

from __future__ import annotations

from kernel_sandbox.agents.offline.analyst import OfflineAnalyst

__all__ = ["OfflineAnalyst"]
