"""Values as honest code shows them, in a session and in a stock kernel: whatever differs was lost or altered.

The values are made from a seed as expressions, so that both kernels make them anew: plain values and nested ones, dates,
NumPy's and pandas', every class of IPython.display, objects with representations of their own, raw MIME bundles, errors
and prints. The stock kernel runs in a sandbox of the same image, with jupyter_client's own client beside it, and with
nothing of ours in it: the same versions, and a reader of messages that is not ours.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_sandbox import DisplayData, ErrorOutput, ExecuteResult, Limits, Output, Session, StreamOutput
from kernel_sandbox.outputs.tables import TABLE_TYPE

SEED, VALUES, BATCH = 12, 20_000, 100

PREAMBLE = """
import array, collections, datetime, decimal, enum, fractions, math, os, pathlib, sys, types, uuid, warnings
import numpy as np, pandas as pd
import IPython.display as D
from IPython.display import display
warnings.simplefilter("ignore")
os.chdir("/tmp")
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
from jupyter_client.manager import KernelManager
manager = KernelManager(transport="ipc", ip="/tmp/stock", kernel_name="python3")
manager.kernel_cmd = None
spec = manager.kernel_spec if False else None
import jupyter_client.kernelspec as ks
manager._kernel_spec = ks.KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    display_name="stock", language="python")
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

ODD = (
    "é", "日本", "🙂", "\u200d", "\u202e", "\x00", "\x07", "\x1b[31m", "\x1b]0;t\x07", "\r", "\n", "\t", "\x0b", "\x85",
    "\u2028", "\ufeff", "\ufffd", "\ufffe", "\U0010ffff", "\udce9", "\udc80", "<b>", "&amp;", "'", '"', "\\", "$x$", "{", "%s",
)  # fmt: skip


class Maker:
    """Makes expressions, each from the next numbers of one generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._statements: tuple[Callable[[], str], ...] = (
            self.shown, self.shown, self.shown, self.ipython, self.ipython, self.own, self.raw, self.raw, self.error, self.printed,
        )  # fmt: skip

    def statement(self) -> str:
        """Make one statement that shows something."""
        return self._random.choice(self._statements)()

    def _pick(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def text(self, longest: int = 12) -> str:
        """Make the expression of a text, mostly odd; lone surrogates only where a file name has them."""
        pieces = [self._pick(*ODD, *"abc xyz 019") for _ in range(self._random.randrange(longest))]
        # Two escaped bytes side by side might be one character: a stock client puts them together.
        made = re.sub("[\udc80-\udcff]{2,}", "\udce9", "".join(pieces))
        return ascii(made)

    def number(self) -> str:
        chance = self._random
        return str(
            self._pick(
                chance.randrange(-10, 10), 2**53 + 1, 2**64, -(2**63), 10 ** chance.randrange(400), repr(chance.random()),
                repr(chance.uniform(-1e300, 1e300)), "float('nan')", "float('inf')", "-float('inf')", "-0.0", "5e-324", "0.1 + 0.2",
                "1e16", "complex(1, float('nan'))", "True", "1j",
            )
        )  # fmt: skip

    def moment(self) -> str:
        n = self._random.randrange(1, 28)
        return str(
            self._pick(
                f"datetime.date({n * 300}, 2, {n})", f"datetime.datetime(2024, 1, {n}, 3, 4, 5, {n})",
                f"datetime.datetime(1, 1, {n}, tzinfo=datetime.timezone(datetime.timedelta(minutes={n})))",
                f"datetime.time({n % 24}, {n})", f"datetime.timedelta({n}, {n}, {n})", f"pd.Timestamp('2024-03-31', tz='Europe/Berlin')",
                "pd.NaT", "pd.NA", f"pd.Timedelta({n}, 'ns')", f"pd.Period('2024-{n % 12 + 1:02}')", f"np.datetime64('2024-01-{n:02}')",
            )
        )  # fmt: skip

    def odd(self) -> str:
        n = self._random.randrange(1, 20)
        return str(
            self._pick(
                "...", "NotImplemented", "Colour.RED", f"Point({n}, {self.number()})", f"range({n})", f"frozenset([{n}])",
                f"decimal.Decimal('{n}.10')", "decimal.Decimal('NaN')", f"fractions.Fraction({n}, 7)", f"pathlib.Path({self.text()})",
                f"uuid.UUID(int={n})", f"bytes(range({n}))", f"bytearray({n})", f"array.array('d', [{n}.5])",
                f"types.SimpleNamespace(a={self.number()})", f"collections.Counter([{n}])", f"slice({n})", "int", "len", "sys",
                f"collections.deque([{self.text()}])", f"collections.OrderedDict(a={n})", f"memoryview(b'x' * {n}).tolist()",
            )
        )  # fmt: skip

    def array(self) -> str:
        n = self._random.randrange(1, 6)
        kind = self._pick("int8", "uint64", "float16", "float32", "float64", "complex64", "bool", "longdouble")
        return str(
            self._pick(
                f"np.{kind}({n})" if kind not in ("bool",) else "np.bool_(True)", f"np.arange({n * 7}).astype('{kind}').reshape({n}, 7)",
                f"np.array([{self.number()}, {self.number()}], dtype=object)", f"np.zeros({n}, dtype=[('a', 'i4'), ('b', 'U3')])",
                f"np.array([{self.text()}])", "np.array([])", f"np.ma.masked_equal(np.arange({n}), 1)", "np.float64('nan')",
                f"np.timedelta64({n}, 'D')", f"np.array({n})", f"np.arange({n * 1000})", "np.str_('é')", "np.bytes_(b'x')",
            )
        )  # fmt: skip

    def table(self) -> str:
        n = self._random.randrange(1, 5)
        column = f"[{', '.join(self.plain() for _ in range(n))}]"
        return str(
            self._pick(
                f"pd.DataFrame({{{self.text()}: pd.Series({column}, dtype=object), 1: range({n})}})", f"pd.Series({column}, dtype=object)",
                f"pd.DataFrame({{'a': range({n}), 'b': [{self.number()}] * {n}}}).T", f"pd.DataFrame(index=range({n}))",
                f"pd.DataFrame([[1, 2]], columns=['', {self.text()}])", "pd.DataFrame([[1, 2]], columns=['a', 'a'])",
                f"pd.DataFrame({{'g': [1, 1], 'v': [{n}, 2]}}).groupby('g').agg(['sum', 'mean'])",
                f"pd.DataFrame({{'p': pd.period_range('2024', periods={n}, freq='M')}})", f"pd.date_range('2024', periods={n}, tz='UTC')",
                f"pd.DataFrame({{'i': pd.interval_range(0, {n})}})", f"pd.Categorical({column[:1]}'a', 'b'])", f"pd.Index([{n}, 2], name='i')",
                f"pd.MultiIndex.from_product([[1, {n}], ['a']])", f"pd.DataFrame({{'d': [decimal.Decimal('1.1')] * {n}}})",
                f"pd.DataFrame({{'c': [1j] * {n}, 't': pd.to_timedelta(range({n}), unit='s')}})", f"pd.DataFrame({{'s': [{{1}}, [2]]}})",
                f"pd.DataFrame({{'x': range({n * 100})}})", f"pd.DataFrame({{'b': [b'\\xff'] * {n}}})",
                f"pd.DataFrame({{'x': range({n})}}).style.format('{{}}').set_uuid('u')",
            )
        )  # fmt: skip

    def plain(self) -> str:
        """Make the expression of a value that is not nested."""
        return str(self._pick(self.text, self.text, self.number, self.number, self.moment, self.odd, lambda: "None")())

    def nested(self, depth: int = 4) -> str:
        """Make the expression of lists, tuples, sets and dicts in one another."""
        if depth == 0 or self._random.random() < 0.3:
            return self.plain()
        inner = [self.nested(depth - 1) for _ in range(self._random.randrange(4))]
        keys = [self._pick(self.text(), self.number(), "None", "(1, 'a')", "datetime.date(2024, 1, 1)", "b'k'") for _ in inner]
        pairs = ", ".join(f"{key}: {value}" for key, value in zip(keys, inner, strict=True))
        return str(self._pick(f"[{', '.join(inner)}]", f"tuple([{', '.join(inner)}])", f"{{{pairs}}}"))

    def shown(self) -> str:
        made = self._pick(self.plain, self.nested, self.array, self.table)()
        return f"display({made})"

    def json(self, depth: int = 3) -> str:
        """Make the expression of what a library might put into a JSON bundle."""
        if depth == 0 or self._random.random() < 0.3:
            plain = ("None", "True", self.text(), str(self._random.randrange(2**70)), repr(self._random.random()), self.number())
            of_types = ("np.int64(7)", "np.float32(1.5)", "np.arange(3)", "b'\\0\\xff'", "datetime.datetime(2024, 1, 2, 3)",
                "datetime.date(2024, 1, 2)", "{1, 2}", "(1, 2)", "range(3)", "float('nan')", "pd.Timestamp('2024')", "Colour.RED",
                "decimal.Decimal('1.5')", "fractions.Fraction(1, 3)", "10 ** 4000", "iter([1, 2])", "np.bool_(True)")  # fmt: skip
            return str(self._pick(*plain, *plain, *of_types))
        inner = [self.json(depth - 1) for _ in range(self._random.randrange(4))]
        keys = [self._pick(self.text(), self.text(), "'k'", str(self._random.randrange(99)), "None", "1.5") for _ in inner]
        pairs = ", ".join(f"{key}: {value}" for key, value in zip(keys, inner, strict=True))
        return str(self._pick(f"[{', '.join(inner)}]", f"{{{pairs}}}"))

    def about(self, kind: str) -> str:
        """Make the expression of metadata as renderers read it."""
        one = self._pick("{'width': 3, 'height': 40}", "{'isolated': True}", "{'id': 'p1002'}", "{'needs_background': 'light'}",
            "{'unconfined': True}", "{'expanded': False, 'root': 'root'}", "{'embed_options': {'actions': False, 'scale': 1.5}}")  # fmt: skip
        return str(self._pick("{}", "None", one, f"{{{kind!r}: {one}}}"))

    def raw(self) -> str:
        """Make a MIME bundle by hand."""
        texts = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "application/javascript", "text/x.odd+y")
        data = ("application/json", "application/geo+json", "application/vnd.vega.v5+json", "application/vnd.plotly.v1+json")
        kinds = self._random.sample([*texts, *data, "image/png"], self._random.randrange(1, 4))
        values = [self.json() if kind in data else "PNG" if kind == "image/png" else self.text(40) for kind in kinds]
        bundle = ", ".join(f"{kind!r}: {value}" for kind, value in zip(kinds, values, strict=True))
        return f"display({{{bundle}}}, raw=True, metadata={self.about(kinds[0])})"

    def ipython(self) -> str:
        """Use a class or function of IPython.display."""
        n, text = self._random.randrange(1, 400), self.text()
        made = self._pick(
            f"D.HTML({text})", f"D.Markdown({text})", f"D.Math({text})", f"D.Latex({text})", "D.SVG(SVG)", f"D.Pretty({text})",
            f"D.JSON({{'k': {self.json()}}}, expanded={n % 2 == 0}, root='r{n}')", f"D.JSON([{self.json()}])",
            f"D.GeoJSON({{'type': 'Point', 'coordinates': [{n}, 2]}})", f"D.Javascript({text}, lib='https://x/y.js')",
            f"D.Javascript({text}, css=['a.css'])", f"D.Image(PNG, width={n}, height={n})", "D.Image(PNG, unconfined=True)",
            "D.Image(GIF, format='gif')", "D.Image(JPEG, format='jpeg', retina=True)", "D.Image(PNG, alt='two bars')",
            f"D.Image(url='https://x/{n}.png')", f"D.Audio(np.zeros({n}), rate=8000)", "D.Audio(url='https://x/a.mp3', autoplay=True)",
            "D.Video('https://x/v.mp4')", "D.Video(b'abc', embed=True, mimetype='video/mp4')", f"D.IFrame('https://x/{n}', {n}, 30, a=1)",
            f"D.YouTubeVideo('id{n}')", f"D.VimeoVideo('{n}')", f"D.ScribdDocument('{n}')", "D.FileLink('note.txt')",
            "D.FileLink('absent.txt')", "D.FileLinks('.')", f"D.Code({text}, language='python')", f"D.ProgressBar({n})",
            f"D.TextDisplayObject({text})", f"D.DisplayObject({text})", "D.HTML('<b>', metadata={'isolated': True})",
        )  # fmt: skip
        call = self._pick(
            f"D.display_html({text}, raw=True)", f"D.display_markdown({text}, raw=True)", f"D.display_latex({text}, raw=True)",
            f"D.display_json({{'a': {n}}}, raw=True)", "D.display_png(PNG, raw=True)", "D.display_svg(SVG, raw=True)",
            f"D.display_pretty({text}, raw=True)", f"D.display_javascript({text}, raw=True)", "D.display_jpeg(JPEG, raw=True)",
            f"D.publish_display_data({{'text/plain': {text}}}, metadata={{'a': {n}}})", f"D.update_display(D.HTML({text}), display_id='d')",
            f"display({n}, display_id='d'); D.update_display({text}, display_id='d')", f"display({n}, {text}, include=['text/plain'])",
            f"display({n}, exclude=['text/html'])", "display()", "display({}, raw=True)", f"handle = display(display_id=True); handle.display({n})",
            "D.clear_output(wait=True)",
        )  # fmt: skip
        return f"display({made})" if self._random.random() < 0.7 else str(call)

    def own(self) -> str:
        """Make an object with representations of its own, some of which fail or give what they should not."""
        text = self.text()
        made = self._pick(
            f"shows(html={text})", "shows(html=None)", "shows(html=7)", "shows(html=raises(ValueError('no')))", f"shows(latex={text})",
            "shows(png=PNG)", "shows(png=(PNG, {'width': 5}))", "shows(png='text')", f"shows(json={{'a': {self.json()}}})",
            f"shows(markdown={text}, html={text})", f"shows(mimebundle={{'text/plain': {text}, 'application/json': {self.json()}}})",
            f"shows(mimebundle=({{'text/html': {text}}}, {{'text/html': {{'isolated': True}}}}))", "shows(mimebundle=None)",
            "shows(mimebundle=raises(KeyError('x')))", f"shows(svg={text})", "shows(jpeg=JPEG)", f"shows(javascript={text})", "shows(pdf=b'%PDF')",
            f"type('R', (), {{'__repr__': lambda self: {text}}})()", "type('R', (), {'__repr__': lambda self: 7})()",
            "type('R', (), {'__repr__': lambda self: 1 / 0})()", f"type('R', (), {{'__repr__': lambda self: {text} * 5000}})()",
            "type('R', (), {'__getattr__': lambda self, name: self, '__call__': lambda self, *a, **k: self})()",
            "type('R', (str,), {})('text')", "type('R', (dict,), {'_repr_html_': lambda self: '<i>'})()",
        )  # fmt: skip
        return f"display({made})"

    def error(self) -> str:
        """Show an error, of odd arguments, names and texts."""
        text, plain = self.text(), self.plain()
        made = self._pick(
            "ValueError()", f"ValueError({text})", f"KeyError({plain})", f"Exception({self.nested()}, {plain})", f"OSError(2, {text}, {text})",
            f"error('É', {text})", f"error('E', {plain}, __str__=lambda self: {text})", "error('E', __str__=lambda self: 7)",
            "error('E', __str__=lambda self: 1 / 0)", f"ExceptionGroup({text}, [ValueError({plain})])", "KeyboardInterrupt()", "SystemExit(3)",
            f"UnicodeDecodeError('utf-8', b'\\xff', 0, 1, {text})", f"SyntaxError({text}, ({text}, 1, 2, {text}))", "StopIteration(1)",
            f"error('E', {text}, _render_traceback_=lambda self: [{text}, 'line'])", "error('E', __notes__=['note'])", f"Warning({text})",
            f"AssertionError({plain})", "MemoryError()", f"error('E' * 300, {text})", f"ValueError({text} * 3000)",
        )  # fmt: skip
        return f"show_error({made})"

    def printed(self) -> str:
        text = self.text(40)
        return str(
            self._pick(
                f"print({text})", f"print({self.plain()}, {self.nested()})", f"print({text}, file=sys.stderr)", f"sys.stdout.write({text}); None",
                f"print({text}, end='')", f"print({text} * 300)", f"sys.stderr.write({text}); None", f"print({self.array()})", f"print({self.table()})",
            )
        )  # fmt: skip


def cells(seed: int, count: int) -> list[str]:
    """Make the cells: a hundred statements each, of which none stops those after it, and a result at the end."""
    maker = Maker(seed)
    made = [PREAMBLE]
    for start in range(0, count, BATCH):
        lines = [_guarded(maker.statement()) for _ in range(min(BATCH, count - start) - 1)]
        made.append("".join(lines) + maker.nested())
    return made


def _guarded(statement: str) -> str:
    return f"try:\n    {statement}\nexcept BaseException:\n    get_ipython().showtraceback()\n"


def stock_outputs(session: Session, sources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Run cells in a stock kernel within the session's sandbox; what a stock client hears of each, reduced to outputs."""
    session.files.write("cells.json", json.dumps(sources))
    session.files.write("stock.py", STOCK)
    command = "import subprocess, sys; p = subprocess.run([sys.executable, '/mnt/data/stock.py'], capture_output=True, text=True)"
    session.execute(f"{command}; p.returncode and print(p.stderr[-3000:])", timeout=1800).raise_for_error()
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
            if kind not in ("stream", "display_data", "execute_result", "error") or (kind == "stream" and not content["text"]):
                continue
            if clear:
                made, clear = [], False
            last = made[-1] if made else {}
            if kind == "stream" and (last.get("type"), last.get("name")) == ("stream", content["name"]):
                last["text"] += content["text"]
                continue
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
    return {"type": kind, "data": content["data"], "metadata": content["metadata"]}


def own_outputs(session: Session, sources: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Run cells in the session and write down what it holds of each when all have run."""
    executions = [session.execute(source, timeout=120) for source in sources]
    del executions
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


_ADDRESS = re.compile(r"0x[0-9a-f]{6,}|rate=\d+|tmp\w+")


def _normal(output: Mapping[str, Any]) -> str:
    return _ADDRESS.sub("0x", json.dumps(output, sort_keys=True))


def differences(sources: Sequence[str], own: Sequence[Any], stock: Sequence[Any]) -> Iterator[str]:
    """Compare cell by cell, output by output; a sentence for each that differs."""
    for place, source in enumerate(sources):
        mine, theirs = own[place], stock[place]
        if len(mine) != len(theirs):
            yield f"cell {place}: {len(mine)} outputs, of a stock kernel {len(theirs)}"
        for one, other in zip(mine, theirs, strict=False):
            if _normal(one) != _normal(other):
                yield f"cell {place}: {_normal(one)[:400]} where a stock kernel has {_normal(other)[:400]}"
                if one["type"] != other["type"]:
                    break
        del source


def compare(session: Session, seed: int, count: int) -> list[str]:
    """Run so many values in a session, and beside it in a stock kernel in its sandbox; return what differs."""
    sources = cells(seed, count)
    own = own_outputs(session, sources)
    return list(differences(sources, own, stock_outputs(session, sources)))


def run(cache: Path) -> list[str]:
    """Compare 20,000 values."""
    started = time.monotonic()
    limits = Limits(output_bytes="64m", session_output_bytes="1g", memory="2g")
    with Session(engine="bubblewrap", image="datascience", limits=limits) as session:
        wrong = compare(session, SEED, VALUES)
    print(f"{VALUES:,} values of seed {SEED} in {time.monotonic() - started:.0f} s, {len(wrong)} differ")
    return wrong
