"""What an image's modules are like in a kernel: never half there, and the same however the kernel came to be."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from kernel_sandbox import SandboxError, SandboxSpec, Session

MODULES = ("numpy", "pandas", "matplotlib.pyplot")
PROBE = """import sys
def names(module):
    for name in list(vars(module)):
        getattr(module, name)
for name, module in list(sys.modules.items()):
    if name != __name__:
        assert not getattr(getattr(module, '__spec__', None), '_initializing', False), name
        names(module)
for name, wanted in {'pandas': 'DataFrame', 'numpy': 'ndarray', 'matplotlib': 'rcParams'}.items():
    if (module := sys.modules.get(name)) is not None:
        getattr(module, wanted)
"""
"""A library that adapts itself to others that are there (narwhals, and with it plotly, does so)."""

SETTINGS = f"""import contextlib, decimal, gc, importlib, io, json, locale, logging, os, signal, sys, warnings
for name in {MODULES!r}:
    importlib.import_module(name)
import matplotlib, numpy, pandas
described = io.StringIO()
with contextlib.redirect_stdout(described):
    pandas.describe_option()
ip = get_ipython()
def logger(one):
    return one.level, one.propagate, one.disabled, [type(handler).__name__ for handler in one.handlers]
own = ('JPY_PARENT_PID', 'JPY_SESSION_NAME')
print(json.dumps(dict(
    pandas=described.getvalue(),
    rc={{name: repr(value) for name, value in matplotlib.rcParams.copy().items()}},
    matplotlib=[matplotlib.get_configdir(), matplotlib.get_cachedir(), matplotlib.is_interactive()],
    styles=__import__("matplotlib.style").style.USER_LIBRARY_PATHS,
    numpy=[repr(numpy.get_printoptions()), numpy.geterr(), repr(numpy.geterrcall())],
    warnings=[repr(one) for one in warnings.filters],
    logging={{name: logger(one) for name, one in logging.root.manager.loggerDict.items() if hasattr(one, 'level')}},
    root=logger(logging.root),
    locale=[locale.setlocale(locale.LC_ALL), locale.getpreferredencoding()],
    streams=[(type(one).__name__, one.encoding, one.isatty(), one.closed) for one in (sys.stdout, sys.stderr)],
    gc=[gc.isenabled(), gc.get_threshold()],
    decimal=repr(decimal.getcontext()),
    environment={{name: value for name, value in os.environ.items() if name not in own}},
    signals=[repr(signal.getsignal(number)).split(' at ')[0] for number in range(1, 32) if number != signal.SIGUSR2],
    path=sys.path, cwd=os.getcwd(), main=sorted(name for name in vars(sys.modules['__main__']) if '__' in name),
    events={{name: [one.__name__ for one in ones] for name, ones in ip.events.callbacks.items()}},
    builtins=sorted(vars(__import__('builtins'))),
)))"""

STOCK = f"""import sys
from jupyter_client.manager import KernelManager
manager = KernelManager(transport='ipc', connection_file='/tmp/stock.json', ip='/tmp/stock')
start = "import runpy, sys; sys.modules['debugpy'] = None; runpy.run_module('ipykernel_launcher', run_name='__main__')"
manager.kernel_spec.argv[:-2] = [sys.executable, '-c', start]
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive({SETTINGS!r}, output_hook=lambda m: print(m['content'].get('text', ''), end=''), timeout=60)
manager.shutdown_kernel(now=True)"""
"""An ipykernel as anybody starts it, in a sandbox, from the same packages; but debugpy, which leaves traces."""


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
def test_library_that_looks_at_all_modules_finds_whole_ones(engine: str, wait: float) -> None:
    with Session(engine=engine, image="datascience") as session:
        time.sleep(wait)
        session.files.write("looks.py", PROBE)
        for _ in range(3):
            session.execute("import looks, importlib; importlib.reload(looks)").raise_for_error()


def settings(session: Session, source: str = SETTINGS) -> dict[str, Any]:
    ran = session.execute(source)
    assert ran.status == "ok", ran.text
    return dict(json.loads(ran.text))


@pytest.fixture(scope="module")
def stock() -> dict[str, Any]:
    """The settings of a kernel that nobody has preloaded anything into, by engine."""
    return {}


def expected(stock: dict[str, Any], engine: str) -> dict[str, Any]:
    if engine not in stock:
        with Session(engine=engine, image="datascience") as session:
            stock[engine] = settings(session, STOCK)
    return dict(stock[engine])


@pytest.mark.parametrize("preload", [None, MODULES, MODULES[::-1]], ids=["early", "pooled", "pooled otherwise"])
def test_settings_are_those_of_a_stock_kernel(engine: str, stock: dict[str, Any], preload: tuple[str, ...]) -> None:
    with Session(engine=engine, spec=SandboxSpec(image="datascience", preload=preload)) as session:
        assert settings(session) == expected(stock, engine)
        session.restart()
        assert settings(session) == expected(stock, engine)


def test_nothing_is_imported_ahead_before_the_first_restart(engine: str, by_itself: None) -> None:
    there = f"import sys; set({MODULES!r}) & set(sys.modules)"
    with Session(engine=engine, image="datascience") as session:
        session.execute("import pandas")
        time.sleep(6)
        session.restart()
        assert session.execute(there).text == "set()"


def test_settings_are_those_of_a_stock_kernel_after_idle_time(engine: str, stock: dict[str, Any]) -> None:
    there = f"import sys; set({MODULES!r}) <= set(sys.modules)"
    with Session(engine=engine, image="datascience") as session:
        session.restart()
        assert settings(session) == expected(stock, engine)
        while session.execute(there).text != "True":  # the zygote imports in its idle time
            time.sleep(3)
            session.restart()
        session.restart()
        assert settings(session) == expected(stock, engine)


def test_module_that_would_hang_in_a_fork_is_not_imported_ahead(quick: str) -> None:
    spec = SandboxSpec(image="python", preload=("polars",))
    with pytest.raises(SandboxError, match="would wait for ever"), Session(engine=quick, spec=spec):
        pass
