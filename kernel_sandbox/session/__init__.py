"""A session: one kernel in one sandbox, cells one after the other, everything that they showed kept.

session         AsyncSession's operations, and nothing else
sync            Session: the same signatures and docstrings; forwards to an AsyncSession in the reactor
session_kernel  a session's kernels, one after the other: starts them, connects, ends them
kernel_state    what the kernel is at, and what may follow: whether a cell can run, and if not, why
channels        one reader per channel; each message to the request that caused it
messages        frames to well-formed messages, or a refusal
cell            one cell's state
cell_runner     whose turn it is, and how a cell is ended
recorder        what is kept
other_clients   what other clients of the kernel have it do
known_kernel    which kernel of a session one client knows: it is told of a restart once
prompts         what the sandbox asks the user, one prompt at a time
carried_variables  one variable in or out, by value
shell_commands  a shell command as a cell, and what came of it
outputs/        what cells put out: values, an execution, collectors within caps
transcript/     executed cells to a notebook file, and notebooks and scripts to cells
"""
