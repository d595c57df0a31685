"""The command line: parses, asks the layers below, shows what comes. The only package that imports click and rich.

    app          the command `kernel-sandbox`, its exit statuses, and how errors end it
    options      the options that describe a sandbox
    run repl     cells from a file, and from a prompt; both begin in `opening`, and so does `ask`
    ask demo     questions to an agent: `asking` puts them, `task_view` shows what it does; `dotenv` reads settings of a
                 directory, `access` asks before one of them decides who gets the data
    setup        what is missing on this machine, done and proved; `demo` does it too
    export       a notebook as a page, Markdown or a script; `keeping` says how to open one that was kept
    image kernelspec sandboxes doctor     the other commands

    source_files prompt     where cells come from; `parameters` sets those of a notebook
    interrupts   Ctrl-C while a cell runs
    cell_view    one cell while it runs; `tables` makes of bundles what can be shown
    model_view   the language model's text as it streams, and whole
    progress_view           builds and installations while they run
    bottom       the line at the bottom of a terminal, for both
    console      where text goes, and how lines from a sandbox are printed
    terminal     hostile text made safe to show; pure

What is neither parsing nor showing is not here: set-up, kernelspecs and the doctor have modules of their own below.
"""

from __future__ import annotations

from kernel_sandbox.cli.app import main

__all__ = ["main"]
