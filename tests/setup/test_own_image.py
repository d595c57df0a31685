"""A user's own image: python3 and a Jupyter kernel are all that it needs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from kernel_sandbox import EngineError, KernelNotReady, SandboxSpec, Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.conftest import missing

KERNEL = {"argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Mine"}
DOCKERFILE = """
FROM kernel-sandbox/python:latest
COPY kernel.json /usr/share/jupyter/kernels/mine/kernel.json
ENV MINE=1 PYTHONPATH=/mnt/data/lib
"""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if reason := missing("docker"):
        pytest.skip(reason)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, text in (("Dockerfile", DOCKERFILE), ("kernel.json", json.dumps(KERNEL))):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    tag = "kernel-sandbox-test/mine:1"
    connect().images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    yield tag
    connect().images.remove(tag, force=True)


def test_kernel_is_started_by_its_own_command(image: str) -> None:
    with Session(engine="docker", spec=SandboxSpec(image=image, kernel="mine")) as session:
        assert session.execute("import os; os.environ['MINE'], os.getcwd()").text == "('1', '/mnt/data')"
        assert session.execute("while True: pass", timeout=1).status == "timeout"
        session.restart()
        assert session.execute("import os; os._exit(4)").error is not None
        session.restart()
        assert session.execute("1 + 1").text == "2"


def test_python_path_into_the_data_is_the_kernels_alone(image: str) -> None:
    """What makes kernels is made anew when a cell has killed it, and imports ipykernel again."""
    planted = "open('/mnt/data/imported', 'w').close()\nraise ImportError"
    others = "[int(pid) for pid in os.listdir('/proc') if pid.isdigit() and int(pid) not in (1, os.getpid())]"
    with Session(engine="docker", spec=SandboxSpec(image=image)) as session:
        session.files.write("lib/mine.py", "value = 7")
        for name in ("zmq", "ipykernel", "tornado"):
            session.files.write(f"lib/{name}.py", planted)
        session.execute(f"import os, signal\nfor pid in {others}: os.kill(pid, signal.SIGKILL)").raise_for_error()
        session.restart()
        assert session.execute("import mine, os; mine.value, os.path.exists('imported')").text == "(7, False)"


def test_kernel_that_the_image_lacks_is_named(image: str) -> None:
    with (
        pytest.raises(KernelNotReady, match="no Jupyter kernel named 'other'"),
        Session(engine="docker", spec=SandboxSpec(image=image, kernel="other")),
    ):
        pass


def test_image_without_python_is_told_what_it_lacks() -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    connect().api.import_image_from_data(empty.getvalue(), repository="kernel-sandbox-test/empty", tag="1")
    try:
        with (
            pytest.raises(EngineError, match="has no python3"),
            Session(engine="docker", image="kernel-sandbox-test/empty:1"),
        ):
            pass
    finally:
        connect().images.remove("kernel-sandbox-test/empty:1", force=True)
