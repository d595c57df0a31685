"""Every control taken away once, by where it is held; `removals` has them in one table.

removal     what a removal is, and the ground that an attack stands on
walls       what the host's kernel holds of the profile: namespaces, privileges, system calls, mounts
limits      what the host's kernel holds in numbers
guest       PID 1, the kernels that it starts, restarts, files
ends        the end of a sandbox, when its owner is gone
channels    sockets, gate, client
messages    validator and outputs
people      what reaches people and models
"""
