"""`%load_ext kernel_sandbox`: sandboxes beside the kernel of a notebook, by `%%sandbox`, `%sandbox` and `%ask`.

IPython loads it; nothing else does. The magics run in the notebook's kernel, so whatever they show there is shown with
the user's authority: all that comes from a sandbox passes `bundles` or `show/markdown` first, and all values pass
`session/variables`.

    extension     the only module that imports IPython: the magics, their settings, tab completion
    options       the command lines of the magics and their help        completion   what may come next on them
    sessions      the sessions by their names                           commands     %sandbox COMMAND
    running       a cell: its events to the front end, its end          failures     a line, or the sandbox's traceback
    front         where things are shown                                carrying     variables in and out of a session
    bundles       which kinds are shown, and as what                    tables       DataFrames as HTML of our own
    asking        %ask: options, variables, the answer                  steps        what the agent does, on the page
    agent_view    a cell of the agent as HTML and as text
"""
