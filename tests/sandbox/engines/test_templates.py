"""Sandboxes that a template forks: as those that bubblewrap starts, and nothing in common but what they began with."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import Limits, Mount
from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines import (
    bubblewrap_profile,
    bubblewrap_shelf,
    bubblewrap_template,
    environments,
    get_engine,
)
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import mapped_device
from kernel_sandbox.sandbox.engines.bubblewrap_profile import Profile
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import Standing, shelf
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.spec.values import SandboxSpec
from tests.sandbox.engines.forked import (
    FILTERS,
    children,
    groups,
    is_forked,
    keepers,
    of_group,
    opened,
    running_host,
    templates,
    until,
)
from tests.sandbox.engines.spoiled import spoiled

DRAWN = """
import multiprocessing, random, secrets, ssl, tempfile, uuid
import numpy
drawn = [random.random(), secrets.token_hex(), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names()),
         uuid.uuid4().hex, uuid._random_getnode(), uuid.getnode(),
         bytes(multiprocessing.current_process().authkey).hex(),
         numpy.random.random(), numpy.random.default_rng().random()]
print(*drawn)
"""
EXHAUST = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
kept = bytearray(200 * 1024**2)
"""

pytestmark = pytest.mark.usefixtures("from_templates")


def test_forked_session_has_the_modules_of_its_image_and_nothing_else_is_weakened() -> None:
    with opened("datascience") as session, opened("datascience", strict=True) as exact:
        assert is_forked(session)
        assert not is_forked(exact)
        assert session.execute("import sys; print('pandas' in sys.modules)").text == "True\n"
        more = set() if os.getuid() == 0 else {bubblewrap_profile.IN_REACH}
        assert set(session.weakened) == {*exact.weakened, *more}


def test_sandboxes_of_a_template_draw_other_values() -> None:
    with opened("datascience") as one, opened("datascience") as other:
        assert is_forked(one)
        assert is_forked(other)
        both = [session.execute(DRAWN).text.split() for session in (one, other)]
    assert len(both[0]) == 10
    assert not set(both[0]) & set(both[1])


def test_sandboxes_of_a_template_are_users_of_their_own() -> None:
    with opened() as one, opened() as other:
        assert is_forked(one)
        users = {session.execute("import os; print(os.getuid())").text for session in (one, other)}
        seen = one.execute("import os; print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit())[0])")
    assert len(users) == (2 if os.getuid() == 0 else len(users))
    assert seen.text == "1\n"


def test_session_that_takes_all_it_may_leaves_its_template_and_its_sibling_well() -> None:
    with opened() as sibling, opened(limits=Limits(memory="128m", pids=40)) as greedy:
        assert is_forked(greedy)
        assert greedy.execute(EXHAUST, timeout=20).status in ("dead", "timeout")
        assert sibling.execute("print(1)").text == "1\n"
        with opened() as another:
            assert is_forked(another)


def test_mount_and_strictness_have_bubblewrap_start_a_sandbox(tmp_path: Path) -> None:
    with opened(mounts=(Mount(tmp_path, "input"),)) as session:
        assert session.execute(FILTERS).text == "1\n"


def test_template_that_is_frozen_costs_two_seconds_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as session:
        assert is_forked(session)
        for template in templates():
            os.kill(template, signal.SIGSTOP)
        began = time.monotonic()
        with opened() as another:
            assert not is_forked(another)
        assert time.monotonic() - began < 6
        for template in templates():
            os.kill(template, signal.SIGCONT)
        assert "did not fork" in caplog.text
        assert session.execute("print(1)").text == "1\n"


def test_template_that_dies_takes_its_sandboxes_with_it_and_no_other() -> None:
    with opened() as session:
        assert is_forked(session)
        below = [process for template in templates() for process in of_group(template)[1:]]
        for template in templates():
            os.kill(template, signal.SIGKILL)
        assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below), 2)
        assert session.execute("print(1)").status == "dead"
        with opened() as another:
            assert another.execute("print(1)").text == "1\n"


def test_keeper_ends_with_its_template() -> None:
    with opened() as session:
        assert is_forked(session)
        assert len(keepers()) == 1
        os.kill(templates()[0], signal.SIGKILL)
        assert until(lambda: not keepers(), 2)


def held_processes() -> int:
    """How many descriptors this process has of processes (pidfd_open(2))."""
    places = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(place) == "anon_inode:[pidfd]" for place in places if place.is_symlink())


def test_sandbox_that_is_given_up_while_it_is_forked_is_ended() -> None:
    async def give_up(standing: Standing, spec: SandboxSpec, root: Path) -> None:
        profile = Profile(spec=spec, root=root, group=ControlGroup(), nested=os.getuid() != 0, shares_sockets=True)
        forking = asyncio.create_task(shelf().bear(standing, profile.forked_preparation(), ControlGroup()))
        await asyncio.sleep(0.3)
        forking.cancel()
        os.kill(standing.template.process, signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await forking

    with opened() as session:
        [(standing, root)] = [(it.standing, it.environment.root) for it in shelf()._kinds.values() if it.standing]
        before = children(standing.template.process), held_processes()
        os.kill(standing.template.process, signal.SIGSTOP)
        standing.living += 1
        asyncio.run(give_up(standing, session.spec, root))
        time.sleep(0.5)
        assert (children(standing.template.process), held_processes()) == before
        assert is_forked(session)


@pytest.mark.parametrize("error", [EngineError, RuntimeError])
def test_template_that_cannot_be_started_is_said(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: object) -> int:
        raise error("it cannot be started")

    monkeypatch.setattr(bubblewrap_template, "_start_keeper", fail)
    with opened() as session:
        assert session.execute(FILTERS).text == "1\n"
    assert "each starts by itself: it cannot be started" in caplog.text


def test_host_that_is_killed_takes_template_and_sandboxes_with_it() -> None:
    with running_host() as host:
        below = of_group(host.pid)[1:]
        left = groups(below)
        assert len(below) > 6
        host.kill()
        host.wait()
    assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below))
    asyncio.run(get_engine("bubblewrap").collect_garbage())
    assert not [place for place in left if place.exists()]


def test_template_of_a_process_that_ends_leaves_nothing() -> None:
    with running_host() as host:
        below = of_group(host.pid)[1:]
        template = [place for place in groups(below) if "template" in place.name]
        assert template
        assert host.stdin is not None
        host.stdin.close()
        host.wait()
    assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below), 2)
    assert not [place for place in template if place.exists()]


def test_template_is_no_sandbox_in_the_list() -> None:
    with opened() as session:
        assert is_forked(session)
        found = asyncio.run(get_engine("bubblewrap").sandboxes())
        assert {info.session_id for info in found if info.owner_pid == os.getpid()} == {session.id}


def test_monitor_that_is_killed_takes_its_sandbox_and_no_other() -> None:
    with opened() as one, opened() as other:
        assert is_forked(one)
        assert is_forked(other)
        [template] = templates()
        monitors = children(template)
        assert len(monitors) == 2
        [first] = children(monitors[0])
        os.kill(monitors[0], signal.SIGKILL)
        assert until(lambda: not Path(f"/proc/{first}").exists())
        statuses = [session.execute("1").status for session in (one, other)]
        assert sorted(statuses) == ["dead", "ok"]


def test_keeper_that_is_frozen_costs_two_seconds_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as session:
        assert is_forked(session)
        [keeper] = keepers()
        os.kill(keeper, signal.SIGSTOP)
        began = time.monotonic()
        with opened() as another:
            assert not is_forked(another)
        assert time.monotonic() - began < 6
        assert "did not fork" in caplog.text
        os.kill(keeper, signal.SIGCONT)


@pytest.mark.parametrize("bound", ["number", "age"])
def test_template_is_renewed(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bound == "number":
        monkeypatch.setattr(bubblewrap_shelf, "SERVES", 1)
    else:
        monkeypatch.setattr(bubblewrap_shelf, "OLDEST", 0.0)
    with opened() as one:
        assert is_forked(one)
        before = templates()
        with opened() as other:
            assert is_forked(other)
            assert len(templates()) >= 2  # and one that may follow
        assert one.execute("print(1)").text == "1\n"
        assert until(lambda: len(templates()) >= len(before))


def test_template_holds_no_descriptor_of_its_host() -> None:
    secret = os.open("/etc/passwd", os.O_RDONLY)
    high = fcntl.fcntl(secret, fcntl.F_DUPFD, 400)
    os.set_inheritable(secret, True)
    try:
        with opened() as session:
            assert is_forked(session)
            held = {process: os.listdir(f"/proc/{process}/fd") for process in of_group(keepers()[0])}
            links = [os.readlink(f"/proc/{process}/fd/{fd}") for process, fds in held.items() for fd in fds]
        assert "/etc/passwd" not in links
    finally:
        os.close(secret)
        os.close(high)


@pytest.fixture
def closed_mask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_host_that_lets_nobody_see_its_files_has_templates(closed_mask: None) -> None:
    with opened() as session:
        assert is_forked(session)


def test_environment_below_tmp_has_templates() -> None:
    with spoiled("python", {}, below=Path("/tmp")), opened() as session:
        assert is_forked(session)


def test_device_of_an_images_files_is_what_a_template_maps() -> None:
    """Which stat(2) does not tell on btrfs."""
    with opened() as session:
        assert is_forked(session)
        lines = [line.split() for line in Path(f"/proc/{templates()[0]}/maps").read_text().splitlines()]
    devices = {fields[3] for fields in lines if fields[-1].startswith("/opt/")}
    assert devices == {mapped_device(environments.find("python").root)}


def test_template_has_no_privilege_and_sees_no_process() -> None:
    with opened() as session:
        assert is_forked(session)
        [template] = templates()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{template}/status").read_text().splitlines())
        assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
        assert str(os.getuid()) not in status["Uid"].split() or os.getuid() != 0
        assert not [name for name in os.listdir(f"/proc/{template}/root/proc") if name.isdigit()]
        [(first, count)] = [line.split()[1:] for line in Path(f"/proc/{template}/uid_map").read_text().splitlines()]
        assert int(first) > 0 or os.getuid() != 0
        assert int(count) <= 1_000_000_000


def test_forked_host_does_not_ask_its_parents_template() -> None:
    with opened() as session:
        assert is_forked(session)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with opened() as own:
                    status = 0 if is_forked(own) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert session.execute("print(1)").text == "1\n"


SHARING = "import builtins, mmap; builtins.common = mmap.mmap(-1, 4096)"
THREADED = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"


@pytest.mark.parametrize("source", [SHARING, THREADED], ids=["memory", "thread"])
def test_module_that_sandboxes_cannot_have_in_common_has_each_start_by_itself(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    with spoiled("python", {"common_thing.py": source}), opened(preload=("common_thing",)) as session:
        assert session.execute(FILTERS).text == "1\n"
        assert session.execute("import sys; print('common_thing' in sys.modules)").text == "True\n"
    assert "emplate" in caplog.text
