"""Looks around in a sandbox, and prints what it finds as JSON: read as text by test_surroundings.py, run as a cell."""

from __future__ import annotations

import asyncio
import getpass
import grp
import importlib
import json
import locale
import mimetypes
import os
import platform
import pwd
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ETC = ["hostname", "hosts", "nsswitch.conf", "protocols", "resolv.conf", "services", "mime.types", "timezone"]
KINDS = [
    "csv",
    "docx",
    "gz",
    "ipynb",
    "json",
    "md",
    "parquet",
    "pptx",
    "svg",
    "toml",
    "txt",
    "webp",
    "xlsx",
    "yaml",
    "zip",
]
COMMANDS = """
awk base64 bash basename bc bunzip2 bzcat bzip2 cat chmod clear cmp column comm cp cut date dd df diff dirname du echo
egrep env expr file find flock fold free getconf getent grep groups gunzip gzip head hexdump hostname iconv id join
kill ldd less ln locale ls lscpu md5sum mkdir mkfifo mktemp more mv nice nl nohup nproc numfmt od openssl paste perl
pgrep pidof pkill pr printenv printf ps pwd readlink realpath rev rm rmdir sdiff sed seq setsid sh sha1sum sha256sum
shuf sleep sort split stat stty sum tac tail tar taskset tee test time timeout top touch tput tr truncate tsort tty
uname unexpand uniq unxz unzip uptime vmstat watch wc which who whoami xargs xxd xz xzcat yes zcat zgrep zip zipinfo
"""

found: dict[str, Any] = {}
user = os.getuid()


def answer(name: str, ask: Callable[[], Any]) -> None:
    try:
        found[name] = ask()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is what a cell would meet
        found[name] = f"{type(exc).__name__}: {exc}"


def shell(line: str) -> str:
    return subprocess.run(line, shell=True, executable="/bin/bash", capture_output=True, text=True, check=False).stdout


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def listen() -> list[str]:
    """Listen on all addresses of `localhost`, in an event loop of its own: a cell runs in the kernel's."""

    async def serve() -> list[str]:
        async with await asyncio.start_server(lambda *streams: None, "localhost", 0) as server:
            return [str(one.getsockname()[0]) for one in server.sockets]

    with ThreadPoolExecutor() as threads:
        return threads.submit(asyncio.run, serve()).result()


def in_zone(name: str) -> list[Any]:
    """Ask the C library for a moment in another time zone."""
    os.environ["TZ"] = name
    time.tzset()
    then = time.localtime(1_000_000_000)
    os.environ["TZ"] = "UTC"
    time.tzset()
    return [then.tm_zone, then.tm_hour]


def account() -> list[Any]:
    """Ask who this is, with nothing in the environment."""
    line = pwd.getpwuid(user)
    names = [os.environ.pop("USER"), os.environ.pop("LOGNAME"), getpass.getuser()]
    return [*names, *line[:2], *line[4:], pwd.getpwnam("sandbox").pw_uid == user]


def packages() -> list[list[str]]:
    working_set = importlib.import_module("pkg_resources").working_set  # what AutoGen's executor asks
    return sorted([one.project_name, one.version, one.key] for one in working_set)


def limits() -> dict[str, Any]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_NPROC"]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


answer("localhost", lambda: sorted({one[4][0] for one in socket.getaddrinfo("localhost", 80)}))
answer("own name", lambda: [socket.gethostname(), socket.gethostbyname(socket.gethostname()), socket.getfqdn()])
answer("reverse", lambda: socket.gethostbyaddr("127.0.0.1")[0])
answer("ip6-localhost", lambda: socket.getaddrinfo("ip6-localhost", 80)[0][4][0])
answer("elsewhere", lambda: socket.gethostbyname("example.com"))
answer("service", lambda: [socket.getservbyname("https"), socket.getprotobyname("tcp")])
answer("locale", lambda: [locale.setlocale(locale.LC_ALL, ""), locale.getlocale(), locale.getpreferredencoding()])
answer("encodings", lambda: [sys.getfilesystemencoding(), sys.stdout.encoding, sys.flags.utf8_mode])
answer("account", account)
answer("group", lambda: [grp.getgrgid(os.getgid()).gr_name, os.getgid() == user, os.getresuid() == (user,) * 3])
answer("file's owner", lambda: shell("touch mine; stat -c '%U %G %a' mine").split())
answer("homes", lambda: [os.path.expanduser(name) for name in ("~", "~sandbox", "~root", "~nobody", "~www-data")])
answer("users", lambda: [one.pw_name for one in pwd.getpwall()])
answer("whoami", lambda: shell("whoami; id -un; id -gn; hostname; getent hosts sandbox").split())
answer("etc", lambda: {name: read(f"/etc/{name}") for name in ETC})
answer("environment", lambda: dict(os.environ))
answer("places", lambda: [os.getcwd(), tempfile.gettempdir(), umask(), os.nice(0), sys.argv, sys.executable])
answer("times", lambda: [time.tzname, in_zone("Europe/Berlin"), shell("date +%Z; TZ=Asia/Tokyo date +%Z").split()])
answer("zone", lambda: str(zoneinfo.ZoneInfo("Asia/Tokyo")))
answer("media types", lambda: {kind: mimetypes.guess_type(f"x.{kind}")[0] for kind in KINDS})
answer("certificates", lambda: [*ssl.get_default_verify_paths(), len(ssl.create_default_context().get_ca_certs()) > 90])
answer("system", lambda: [platform.system(), bool(platform.freedesktop_os_release()["NAME"]), sys.prefix])
answer("devices", lambda: sorted(set(os.listdir("/dev")) - {"mqueue"}))
answer("proc", lambda: sorted(name for name in os.listdir("/proc") if not name.isdigit()))
answer("processors", lambda: [os.cpu_count(), shell("nproc; lscpu | grep '^CPU(s)'").split()])
answer("limits", limits)
answer("server", listen)
answer("port 80", lambda: socket.create_server(("127.0.0.1", 80)).close())
words = " ".join(COMMANDS.split())
answer("missing", lambda: shell(f"for name in {words}; do type -P $name >/dev/null || echo $name; done"))
answer("processes", lambda: [line.split(None, 7)[7] for line in shell("ps -ef").splitlines()[:4]])
answer("zip", lambda: shell("echo text > t; zip -q t.zip t && unzip -p t.zip t; xz -k t && xzcat t.xz; less t"))
answer("tools", lambda: shell("file -b t; echo 2^9 | bc; perl -MPOSIX -e 'print floor(7.9)'; tput -T xterm cols"))
answer("encoded", lambda: shell(r"printf 'caf\351' | iconv -f latin1 -t utf-8; free -m | wc -l; locale -a | wc -l"))
answer("packages", packages)
print(json.dumps(found))
