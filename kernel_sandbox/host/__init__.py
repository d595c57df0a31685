"""This process and this machine, as all rooms above need them. Nothing here talks to a sandbox.

directories     this user's directories
run_directory   a session's private directory, and who owns it
programs        where programs that we start are found, and the environment that they get
links           where links of the working directory lead, and what is written through them
reactor         the event loop, on a thread of its own, in which sandboxes live
affinity        the event loop that a session may be used from
forks           what a forked child does not take over
"""
