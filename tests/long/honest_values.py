"""Values as honest code shows them, in a session and in a stock kernel: whatever differs was lost or altered.

The values are made from a seed as expressions, so that both kernels make them anew: plain values and nested ones,
dates, NumPy's and pandas', every class of IPython.display, objects with representations of their own, raw MIME
bundles, errors and prints. The stock kernel runs in a sandbox of the same image, with jupyter_client's own client
beside it, and with nothing of ours in it: the same versions, and a reader of messages that is not ours.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kernel_sandbox import Limits, Session
from kernel_sandbox.session.outputs.tables import TABLE_TYPE
from tests.long._asked import Asked

SEED, VALUES, BATCH = 12, 20_000, 100

PREAMBLE = """
import array, collections, datetime, decimal, enum, fractions, math, os, pathlib, sys, types, uuid, warnings
import numpy as np, pandas as pd
import IPython.display as D
from IPython.display import display
warnings.simplefilter("ignore")
os.makedirs("/tmp/own", exist_ok=True)
os.chdir("/tmp/own")
get_ipython().InteractiveTB.set_mode("Plain")
open("note.txt", "w").write("x")
PNG = b"\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\rIHDR\\0\\0\\0\\2\\0\\0\\0\\3\\10\\6\\0\\0\\0"
GIF = b"GIF89a\\1\\0\\1\\0\\0\\0\\0;"
JPEG = b"\\xff\\xd8\\xff\\xc0\\0\\x0b\\x08\\0\\1\\0\\2\\1\\1\\x11\\0\\xff\\xd9"
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='3' height='4'><g/></svg>"
Colour = enum.Enum("Colour", "RED GREEN")
Point = collections.namedtuple("Point", "x y")
def shows(**methods):
    "An object with these representations."
    return type("Shown", (), {f"_repr_{name}_": (lambda self, *_, v=value, **__: v() if callable(v) else v)
        for name, value in methods.items()} | {"__repr__": lambda self: "shown"})()
def raises(error):
    "A representation that fails."
    def fail():
        raise error
    return fail
class Prints:
    "An object whose representation is this."
    def __init__(self, text):
        self.text = text
    def __repr__(self):
        return self.text
def error(name, *arguments, **members):
    "An error of a class of its own."
    return type(name, (Exception,), members)(*arguments)
def show_error(made):
    try:
        raise made
    except BaseException:
        get_ipython().showtraceback()
"""

STOCK = """
import json, sys
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
manager = KernelManager(transport="ipc", ip="/tmp/stock", kernel_name="python3")
manager._kernel_spec = KernelSpec(
    argv=[sys.executable, "-P", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    display_name="stock",
    language="python",
)
manager.start_kernel(stdout=-3, stderr=-3)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
for place, source in enumerate(json.load(open("/mnt/data/cells.json"))):
    told = []
    def hear(message):
        told.append([message["msg_type"], message["content"]])
    reply = client.execute_interactive(source, output_hook=hear, timeout=120, allow_stdin=False)
    with open(f"/mnt/data/stock-{place}.json", "w") as file:
        json.dump([told, reply["content"]["status"]], file, default=str)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""
START = """
import subprocess, sys
ran = subprocess.run([sys.executable, "-P", "/mnt/data/stock.py"], capture_output=True, text=True)
assert ran.returncode == 0, ran.stderr[-3000:]
"""

ODD = r"""
é 日本 🙂 \u200d \u202e \x00 \x07 \x1b[31m \x1b]0;t\x07 \r \n \t \x0b \x85 \u2028 \ufeff \ufffd \ufffe \U0010ffff
\udce9 \udc80 <b> &amp; \' \" \\\\ $x$ { %s a b c x y z 0 1 9
"""
EXPRESSIONS = {
    "number": r"""
@n ; -@n ; 2**53 + 1 ; 2**64 ; -(2**63) ; 10**@n ; @n / 7 ; -@n * 1e300 / 3 ; float('nan') ; float('inf')
-float('inf') ; -0.0 ; 5e-324 ; 0.1 + 0.2 ; 1e16 ; complex(1, float('nan')) ; True ; 1j
""",
    "moment": r"""
datetime.date(@n * 7, 2, 3) ; datetime.datetime(2024, 1, 2, 3, 4, 5, @n) ; datetime.time(@n % 24, @n % 60)
datetime.datetime(1, 1, 9, tzinfo=datetime.timezone(datetime.timedelta(minutes=@n))) ; datetime.timedelta(@n, @n, @n)
pd.Timestamp('2024-03-31', tz='Europe/Berlin') ; pd.NaT ; pd.NA ; pd.Timedelta(@n, 'ns') ; pd.Period('2024-03')
np.datetime64('2024-01-02') + @n
""",
    "odd": r"""
... ; NotImplemented ; Colour.RED ; Point(@n, @number) ; range(@n) ; frozenset([@n]) ; decimal.Decimal('@n.10')
decimal.Decimal('NaN') ; fractions.Fraction(@n, 7) ; pathlib.Path(@text) ; uuid.UUID(int=@n) ; bytes(range(@n % 256))
bytearray(@n) ; array.array('d', [@n]) ; types.SimpleNamespace(a=@number) ; collections.Counter([@n]) ; slice(@n) ; int
len ; sys ; collections.deque([@text]) ; collections.OrderedDict(a=@n) ; memoryview(b'xy').tolist()
""",
    "array": r"""
np.int8(@n % 100) ; np.uint64(2**63 + @n) ; np.float16(@n) ; np.float32(@n / 3) ; np.complex64(1j) ; np.bool_(True)
np.longdouble(@n) / 3 ; np.arange(@n).astype('float16') ; np.arange(@n * 7).reshape(@n, 7) ; np.arange(@n * 99) / 7
np.array([@number, @number], dtype=object) ; np.zeros(@n, dtype=[('a', 'i4'), ('b', 'U3')]) ; np.array([@text])
np.array([]) ; np.ma.masked_equal(np.arange(@n), 1) ; np.float64('nan') ; np.timedelta64(@n, 'D') ; np.array(@n)
np.str_('é') ; np.bytes_(b'x')
""",
    "table": r"""
pd.DataFrame({@text: pd.Series([@plain, @plain], dtype=object), 1: [1, 2]}) ; pd.Series([@plain, @plain], dtype=object)
pd.DataFrame({'a': range(3), 'b': [@number] * 3}).T ; pd.DataFrame(index=range(@n))
pd.DataFrame([[1]], columns=[@text])
pd.DataFrame([[1, 2]], columns=['a', 'a']) ; pd.DataFrame({'g': [1, 1], 'v': [@n, 2]}).groupby('g').agg(['sum', 'mean'])
pd.DataFrame({'p': pd.period_range('2024', periods=@n, freq='M')}) ; pd.date_range('2024', periods=@n, tz='UTC')
pd.DataFrame({'i': pd.interval_range(0, @n)}) ; pd.Categorical(['a', 'b', None]) ; pd.Index([@n, 2], name='i')
pd.MultiIndex.from_product([[1, @n], ['a']]) ; pd.DataFrame({'d': [decimal.Decimal('1.1')] * @n})
pd.DataFrame({'c': [1j], 't': pd.to_timedelta([@n], unit='s')}) ; pd.DataFrame({'s': [{1}, [2]]})
pd.DataFrame({'x': range(@n * 100)}) ; pd.DataFrame({'b': [b'\xff'] * @n})
pd.DataFrame({'x': range(@n)}).style.format('{}').set_uuid('u')
""",
    "json": r"""
None ; True ; @text ; @text ; @text ; @n ; @n ** 9 ; @n / 7 ; @number ; np.int64(7) ; np.float32(1.5) ; np.arange(3)
b'\0\xff' ; datetime.datetime(2024, 1, 2, 3) ; datetime.date(2024, 1, 2) ; {1, 2} ; (1, 2) ; range(3) ; float('nan')
pd.Timestamp('2024') ; Colour.RED ; decimal.Decimal('1.5') ; fractions.Fraction(1, 3) ; 10 ** 4000 ; iter([1, 2])
np.bool_(True)
""",
    "about": r"""
{} ; None ; {'width': 3, 'height': 40} ; {'isolated': True} ; {'id': 'p1002'} ; {'needs_background': 'light'}
{'unconfined': True} ; {'expanded': False, 'root': 'root'} ; {'embed_options': {'actions': False, 'scale': 1.5}}
""",
    "ipython": r"""
D.HTML(@text) ; D.Markdown(@text) ; D.Math(@text) ; D.Latex(@text) ; D.SVG(SVG) ; D.Pretty(@text) ; D.JSON([@json])
D.JSON({'k': @json}, expanded=True, root='r@n') ; D.GeoJSON({'type': 'Point', 'coordinates': [@n, 2]})
D.ProgressBar(@n)
D.Javascript(@text, lib='https://x/y.js') ; D.Javascript(@text, css=['a.css']) ; D.Image(PNG, width=@n, height=@n)
D.Image(PNG, unconfined=True) ; D.Image(GIF, format='gif') ; D.Image(JPEG, format='jpeg', retina=True)
D.Image(PNG, alt='two bars') ; D.Image(url='https://x/@n.png') ; D.Audio(np.zeros(@n), rate=8000)
D.Audio(url='https://x/a.mp3', autoplay=True) ; D.Video('https://x/v.mp4')
D.Video(b'abc', embed=True, mimetype='video/mp4') ; D.IFrame('https://x/@n', @n, 30, a=1) ; D.YouTubeVideo('id@n')
D.VimeoVideo('@n') ; D.ScribdDocument('@n') ; D.FileLink('note.txt') ; D.FileLink('absent.txt') ; D.FileLinks('.')
D.Code(@text, language='python') ; D.TextDisplayObject(@text) ; D.DisplayObject(@text)
D.HTML('<b>', metadata={'isolated': True})
""",
    "call": r"""
D.display_html(@text, raw=True) ; D.display_markdown(@text, raw=True) ; D.display_latex(@text, raw=True)
D.display_json({'a': @n}, raw=True) ; D.display_png(PNG, raw=True) ; D.display_svg(SVG, raw=True)
D.display_pretty(@text, raw=True) ; D.display_javascript(@text, raw=True) ; D.display_jpeg(JPEG, raw=True)
D.publish_display_data({'text/plain': @text}, metadata={'a': @n}) ; D.update_display(D.HTML(@text), display_id='d')
(display(@n, display_id='d'), D.update_display(@text, display_id='d')) ; display(@n, @text, include=['text/plain'])
display(@n, exclude=['text/html']) ; display() ; display({}, raw=True) ; display(display_id=True).display(@n)
D.clear_output(wait=True)
""",
    "own": r"""
shows(html=@text) ; shows(html=None) ; shows(html=7) ; shows(html=raises(ValueError('no'))) ; shows(latex=@text)
shows(png=PNG) ; shows(png=(PNG, {'width': 5})) ; shows(png='text') ; shows(json={'a': @json}) ; shows(jpeg=JPEG)
shows(markdown=@text, html=@text) ; shows(mimebundle={'text/plain': @text, 'application/json': @json})
shows(svg=@text) ; shows(mimebundle=({'text/html': @text}, {'text/html': {'isolated': True}})) ; shows(mimebundle=None)
shows(mimebundle=raises(KeyError('x'))) ; shows(javascript=@text) ; shows(pdf=b'%PDF') ; Prints(@text) ; Prints(7)
Prints(@text * 5000) ; type('R', (), {'__repr__': lambda self: 1 / 0})() ; type('R', (str,), {})('text')
type('R', (), {'__getattr__': lambda self, name: self, '__call__': lambda self, *a, **k: self})()
type('R', (dict,), {'_repr_html_': lambda self: '<i>'})()
""",
    "error": r"""
ValueError() ; ValueError(@text) ; KeyError(@plain) ; Exception(@nested, @plain) ; OSError(2, @text, @text)
error('É', @text) ; error('E', @plain, __str__=lambda self: @text) ; error('E', __str__=lambda self: 7)
StopIteration(1) ; error('E', __str__=lambda self: 1 / 0) ; ExceptionGroup(@text, [ValueError(@plain)])
KeyboardInterrupt() ; SystemExit(3)
UnicodeDecodeError('utf-8', b'\xff', 0, 1, @text) ; SyntaxError(@text, (@text, 1, 2, @text)) ; MemoryError()
error('E', @text, _render_traceback_=lambda self: [@text, 'line']) ; error('E', __notes__=['note']) ; Warning(@text)
AssertionError(@plain) ; error('E' * 300, @text) ; ValueError(@text * 500)
""",
    "printed": r"""
print(@text, @text) ; print(@plain, @nested) ; print(@text, file=sys.stderr) ; sys.stdout.write(@text)
print(@text, end='') ; print(@text * 300) ; sys.stderr.write(@text) ; print(@array)
""",
    "written": "@text ; @text ; @text ; @text ; [@text, @text]",
    "plain": "@text ; @text ; @number ; @number ; @moment ; @odd ; None",
    "key": "@text ; @number ; None ; (1, 'a') ; datetime.date(2024, 1, 1) ; b'k'",
    "name": "@text ; @text ; 'k' ; @n ; None ; 1.5",
    "statement": """
display(@plain) ; display(@nested) ; display(@array) ; display(@table) ; display(@ipython) ; display(@ipython) ; @call
display(@own) ; @raw ; @raw ; show_error(@error) ; @printed
""",
}
"""By what they are; @name stands for one of its kind."""
CHOICES = {name: re.split(r" ; |\n", text.strip()) for name, text in EXPRESSIONS.items()}
TEXTS = [
    "text/plain",
    "text/html",
    "text/markdown",
    "text/latex",
    "image/svg+xml",
    "application/javascript",
    "text/x.odd+y",
]
DATA = ["application/json", "application/geo+json", "application/vnd.vega.v5+json", "application/vnd.plotly.v1+json"]


class Maker:
    """Makes expressions, each from the next numbers of one generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._characters = [piece.encode("ascii", "backslashreplace").decode("unicode_escape") for piece in ODD.split()]

    def one(self, kind: str) -> str:
        """Make an expression of a kind."""
        template = self._random.choice(CHOICES[kind])
        return re.sub(r"@(\w+)", self._filled, template)

    def _filled(self, match: re.Match[str]) -> str:
        made = getattr(self, f"make_{match[1]}", None)
        return made() if made else self.one(match[1])

    def make_n(self) -> str:
        return str(self._random.randrange(1, 300))

    def make_text(self) -> str:
        """Make a text, mostly odd; lone surrogates only where a file name has them."""
        pieces = self._random.choices(self._characters, k=self._random.randrange(20))
        # Two escaped bytes side by side might be one character: a stock client puts them together.
        return ascii(re.sub("[\udc80-\udcff]{2,}", "\udce9", "".join(pieces)))

    def make_nested(self, depth: int = 4) -> str:
        return self._container("plain", "key", ("[%s]", "tuple([%s])"), depth)

    def make_json(self, depth: int = 3) -> str:
        return self._container("json", "name", ("[%s]",), depth)

    def _container(self, leaf: str, key: str, lists: Sequence[str], depth: int) -> str:
        if depth == 0 or self._random.random() < 0.3:
            return self.one(leaf)
        inner = [self._container(leaf, key, lists, depth - 1) for _ in range(self._random.randrange(4))]
        if self._random.random() < 0.5:
            return self._random.choice(lists) % ", ".join(inner)
        return f"{{{', '.join(f'{self.one(key)}: {value}' for value in inner)}}}"

    def make_raw(self) -> str:
        """Make a MIME bundle by hand."""
        kinds = self._random.sample([*TEXTS, *DATA, "image/png"], self._random.randrange(1, 4))
        bundle = ", ".join(f"{kind!r}: {self._value(kind)}" for kind in kinds)
        about = self.one("about")
        metadata = about if self._random.random() < 0.5 else f"{{{kinds[0]!r}: {about} or {{}}}}"
        return f"display({{{bundle}}}, raw=True, metadata={metadata})"

    def _value(self, kind: str) -> str:
        if kind == "image/png" or kind in DATA:
            return "PNG" if kind == "image/png" else self.make_json()
        number = kind.startswith("text/") and self._random.random() < 0.1
        return self._random.choice(("5", "-1.5", "True")) if number else self.one("written")


def cells(seed: int, count: int) -> list[str]:
    """Make the cells: a hundred statements each, of which none stops those after it, and a result at the end."""
    maker = Maker(seed)
    made = [PREAMBLE]
    for start in range(0, count, BATCH):
        lines = [_guarded(maker.one("statement")) for _ in range(min(BATCH, count - start) - 1)]
        made.append("".join(lines) + maker.make_nested())
    return made


def _guarded(statement: str) -> str:
    caught = "except BaseException:\n    get_ipython().showtraceback()"
    return f"try:\n    {statement}\n{caught}\nsys.stdout.flush(), sys.stderr.flush()\n"


def stock_outputs(session: Session, sources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Run cells in a stock kernel within the session's sandbox; return what a stock client hears of each as outputs."""
    session.files.write("cells.json", json.dumps(sources))
    session.files.write("stock.py", STOCK)
    session.execute(START, timeout=1800).raise_for_error()
    told = [json.loads(session.files.read(f"stock-{place}.json")) for place in range(len(sources))]
    reducer = _Reducer()
    return [reducer.outputs(messages) for messages, _ in told]


class _Reducer:
    """Messages to outputs as JupyterLab reduces them (OutputArea): an independent second of `outputs.collector`."""

    def __init__(self) -> None:
        self._displays: dict[str, list[dict[str, Any]]] = {}

    def outputs(self, messages: Sequence[Any]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        clear = False
        for kind, content in messages:
            if kind == "clear_output":
                clear = True
                continue
            if kind == "update_display_data":
                self._update(content)
                continue
            if kind not in ("stream", "display_data", "execute_result", "error") or (
                kind == "stream" and not content["text"]
            ):
                continue
            if clear:
                made, clear = [], False
            last = made[-1] if made else {}
            if kind == "stream" and (last.get("type"), last.get("name")) == ("stream", content["name"]):
                last["text"] += content["text"]
                continue
            if content.get("data") == {} and not content["transient"]:
                continue  # which no front end shows
            made.append(_expected(kind, content))
            self._register(content, made[-1])
        return made

    def _register(self, content: Mapping[str, Any], output: dict[str, Any]) -> None:
        if name := content.get("transient", {}).get("display_id"):
            self._update(content)
            self._displays.setdefault(name, []).append(output)

    def _update(self, content: Mapping[str, Any]) -> None:
        fresh = _expected("display_data", content)
        for output in self._displays.get(content["transient"]["display_id"], []):
            output |= {"data": fresh["data"], "metadata": fresh["metadata"]}


def _expected(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "stream":
        return {"type": kind, "name": content["name"], "text": content["text"]}
    if kind == "error":
        return {"type": kind, "ename": content["ename"], "evalue": content["evalue"]}
    data = {key: _as_notebooks_have_it(key, value) for key, value in content["data"].items()}
    return {"type": kind, "data": data, "metadata": content["metadata"]}


def _as_notebooks_have_it(kind: str, value: Any) -> Any:
    """Write what is text in a notebook as one: lines are joined, and a number is written out."""
    if kind.endswith("json") or isinstance(value, str):
        return value
    return "".join(value) if isinstance(value, list) else json.dumps(value)


def own_outputs(session: Session, sources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Run cells in the session and write down what it holds of each when all have run."""
    for source in sources:
        session.execute(source, timeout=120)
    stored = json.loads(session.transcript.to_bytes())["cells"][-len(sources) :]
    return [[_stored(output) for output in cell["outputs"]] for cell in stored]


def _stored(output: dict[str, Any]) -> dict[str, Any]:
    kind = output["output_type"]
    if kind == "stream":
        return {"type": kind, "name": output["name"], "text": "".join(output["text"])}
    if kind == "error":
        return {"type": kind, "ename": output["ename"], "evalue": output["evalue"]}
    split = {
        key: "".join(value) if isinstance(value, list) and not key.endswith("json") else value
        for key, value in output["data"].items()
        if key != TABLE_TYPE
    }
    metadata = {key: value for key, value in output["metadata"].items() if key != TABLE_TYPE}
    return {"type": kind, "data": split, "metadata": metadata}


_ADDRESS = re.compile(r"0x[0-9a-f]{6,}|tmp\w+|ipykernel_\d+")


def _normal(output: Mapping[str, Any]) -> str:
    return _ADDRESS.sub("0x", json.dumps(output, sort_keys=True))


def _apart(one: str, other: str) -> str:
    """Return where two texts part."""
    place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(place - 60, 0)
    return f"…{one[start : place + 90]}… where a stock kernel has …{other[start : place + 90]}…"


def differences(own: Sequence[Any], stock: Sequence[Any]) -> Iterator[str]:
    """Compare cell by cell, output by output; a sentence for each that differs."""
    for place, (mine, theirs) in enumerate(zip(own, stock, strict=True)):
        if len(mine) != len(theirs):
            yield f"cell {place}: {len(mine)} outputs, of a stock kernel {len(theirs)}"
        for one, other in zip(mine, theirs, strict=False):
            if _normal(one) != _normal(other):
                yield f"cell {place}: {_apart(_normal(one), _normal(other))}"
                if one["type"] != other["type"]:
                    break


def compare(session: Session, seed: int, count: int) -> list[str]:
    """Run so many values in a session, and beside it in a stock kernel in its sandbox; return what differs."""
    sources = cells(seed, count)
    own = own_outputs(session, sources)
    return list(differences(own, stock_outputs(session, sources)))


def run(asked: Asked) -> list[str]:
    """Compare 20,000 values."""
    started = time.monotonic()
    limits = Limits(output_bytes="64m", session_output_bytes="1g", memory="2g")
    with Session(engine="bubblewrap", image="datascience", limits=limits) as session:
        wrong = compare(session, SEED, VALUES)
    print(f"{VALUES:,} values of seed {SEED} in {time.monotonic() - started:.0f} s, {len(wrong)} differ")
    return wrong
