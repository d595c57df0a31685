"""For every control a run without it, in which an attack succeeds: a control that no attack notices is untested.

`test_removals.py` makes each attack twice, with the control in its place and without it. Nothing in the product
switches a control off: a removal patches its modules in the process of the test.
"""

from __future__ import annotations

from .without import channels, ends, guest, limits, walls
from .without.removal import Removal

# Names of the controls; the table is being filled group by group (this list goes when REMOVALS is complete).
PLANNED = """
no network | pid namespace | ipc namespace | uts namespace | cgroup namespace | devices of its own
drop all capabilities | no-new-privileges | uid of its own
seccomp allow-list | socket families | native architecture only | namespaces refused | TIOCSTI refused
read-only root | read-only mounts | kernel settings read-only | noexec mounts | nodev mounts
tmpfs sizes | tmpfs inodes | memory limit | cpu limit | pids limit
ulimit core | ulimit fsize | ulimit nofile | ulimit msgqueue | ulimit memlock | ulimit sigpending
log driver none | masked paths | environment allow-list
self-check
PID 1 not dumpable | zygote not dumpable | no nodes | not root | host stream closed in kernels | death watcher | restart leaves no survivor | fresh home
dead-man's switch | restart policy and removal | owner labels
socket directory locked | sockets pinned | private run directory
guest protocol: frame size
gate: greeting | gate: frame size | gate: message size | gate: parts per message | gate: command size
gate: number of commands | gate: least message size
sends never wait | back-pressure (RCVHWM) | bound on violations | random message ids | idle grace | escalation: restart
validator: signature | validator: schema | validator: size of headers | validator: number of values
validator: unknown types | validator: payloads dropped | validator: depth | validator: NaN | validator: surrogates
validator: integers | validator: media types | validator: metadata rewritten | validator: tracebacks
validator: tables by a list of types
output cap: cell | output cap: session | output cap: number of outputs | output cap: live events
prompts one at a time | input refused
files: names resolved inside | files: links not followed | files: regular files only | files: byte cap
files: uploads replace | files: listing bounded
artifacts: harmless names | artifacts: budget
terminal cleaning | transcript never signed | exports: allow-list of tags | exports: content security policy
magic: isolated frame | markdown made harmless | data for models made visible
"""

REMOVALS: dict[str, Removal] = {**walls.REMOVALS, **limits.REMOVALS, **guest.REMOVALS, **ends.REMOVALS, **channels.REMOVALS}

NOT_REMOVABLE: dict[str, str] = {
    "LSM": "used where the host has one; this control is the host's own",
    "no setuid bits in the image": "a property of the built image, which the test of the image's files reads",
    "nosuid mounts": "what a cell makes setuid is its own user's: nothing is gained; the self-check tells of its absence",
    "handshake before messages": "libzmq refuses such a peer as well, and holds nothing of it",
    "buffers and comms dropped": "no code of the host reads them: there is nothing that lets them in",
    "never unpickled, never unpacked": "no code of the host does either: there is nothing to switch off",
}
