"""Check kernel-sandbox in a guest: Debian 13 with systemd, control groups v2, AppArmor and Docker 26, in QEMU.

Without an action everything is done: the disk is made where there is none, the guest started, every check made as
everybody whom it is for, the guest shut down. Each check says what is wrong, or ok, and its seconds.

actions:
  make    make the disk, where there is none of this recipe (some four minutes; as root)
  up      start the guest and leave it running; checks then use it
  down    shut it down
  shell   log in as --as; HEAD is in /srv/kernel-sandbox, a Python that finds it is /opt/checks/bin/python
  check   make the checks that are named, or all

examples:
  python -m tests.guest                         everything; without hardware for it (--kvm), some hours
  python -m tests.guest check doctor limits     two checks, as everybody
  python -m tests.guest check --as user limits  one check, as an ordinary user
  python -m tests.guest up && python -m tests.guest shell --as member

Checks see HEAD: commit first. What commands say in the guest is in output.txt, beside the disk. Docker's images come
from the engine of this machine (tests/run builds them). Exit status: 0 all is well, 1 something is wrong.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.guest import recipe
from tests.guest.checks import CHECKS
from tests.guest.machine import ACCOUNTS, Machine
from tests.guest.recipe import CannotMake

KEPT = Path("~/.cache/kernel-sandbox-guest")


def main() -> int:
    options = parse()
    machine = Machine(options.dir.expanduser().resolve(), memory=options.memory, kvm=options.kvm, port=options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        return act(machine, options)
    except CannotMake as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse() -> argparse.Namespace:
    checks = "\n".join(f"  {name:<10}{check.about}" for name, check in CHECKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.guest",
        description=__doc__,
        epilog=f"checks:\n{checks}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", default="check", choices=("make", "up", "down", "shell", "check"))
    parser.add_argument("names", metavar="NAME", nargs="*", help="checks; all of them where none is named")
    parser.add_argument("--as", dest="accounts", action="append", choices=ACCOUNTS, help="only as this account")
    parser.add_argument("--dir", type=Path, default=KEPT, help=f"where the guest is kept (default {KEPT})")
    parser.add_argument("--memory", default="5G", help="of the guest (default 5G)")
    parser.add_argument("--port", type=int, default=0, help="of this machine that leads to ssh (default: a free one)")
    parser.add_argument("--kvm", action="store_true", help="let the processor run it: ten times faster, where it can")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(CHECKS)):
        parser.error(f"no check {', '.join(unknown)}: choose from {', '.join(CHECKS)}")
    return options


def act(machine: Machine, options: argparse.Namespace) -> int:
    if options.action == "down":
        machine.shut_down()
        return 0
    if not recipe.is_made(machine.directory):
        print("making the disk, once: some minutes", flush=True)
        machine.shut_down()
        recipe.make(machine.directory)
    if options.action == "make":
        return 0
    if options.action == "check":
        with machine.running():
            return check(machine, options.names or list(CHECKS), options.accounts or list(ACCOUNTS))
    if machine.process is None:
        machine.boot()
        machine.update()
    if options.action == "shell":
        return subprocess.run(
            ["ssh", "-t", *machine.ssh((options.accounts or ["root"])[0])[1:]], check=False
        ).returncode
    return 0


def check(machine: Machine, names: list[str], accounts: list[str]) -> int:
    """Make these checks as these accounts, and return the exit status."""
    counted = 0
    for name in names:
        for account in (account for account in CHECKS[name].accounts if account in accounts):
            print(f"{name} as {account}", flush=True)
            started = time.monotonic()
            try:
                wrong = CHECKS[name].run(machine, account)
            except Exception as exc:  # noqa: BLE001 (a check that breaks is wrong, and the others are made all the same)
                wrong = [f"it broke off: {type(exc).__name__}: {exc}"]
            counted += len(wrong)
            for sentence in wrong:
                print(f"    {sentence}")
            print(
                f"{name} as {account}: {len(wrong) or 'ok, nothing'} wrong, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    print(f"\n{counted} wrong." if counted else "\nAll is well.")
    return 1 if counted else 0


if __name__ == "__main__":
    sys.exit(main())
