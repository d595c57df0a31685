"""A cell that forks, at the moment when the kernel is still importing the image's modules ahead of their need."""

from __future__ import annotations

import pytest

from kernel_sandbox import Session
from kernel_sandbox.session.outputs import StreamOutput

CHILD = """if not pid:
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"""
POOL = """import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(sum(pool.map(abs, [-1, 2])))"""
LOCK = """import concurrent.futures, pandas
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(pool.submit(lambda: 3).result())"""


@pytest.mark.parametrize(
    "source",
    [
        "!echo 3",
        "%ls /proc/1/status\n!echo 3",
        "%%bash\necho 3",
        "import subprocess\nprint(subprocess.run(['echo', '3'], stdout=-1, text=True, preexec_fn=lambda: None).stdout)",
        f"import os\npid = os.fork()\n{CHILD}",
        POOL,
    ],
    ids=["command", "ls", "bash", "subprocess", "fork", "multiprocessing"],
)
def test_fork_in_the_first_cell_says_nothing(engine: str, source: str) -> None:
    with Session(engine=engine, image="datascience") as session:
        executions = [session.execute(text) for text in (source, source, LOCK)]
    for execution in executions:
        assert execution.status == "ok"
        assert [o.text for o in execution.outputs if isinstance(o, StreamOutput) and o.name == "stderr"] == []
        assert execution.text.split()[-1] == "3"
