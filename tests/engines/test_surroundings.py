"""What a cell finds around it is the same on every engine: names, locale, commands, /etc, environment, limits.

surroundings.py is what looks, inside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Limits, Session
from kernel_sandbox.engines import NAMES
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
