"""The command line: parses, asks the layers below, shows what comes. The only package that imports click and rich.

app          the command `kernel-sandbox`, its exit statuses, and how errors end it
options      the options that describe a sandbox
run repl     cells from a file, and from a prompt
image kernelspec sandboxes doctor     the other commands

console      where text goes, and how lines from a sandbox are printed
terminal     hostile text made safe to show; pure
cell_view    one cell while it runs; bundles, tables and pictures are what it shows with
"""

from __future__ import annotations

from kernel_sandbox.cli.app import main

__all__ = ["main"]
