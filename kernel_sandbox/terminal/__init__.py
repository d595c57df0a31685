"""What command lines share, whichever door they belong to.

console         where text goes, and how lines from a sandbox are printed
safe            hostile text made safe to show; pure
options         the options that describe a sandbox
session_opening how commands begin that open a session in front of the user; `start_options` what they are told before
confirming      questions that decide something: what was typed before is no answer
interrupts      Ctrl-C while cells run
cell_view       one cell while it runs; `drawn_tables` makes of DataFrames what can be shown
progress_view   builds and installations while they run
status_line     the line at the bottom of a terminal
"""
