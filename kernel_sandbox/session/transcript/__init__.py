"""Executed cells to a notebook file, and notebooks and scripts to cells.

The session adds a cell when it runs one and saves after it; the doors load what is to be replayed.

    cells       Cell, and the JSON of a cell as nbformat writes it
    scripts     percent scripts to cells and back
    notebook    Transcript
    reading     notebooks through nbformat, which is imported nowhere else
    writing     files replaced whole

A transcript is never signed and never marked as trusted: Jupyter then shows its HTML sanitised and runs none of its
scripts, which is right for what came out of a sandbox.
"""

from __future__ import annotations

from kernel_sandbox.session.transcript.cells import Cell, CellKind
from kernel_sandbox.session.transcript.notebook import Transcript
from kernel_sandbox.session.transcript.scripts import join_percent_script, split_percent_script

__all__ = ["Cell", "CellKind", "Transcript", "join_percent_script", "split_percent_script"]
