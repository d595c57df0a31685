"""Untrusted output and notebooks made fit to be seen by others: for models, pages, Markdown, scripts.

model_text  what a model reads of a cell
exports     any notebook as HTML, Markdown or a script
scrubbed    a notebook without metadata, its outputs within caps
rendering   starts `page` in a process of its own
page        HTML, through nbconvert
policy      what a page may do because of a sandbox's HTML: nothing
tags        the allow-list of HTML
prose       Markdown in which nothing can become a tag
markdown    Markdown and LaTeX of a sandbox or a model, in which nothing runs or is fetched
"""
