"""What a cell finds around it is the same on every engine: names, locale, commands, /etc, environment, limits.

surroundings.py is what looks, inside.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Limits, Session
from kernel_sandbox.sandbox.engines import NAMES, bubblewrap_profile
from tests.conftest import missing

PROBE = Path(__file__).with_name("surroundings.py").read_text()


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """What a cell finds on each engine."""
    if reason := "; ".join(filter(None, map(missing, NAMES))):
        pytest.skip(reason)
    told = {}
    for name in NAMES:
        with Session(engine=name, image="python", limits=Limits(memory="512m")) as session:
            told[name] = json.loads(session.execute(PROBE).raise_for_error().text)
    return told


def test_cell_finds_the_same_on_both_engines(found: dict[str, dict[str, Any]]) -> None:
    docker, bubblewrap = found["docker"], found["bubblewrap"]
    assert {name: value for name, value in docker.items() if bubblewrap[name] != value} == {}
    assert docker.keys() == bubblewrap.keys()


RIGHT: dict[str, Any] = {
    "localhost": ["127.0.0.1"],
    "own name": ["sandbox", "127.0.0.1", "localhost"],
    "reverse": "localhost",
    "service": [443, 6],
    "locale": ["C.UTF-8", ["en_US", "UTF-8"], "UTF-8"],
    "encodings": ["utf-8", "UTF-8", 0],
    "account": [*("sandbox",) * 3, "sandbox", "x", "sandbox", "/home/sandbox", "/bin/bash", True],
    "group": ["sandbox", True, True],
    "file's owner": ["sandbox", "sandbox", "644"],
    "homes": ["/home/sandbox", "/home/sandbox", "/root", "/nonexistent", "~www-data"],
    "users": ["root", "nobody", "sandbox"],
    "whoami": ["sandbox", "sandbox", "sandbox", "sandbox", "127.0.0.1", "localhost", "sandbox"],
    "server": ["127.0.0.1"],
    "port 80": None,
    "missing": "",
    "processes": ["CMD", "kernel-sandbox", "kernel-sandbox", "python3 -m ipykernel_launcher"],
    "zip": "text\ntext\ntext\n",
    "tools": "ASCII text\n512\n780\n",
    "encoded": "café3\n3\n",
}


@pytest.mark.parametrize("name", RIGHT)
def test_cell_finds_what_is_right(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found["bubblewrap"][name] == RIGHT[name]
    assert found["docker"][name] == RIGHT[name]


def test_cell_finds_times_and_kinds(found: dict[str, dict[str, Any]]) -> None:
    told = found["bubblewrap"]
    assert told["times"] == [["UTC", "UTC"], ["CEST", 3], ["UTC", "JST"]]
    assert told["elsewhere"].startswith("gaierror")
    assert [kind for kind, media in told["media types"].items() if media is None] == ["gz"]
    assert told["environment"]["HOSTNAME"] == "sandbox"
    assert "PWD" not in told["environment"]
    assert ["ipython", "ipython"] in [[name, key] for name, _, key in told["packages"]]


CORES = """
import json, os, subprocess
count = "import os; print([os.cpu_count(), os.sysconf('SC_NPROCESSORS_CONF'), os.sysconf('SC_NPROCESSORS_ONLN')])"
commands = (["python3", "-c", count], ["lscpu", "-p=core,socket,cpu"])
print(json.dumps([subprocess.run(command, capture_output=True, text=True).stdout for command in commands]))
"""


def test_cores_are_counted_as_on_the_host(engine: str) -> None:
    """By the files that libraries size their thread pools by, which are copies in bubblewrap."""
    on_host = subprocess.run([sys.executable, "-c", CORES], capture_output=True, text=True, check=True).stdout
    with Session(engine=engine, image="python") as session:
        found = json.loads(session.execute(CORES).raise_for_error().text)
    assert [lines_of(text) for text in found] == [lines_of(text) for text in json.loads(on_host)]


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_physical_cores_are_counted_as_on_the_host(engine: str) -> None:
    """joblib, as scikit-learn asks it; psutil reads the same files."""
    places = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology")
    cores = {((at / "physical_package_id").read_text(), (at / "core_id").read_text()) for at in places}
    count = "import joblib; joblib.cpu_count(only_physical_cores=True)"
    with Session(engine=engine, image="datascience", limits=Limits(cpus=64)) as session:
        assert session.execute(count).text == str(len(cores))


@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_sandbox_without_devices_of_its_own_is_told_and_runs(
    engine: str, by_itself: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another user than root makes it."""
    source = bubblewrap_profile._prepare_source()
    refused = source.replace("os.mknod(", "raise PermissionError; os.mknod(")
    assert refused != source
    monkeypatch.setattr(bubblewrap_profile, "_prepare_source", lambda: refused)
    with Session(engine=engine, image="python") as session:
        assert any("/dev/null" in words for words in session.weakened)
        written = session.execute("open('/dev/null', 'w').write('x'); len(open('/dev/urandom', 'rb').read(9))")
        assert written.text == "9"


def test_devices_do_what_they_are_for(engine: str) -> None:
    use = """
import errno, os, pty
assert open("/dev/null", "w").write("x") and not open("/dev/null").read()
assert open("/dev/zero", "rb").read(3) == bytes(3)
assert len({open(f"/dev/{kind}random", "rb").read(9) for kind in ("", "u")}) == 2
try: os.write(os.open("/dev/full", os.O_WRONLY), b"x")
except OSError as exc: assert exc.errno == errno.ENOSPC
try: os.open("/dev/tty", os.O_RDWR)
except OSError as exc: assert exc.errno == errno.ENXIO, exc
for number in pty.openpty(): os.close(number)
try: open("/dev/new", "w")
except OSError as exc: print(exc.errno in (errno.EROFS, errno.EACCES))
"""
    with Session(engine=engine, image="python") as session:
        assert session.execute(use).raise_for_error().text == "True\n"


def test_names_cannot_be_changed(engine: str) -> None:
    write = """
import contextlib
for name in ("passwd", "group", "hosts"):
    with contextlib.suppress(OSError), open(f"/etc/{name}", "a") as file: print(name)
    with contextlib.suppress(OSError): os.rename(f"/etc/{name}", f"/etc/{name}.old"); print(name)
"""
    with Session(engine=engine, image="python") as session:
        assert session.execute("import os" + write).raise_for_error().text == ""
        session.restart()
        assert session.execute("!whoami").text.split() == ["sandbox"]


def test_user_has_a_name_where_no_file_is_shared(docker: None) -> None:
    with Session(engine="docker", image="python", transport="forward") as session:
        for _ in range(2):
            assert session.execute("!whoami; getent hosts sandbox").text.split()[:2] == ["sandbox", "127.0.0.1"]
            session.restart()
