"""For every control a run without it, in which an attack succeeds: a control that no attack notices is untested.

`test_removals.py` makes each attack twice, with the control in its place and without it. Nothing in the product
switches a control off: a removal patches its modules in the process of the test. `without/` has them, by where the
control is held.
"""

from __future__ import annotations

from tests.redteam.without import (
    channels,
    ends,
    guest,
    limits,
    messages,
    people,
    rights,
    service,
    shared,
    sockets,
    supply,
    surroundings,
    templates,
    values,
    walls,
)
from tests.redteam.without.removal import Removal

REMOVALS: dict[str, Removal] = {
    **walls.REMOVALS,
    **rights.REMOVALS,
    **limits.REMOVALS,
    **shared.REMOVALS,
    **guest.REMOVALS,
    **ends.REMOVALS,
    **sockets.REMOVALS,
    **channels.REMOVALS,
    **messages.REMOVALS,
    **values.REMOVALS,
    **people.REMOVALS,
    **surroundings.REMOVALS,
    **service.REMOVALS,
    **supply.REMOVALS,
    **templates.REMOVALS,
}

NOT_REMOVABLE: dict[str, str] = {
    "LSM": "the host's own, and used where it has one",
    "no setuid bits in the image": "a property of the built image; a test reads all of its files",
    "nosuid mounts": "what a cell makes setuid is its own user's, so nothing is gained; doctor tells of their absence",
    "templates without privileges": "a program that another user than root starts has none in any case; a test looks",
    "handshake before messages": "libzmq refuses such a peer as well, and holds nothing of it",
    "buffers and comms dropped": "no code of the host reads them: there is nothing that would let them in",
    "never unpickled, never unpacked": "no code of the host does either: there is nothing to switch off",
}
"""Controls without such a run, and why."""
