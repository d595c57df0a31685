"""Every control taken away once, by where it is held; `removals` has them in one table.

seams       the names of what is taken away, and where each stands in the package
removal     what a removal is, and the ground that an attack stands on
edits       how an engine, or the guest, is told something else
walls       what the host's kernel holds of the profile: namespaces, mounts, what is seen of the host
rights      users, capabilities, and the calls that it takes
limits      what it holds in numbers
shared      what it has once for everybody, or counts for nobody
guest       PID 1, the kernels that it starts, restarts, files
ends        the end of a sandbox whose owner is gone, and the look from inside
sockets     the directory of a kernel's sockets
channels    gate and client
messages    validator and outputs
people      what reaches people and models
surroundings  where a command is started, and what is typed
service     keys and their scopes, pages of other sites
templates   what bubblewrap's sandboxes are forked from
supply      what images are made from
"""
