"""`%load_ext kernel_sandbox`: sandboxes beside the kernel of a notebook, by `%%sandbox`, `%sandbox` and `%ask`.

IPython loads it; nothing else does. The magics run in the notebook's kernel, so whatever they show there is shown with
the user's authority: all that comes from a sandbox passes `bundles` or `show/markdown` first, and all values pass
`session/carried_variables`.

    extension       the only module that imports IPython: the magics, their settings
    magic_options   the command lines of the magics and their help
    completion      what may come next on them
    sessions        the sessions by their names
    commands        %sandbox COMMAND
    running         a cell: its events to the front end, its end
    shown_errors    a line, or the sandbox's traceback
    front_end       where things are shown
    bundles         which kinds are shown, and as what
    html_tables     DataFrames as HTML of our own
    carrying        variables in and out of a session
    ask_magic       %ask: options, variables, the answer
    question_steps  what the agent does, on the page
    agent_view      a cell of the agent as HTML and as text
"""
