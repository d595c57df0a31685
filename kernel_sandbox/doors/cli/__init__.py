"""The command line: parses, asks the rooms below, shows what comes.

    app          the command `kernel-sandbox`, its exit statuses, and how errors end it
    run repl     cells from a file, and from a prompt; `source_files` and `prompt` say where they come from,
                 `parameters` sets those of a notebook, `replay` is the run itself
    ask demo     questions to an agent: `ask_question` puts them, `task_view` shows what it does, `model_view` the
                 model's text; `dotenv` reads settings of a directory, `access` asks before they decide
                 who gets the data
    setup        what is missing on this machine, done and proved; `demo` does it too
    export       a notebook as a page, Markdown or a script; `keeping` says how to open one that was kept
    sandboxes    `ps` and `gc`; image kernelspec_command doctor_command the other commands

What is neither parsing nor showing is not here: set-up, kernelspecs and the doctor have modules of their own below.
"""

from __future__ import annotations

from kernel_sandbox.doors.cli.app import main

__all__ = ["main"]
