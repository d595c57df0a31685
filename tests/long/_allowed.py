"""Where a sandboxed kernel may differ from the stock one, by test, and why."""

from __future__ import annotations

_WIDGETS = "it imports ipywidgets, which the image does not have"
_HOST_PATH = "its cells read or write a file of the host's, which a sandbox does not see"
_HOST_ENVIRONMENT = "its cells read a variable of the host's environment, which does not go in"

ALLOWED = {
    "tests/test_client.py::test_run_all_notebooks[JupyterWidgets.ipynb-opts7]": _WIDGETS,
    "tests/test_client.py::TestExecute::test_widgets": _WIDGETS,
    "tests/test_client.py::test_run_all_notebooks[Inline Image.ipynb-opts5]": _HOST_PATH,
    "tests/test_client.py::test_async_parallel_notebooks": _HOST_ENVIRONMENT,
    "tests/test_client.py::test_parallel_notebooks": _HOST_ENVIRONMENT,
    "papermill/tests/test_execute.py::TestCWD::test_execution_respects_cwd_assignment": _HOST_PATH,
    "papermill/tests/test_execute.py::TestCWD::test_pathlib_paths": _HOST_PATH,
}
"""A test, by its id, to the reason."""

SOMETIMES = {"tests/test_client.py::test_parallel_notebooks"}
"""Of those, what passes where its threads fail only after the two seconds that it waits for them."""

FAIL_ANYWAY = {
    "papermill/tests/test_execute.py::TestBrokenNotebook2::test": "its notebook imports what IPython 9 no longer has",
}
"""What fails with the stock kernel too, and why."""

NO_KERNEL = {
    f"papermill/tests/test_{name}.py": "a store of a cloud's: it starts no kernel, and wants that cloud's client"
    for name in ("abs", "adl", "gcs", "hdfs", "s3", "iorw")
}
"""What is left out for every kernel, and why."""
