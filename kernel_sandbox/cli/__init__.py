"""The command line: parses, asks the layers below, shows what comes. The only package that imports click and rich.

    app          the command `kernel-sandbox`, its exit statuses, and how errors end it
    options      the options that describe a sandbox
    run repl     cells from a file, and from a prompt; both begin in `opening`
    image kernelspec sandboxes doctor     the other commands

    source_files prompt     where cells come from
    interrupts   Ctrl-C while a cell runs
    cell_view    one cell while it runs; `tables` and `pictures` make of bundles what can be shown
    console      where text goes, and how lines from a sandbox are printed
    terminal     hostile text made safe to show; pure

What is neither parsing nor showing is not here: kernelspecs and the doctor have modules of their own below.
"""

from __future__ import annotations

from kernel_sandbox.cli.app import main

__all__ = ["main"]
