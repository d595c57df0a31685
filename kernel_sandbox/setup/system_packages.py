"""Installs a program with this system's own package manager, as root, without questions."""

from __future__ import annotations

import signal
import subprocess
from collections import deque

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs
from kernel_sandbox.setup.progress import Progress, Report

REFRESH = {
    "apt-get": ["apt-get", "update"],
    "apk": ["apk", "update"],
    "zypper": ["zypper", "--non-interactive", "refresh"],
}
"""Fetches the lists of packages; the other package managers do so by themselves."""
LINES_KEPT = 5


def install(command: list[str], stage: str, report: Report) -> None:
    """Run a package manager's command; where it fails, once more with new lists of packages.

    Raises EngineError with the last lines that it said. Ctrl-C lets it end in order, so that no package is left
    half installed.
    """
    status, said = _run(command, stage, report)
    refresh = REFRESH.get(command[0])
    if status and refresh:  # a fresh machine has no lists yet, and old ones name packages that are gone
        failed, why = _run(refresh, stage, report)
        status, said = _run(command, stage, report)
        said = f"{why}\n{said}" if failed else said
    if status:
        raise EngineError(f"{' '.join(command)} failed. The last that it said:\n{said}")


def _run(command: list[str], stage: str, report: Report) -> tuple[int, str]:
    """Run a command to its end; return its status and the last that it said."""
    report(Progress(stage, " ".join(command)))
    last: deque[str] = deque(maxlen=LINES_KEPT)
    environment = programs.environment(DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,  # Ctrl-C reaches it only from here, and not what it has started
    ) as manager:
        assert manager.stdout is not None
        try:
            for line in manager.stdout:
                if line.strip():
                    last.append(line.rstrip())
                    report(Progress(stage, line.strip(), done=0))
        except BaseException:
            # apt and dnf heed it while they download, and put it off while they install.
            manager.send_signal(signal.SIGINT)
            manager.communicate()
            raise
    return manager.returncode, "\n".join(last)
