"""Installing with a package manager: a small one of our own, since nothing is to be installed here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kernel_sandbox.errors import EngineError
from kernel_sandbox.setup import system_packages
from kernel_sandbox.setup.progress import Progress

MANAGER = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$1" in
    update) touch lists; echo "Get:1 lists" ;;
    install)
        echo "Reading package lists..."
        [ -e lists ] || { echo "E: Unable to locate package $2" >&2; exit 100; }
        [ "$2" = absent ] && { echo "E: $2 has no installation candidate" >&2; exit 100; }
        [ "$2" = slow ] && { trap 'rm -f half; exit 100' INT; touch half; echo half; while :; do sleep 0.05; done; }
        [ "$DEBIAN_FRONTEND" = noninteractive ] && touch "$2" ;;
esac
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "apt-get"
    path.write_text(MANAGER)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path


def test_install_fetches_the_lists_where_it_must(manager: Path) -> None:
    moments: list[Progress] = []
    system_packages.install(["apt-get", "install", "hello"], "install", moments.append)
    assert manager.with_name("hello").exists()
    commands = [moment.detail for moment in moments if moment.done is None]
    assert commands == ["apt-get install hello", "apt-get update", "apt-get install hello"]
    system_packages.install(["apt-get", "install", "again"], "install", moments.append)
    assert [moment.detail for moment in moments if moment.done is None][3:] == ["apt-get install again"]


def test_failed_install_quotes_the_last_lines(manager: Path) -> None:
    with pytest.raises(EngineError, match=r"(?s)apt-get install absent failed.*absent has no installation candidate"):
        system_packages.install(["apt-get", "install", "absent"], "install", lambda moment: None)


def test_interrupted_install_may_clean_up(manager: Path) -> None:
    manager.with_name("lists").touch()

    def interrupt(moment: Progress) -> None:
        if moment.detail == "half":
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        system_packages.install(["apt-get", "install", "slow"], "install", interrupt)
    assert time.monotonic() - started < 10
    assert not manager.with_name("half").exists()
