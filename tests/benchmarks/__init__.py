"""What sessions cost beside bare local kernels: `python -m tests.benchmarks`.

sides      the three that take turns: a bare local kernel with jupyter_client, and a session of each engine
rows       one measured thing: its figures, ratios, spread and goals; pure
starts     opening, the first import, `kernel-sandbox run`, restart
work       cells of an open session, files, an agent's turn
holding    the memory of sessions that wait
ready      a session of the pool, from acquire to its first result
chart      the bars of the README; pure
readme     what the README has of the figures
pool       more of the pool: many at once, cells a second; a command of its own
service    what HTTP adds to a cell; a command of its own
"""
