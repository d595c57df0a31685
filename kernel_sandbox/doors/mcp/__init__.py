"""The sandbox as MCP tools, for any client of the Model Context Protocol: one set of tools, two transports.

    contract     what the tools need of whoever has the sessions
    tool_results  what a tool call answers: parts to read and to see, and the same as data. Pure
    cell_answers an execution as such an answer, within bounds. Pure
    definitions  the tools' names, texts and schemas. Pure
    toolbox      one tool call, from its arguments to its answer
    pool_tools   the same for clients of a session pool's own MCP endpoint
    cell_progress  what a running cell tells while it runs
    local        one session of this process: for stdio
    stdio        the process's standard input and output, which nothing else may touch then
    hosted       the sessions of a SessionService: for HTTP
    protocol_sessions   how many of the protocol's own sessions each identity has there
    mcp_server   the only module that imports the package mcp; knows the protocol, and nothing of sandboxes
    command      `kernel-sandbox mcp`
    file_answers files, listings and notebooks as answers
    notebook_folder   where notebooks are saved on the host

Used where the extra `mcp` is installed: by its command, and by `doors/http`, which finds it by its name.
"""
