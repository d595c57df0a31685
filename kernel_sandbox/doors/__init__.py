"""The ways in: each parses, asks the rooms below, and shows what comes. No door imports another.

jupyter/   a sandboxed kernel for JupyterLab, nbclient, papermill and every other tool of Jupyter's
cli/       the command line; it finds the commands of the other doors by their names
magic/     `%%sandbox`, `%sandbox`, `%ask` beside a notebook's own kernel
mcp/       the sandbox as tools of the Model Context Protocol, over stdio and HTTP
http/      sessions over HTTP: our own routes, the session pools' API of Azure, WebSockets, the page for people
"""
