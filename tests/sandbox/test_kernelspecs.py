"""Kernels that are not Python's, of images made here: their kernelspecs, their ports, and what is wrong with them."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from kernel_sandbox import KernelNotReady, SandboxSpec, Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.conftest import missing
from tests.languages import require_image

UNNAMED = b'FROM kernel-sandbox/javascript\nLABEL org.kernel-sandbox.kernel=""\n'
BARE = UNNAMED + b"USER 0\nRUN rm -r /usr/local/share/jupyter\n"
PYTHON = ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
KERNELS: dict[str, dict[str, Any]] = {
    "ports": {
        "argv": PYTHON,
        "metadata": {"transport": "tcp"},
        "env": {"PLACE": "{resource_dir}/x", "MORE": "${LANG}!"},
    },
    "broken": {"argv": ["sh", "-c", "echo the disk is on fire >&2; exit 3"]},
    "absent": {"argv": ["no-such-program", "{connection_file}"]},
    "empty": {"display_name": "No command"},
}


def build(tag: str, files: dict[str, bytes]) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    connect().images.build(fileobj=context, custom_context=True, tag=tag, rm=True, network_mode="none")


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if reason := missing("docker"):
        pytest.skip(reason)
    files = {f"kernels/{name}/kernel.json": json.dumps(told).encode() for name, told in KERNELS.items()}
    files |= {
        "kernels/torn/kernel.json": b"{",
        "Dockerfile": b"FROM kernel-sandbox/python\nCOPY kernels /usr/share/jupyter/kernels",
    }
    build("kernel-sandbox-test/kernels:1", files)
    yield "kernel-sandbox-test/kernels:1"
    connect().images.remove("kernel-sandbox-test/kernels:1", force=True)


def test_kernel_on_ports_is_reached_and_its_kernelspec_honoured(image: str) -> None:
    with Session(engine="docker", image=image, kernel="ports", env={"OWN": "1"}) as session:
        shown = "import os; [os.environ[name] for name in ('PLACE', 'MORE', 'OWN')]"
        assert session.execute(shown).text == "['/usr/share/jupyter/kernels/ports/x', 'C.UTF-8!', '1']"
        assert session.execute("while True: pass", timeout=1).kept == "all"
        session.restart()
        assert session.execute("1 + 1").text == "2"


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("other", "no Jupyter kernel named 'other' .it has absent, broken"),
        ("../../etc", "no Jupyter kernel named"),
        ("broken", r"exited with status 3(.|\n)*the disk is on fire"),
        ("absent", "'no-such-program' cannot be run"),
        ("empty", "names no command"),
        ("torn", "cannot be read"),
    ],
)
def test_kernel_that_cannot_start_is_told_in_one_message(image: str, kernel: str, said: str) -> None:
    with pytest.raises(KernelNotReady, match=said), Session(engine="docker", image=image, kernel=kernel):
        pass


def test_image_without_a_kernel_says_so() -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    require_image("docker", "javascript")
    tag = "kernel-sandbox-test/bare:1"
    build(
        tag,
        {"Dockerfile": BARE},
    )
    try:
        with (
            pytest.raises(KernelNotReady, match="the image has no Jupyter kernel"),
            Session(engine="docker", image=tag),
        ):
            pass
    finally:
        connect().images.remove(tag, force=True)


def test_only_kernel_of_an_image_needs_no_name() -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    require_image("docker", "javascript")
    tag = "kernel-sandbox-test/single:1"
    build(tag, {"Dockerfile": UNNAMED})
    try:
        with Session(engine="docker", spec=SandboxSpec(image=tag)) as session:
            assert session.execute("6 * 7").text == "42"
            assert session.language.name == "typescript"
    finally:
        connect().images.remove(tag, force=True)


def test_program_of_a_cell_in_the_kernels_place_is_not_spoken_to(image: str) -> None:
    """The kernel gives its shell port up, and a child listens there: no client gets what it says."""
    take = """
import gc, json, os, socket, threading, zmq
home = os.environ["HOME"]
told = json.load(open(os.path.join(home, next(name for name in os.listdir(home) if name.endswith(".json")))))
heard = []
def listen():
    while True:
        try:
            own = socket.create_server(("127.0.0.1", told["hb_port"]))
            heard.append("listens")
            break
        except OSError:
            pass
    while True:
        try:
            heard.append(own.accept()[0].recv(10))
        except OSError:
            pass
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.instance().heartbeat.context.destroy(linger=0)
threading.Thread(target=listen, daemon=True).start()
"""
    with Session(engine="docker", image=image, kernel="ports") as session:
        session.execute(take)
        client = BlockingKernelClient(connection_file=str(session.connection_file))
        client.load_connection_file()
        client.start_channels(shell=False, iopub=False, stdin=False, control=False, hb=True)
        time.sleep(3)
        client.stop_channels()
        heard = session.execute("heard").text
        assert heard.startswith("['listens'")
        assert "\\xff" not in heard, "a client's greeting"
