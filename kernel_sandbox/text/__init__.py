"""Text that people and models judge: what may not be in it unseen. Pure, and below everything else.

    characters   the one table of characters that hide something, and how each is written so that it is seen
    colours      the colours of a text (SGR) as state; none in which a text cannot be read
    ansi         the one grammar of a terminal's commands, and a text without them
    lines        where lines end, and lines that were written over
    utf8         what UTF-8 cannot write, sizes in bytes, cuts between two characters
    clipping     texts cut to a size, each cut said
    amounts      sizes and durations as people read them
    quoting      a text in quotes, within a line of ours
    spelling     the known name that somebody meant by an unknown one

Every door draws from here: terminal, notebook, Markdown, exported page, the service's page, model and log.
"""
