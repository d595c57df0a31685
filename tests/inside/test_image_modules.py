"""The image's modules in a kernel: fewer steps to find them, found where the path says, and like any other module."""

from __future__ import annotations

import json
from typing import Any

from kernel_sandbox import Session

MODULES = """import importlib, importlib.metadata, importlib.resources, json, pkgutil, sys
importlib.invalidate_caches()
import numpy, pandas, matplotlib.pyplot
def told(module):
    spec = module.__spec__
    return dict(
        file=getattr(module, '__file__', None), cached=getattr(module, '__cached__', None), package=module.__package__,
        path=list(getattr(module, '__path__', [])), loader=type(module.__loader__).__name__, spec=repr(spec)[:12],
        own=type(spec.loader).__name__, same=spec.loader is module.__loader__, origin=spec.origin, at=spec.cached,
        named=getattr(spec.loader, 'name', None), from_=getattr(spec.loader, 'path', None), place=spec.has_location,
        places=list(spec.submodule_search_locations or []), parent=spec.parent, text=len(module.__doc__ or ''),
    )
ours = ('numpy', 'pandas', 'matplotlib', 'dateutil', 'csv', 'decimal', 'fractions', 'email', 'xml')
print(json.dumps(dict(
    modules={name: told(one) for name, one in sys.modules.items() if name.partition('.')[0] in ours and one.__spec__},
    inner=[one.name for one in pkgutil.iter_modules(pandas.__path__)], version=importlib.metadata.version('pandas'),
    resource=importlib.resources.files('matplotlib').joinpath('mpl-data/matplotlibrc').is_file(),
    source=pandas.core.frame.__loader__.get_source('pandas.core.frame')[:100],
    again=importlib.reload(pandas.errors).__name__, absent=importlib.util.find_spec('pandas.not_there'),
    finders=[getattr(one, '__name__', type(one).__name__) for one in sys.meta_path if 'ix' not in repr(one)],
    hooks=len(sys.path_hooks),
)))"""
STOCK = f"""import subprocess, sys
print(subprocess.run([sys.executable, '-c', {MODULES!r}], capture_output=True, text=True, check=True).stdout)"""
OPENED = """import sys
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == 'open' else None)
import pandas
len([path for path in opened if str(path).endswith('.pyc')])"""


def told(session: Session, source: str) -> dict[str, Any]:
    ran = session.execute(source)
    assert ran.status == "ok", ran.text
    return dict(json.loads(ran.text))


def test_modules_are_those_of_any_python(engine: str) -> None:
    with Session(engine=engine, image="datascience") as session:
        found, expected = told(session, MODULES), told(session, STOCK)
        assert found.pop("modules") == expected.pop("modules")
        assert found == expected


def test_modules_come_from_the_archive(engine: str) -> None:
    with Session(engine=engine, image="datascience") as session:
        assert int(session.execute(OPENED).text) < 5


def test_files_of_the_user_come_before_the_images_modules(engine: str, by_itself: None) -> None:
    with Session(engine=engine, image="datascience") as session:
        session.files.write("pandas.py", "whose = 'mine'")
        session.files.write("matplotlib.py", "whose = 'mine'")
        assert session.execute("import matplotlib, pandas; matplotlib.whose, pandas.whose").text == "('mine', 'mine')"


def test_modules_of_the_user_are_found_beside_the_images(engine: str) -> None:
    with Session(engine=engine, image="datascience") as session:
        session.files.write("more/pandas/extra.py", "whose = 'mine'")
        source = "import pandas; pandas.__path__.insert(0, '/mnt/data/more/pandas'); import pandas.extra as e; e.whose"
        assert session.execute(source).text == "'mine'"
        session.execute("import sys; sys.path.insert(0, '/tmp'); open('/tmp/late.py', 'w').write('x = 1')")
        assert session.execute("import late; late.x").text == "1"
