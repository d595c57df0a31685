"""One locked-down process tree and the ways into it: engines start it, PID 1 answers, bytes pass within bounds.

sandbox        a started sandbox, and the table of its kernels; knows whether it stands, and if not, why
live_kernel    one kernel of it: its way in, its gate, its end; what it is told at its start
sandbox_state  what a sandbox is at, and what a kernel is at; what may follow
standing       the one that stands, or another where it is lost
link           the host's end of the guest protocol, one method per operation
promises       whether a sandbox keeps its promises, judged from what PID 1 sees
guarding       holds it to them: before the first cell, and the limits from then on
files          the files under /mnt/data
gate           listens for Jupyter clients, moves bytes with back-pressure
wire           a ZMTP client of one channel of a kernel, for the session
zmtp           ZMTP's framing within bounds
transports     how the channels reach into the sandbox: `ipc`, `forward`
remedies       what raises a limit that was reached, in the words of the door
known_packages  which package brings a module, and the ones that people ask for most
engines/       Docker and bubblewrap: they know containers and processes, and nothing of kernels
"""
