"""The package as a machine has it on which it is installed: `python -m tests.guest`.

Where the tests run (often a container, as root, on control groups v1) there is no systemd, no AppArmor, no user who is
not root and no second version of control groups. A guest in QEMU has them: Debian 13, made once by recipe.py and kept
in ~/.cache/kernel-sandbox-guest (some 6 GB), started and asked by machine.py. The checks are in checks.py; what runs
in the guest, in inside/. `python -m tests.guest --help` has the actions and the checks.

It needs root (to make the disk), the programs that `recipe.PROGRAMS` lists, 5 GB of memory and, once, the network.
The guest itself has none. Making the disk takes some four minutes, and taking over the engine's images three, once.
Translated by QEMU all is about ten times slower than here: starting takes a minute, a session 15 s, `redteam` half an
hour for each account and engine, and all other checks together as long. Nothing in it measures time.
"""
