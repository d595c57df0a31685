"""The names in a sandbox: its user, its groups, its hosts, as files of /etc. Pure; runs at both ends.

Every sandbox has a user id of its own, so these cannot be an image's. An engine shows them where it can bind files, and
PID 1 writes them elsewhere (`inside/main.py`).
"""

from __future__ import annotations

HOSTS = "127.0.0.1 localhost sandbox\n::1 ip6-localhost ip6-loopback\n"
"""`localhost` is IPv4 alone: a server that binds all of its addresses would fail where the loopback has no IPv6."""


def account_files(user: int) -> dict[str, str]:
    """Return the text of /etc/passwd, /etc/group and /etc/hosts, by their names, for a sandbox of this user id."""
    users = ("root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/bin/false")
    passwd = (*users, f"sandbox:x:{user}:{user}:sandbox:/home/sandbox:/bin/bash", "")
    group = ("root:x:0:", "tty:x:5:", "nogroup:x:65534:", f"sandbox:x:{user}:", "")
    return {"passwd": "\n".join(passwd), "group": "\n".join(group), "hosts": HOSTS}
