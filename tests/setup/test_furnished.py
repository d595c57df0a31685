"""What the images are furnished with, seen from cells, in both engines."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.setup.environment_files import COMMANDS
from tests.conftest import missing
from tests.setup.image_packages import IMAGES, locked, parts, table

IMPORTED = """
altair bs4 debugpy docx html5lib httpx ipywidgets jinja2 jsonschema lxml matplotlib nbformat networkx numpy openpyxl
pandas pdfplumber PIL plotly pptx psutil pyarrow pypdf pytz rapidfuzz regex reportlab requests scipy seaborn sklearn
sqlalchemy statsmodels sympy tabulate tqdm xlrd xlsxwriter yaml
"""
FIRST_CELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"


@pytest.fixture(scope="module", params=("docker", "bubblewrap"))
def furnished(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session on `datascience`, shared by the tests of an engine."""
    if reason := missing(request.param):
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "off")  # a template has imported the large libraries
        with Session(engine=request.param, image="datascience") as opened:
            yield opened


def said(session: Session, cell: str) -> str:
    done = session.execute(cell, timeout=120)
    assert done.status == "ok", done
    return done.text.strip()


def test_table_of_packages_is_what_the_locks_hold() -> None:
    assert parts()[1] == table(), "python -m tests.setup.image_packages"
    header = table().splitlines()[0]
    assert all(f"`{name}`" in header for name in image_names())
    assert "| r-cran-irkernel | of Debian |" in table()


def test_each_lock_holds_the_versions_of_the_one_before() -> None:
    locks = [locked(name) for name in IMAGES]
    for small, large in itertools.pairwise(locks):
        assert small.items() < large.items()


def test_first_cell_finds_no_module_that_it_would_not_find_without_the_packages(
    furnished: Session, by_itself: None
) -> None:
    found = json.loads(said(furnished, FIRST_CELL))
    with Session(engine=furnished.engine, image="python") as bare:
        assert found == json.loads(said(bare, FIRST_CELL))
    assert not {"debugpy", "ipywidgets", "psutil", "tqdm"} & set(found)


def test_all_packages_import_at_their_versions(furnished: Session) -> None:
    versions = "{d.metadata['Name'].lower().replace('_', '-').replace('.', '-'): d.version for d in distributions()}"
    cell = f"from importlib.metadata import distributions\nimport {', '.join(IMPORTED.split())}\nimport json\n"
    found = json.loads(said(furnished, f"{cell}print(json.dumps({versions}))"))
    assert found == locked("datascience")


def test_commands_are_the_same_in_both_engines(furnished: Session) -> None:
    wanted = ("sqlite3", "jq", "file", "less", "ps", "top", "unzip", "xz", "zip")
    assert set(wanted) <= set(COMMANDS)
    assert said(furnished, f"import shutil; [c for c in {wanted} if shutil.which(c) is None]") == "[]"
    assert said(furnished, "!sqlite3 :memory: 'select 6 * 7'; echo '{\"a\": 3}' | jq -M .a").split() == ["42", "3"]


LABELS = """
import warnings
import matplotlib.pyplot as plt
import seaborn
seaborn.set_theme()
plt.rcParams["font.sans-serif"] = ["SimHei"]
with warnings.catch_warnings(action="error"):
    figure, axes = plt.subplots()
    axes.set_title("中文标题 日本語のラベル 한국어 제목")
    axes.set_ylabel("数値", fontweight="bold")
    for kind in ("png", "svg", "pdf"):
        figure.savefig(f"/mnt/data/labels.{kind}")
    plt.show()
"""


def test_labels_of_east_asia_draw_without_a_warning(furnished: Session) -> None:
    done = furnished.execute(LABELS, timeout=120)
    assert done.status == "ok", done
    assert [sorted(getattr(output, "data", ())) for output in done.outputs] == [["image/png", "text/plain"]]
    drawn = said(furnished, "from matplotlib import font_manager; font_manager.findfont('SimHei')")
    assert "NotoSansCJK" in drawn


FIRST_MINUTES = {
    "style": "import pandas as pd; df = pd.DataFrame({'a': [1, 2]}); df.style.background_gradient().to_html()[:6]",
    "markdown": "df.to_markdown(), df.to_latex(), df.to_xml(); 1",
    "html": "import io; pd.read_html(io.StringIO(df.to_html()))[0].shape",
    "excel": """
with pd.ExcelWriter("/mnt/data/a.xlsx", engine="xlsxwriter") as book:
    df.to_excel(book, sheet_name="s")
    book.sheets["s"].set_column("A:B", 20, book.book.add_format({"num_format": "0.00"}))
pd.read_excel("/mnt/data/a.xlsx").shape""",
    "docx": """
import docx
text = docx.Document(); text.add_paragraph("text"); text.save("/mnt/data/a.docx")
docx.Document("/mnt/data/a.docx").paragraphs[0].text""",
    "pptx": """
import pptx
slides = pptx.Presentation(); slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "title"
slides.save("/mnt/data/a.pptx"); pptx.Presentation("/mnt/data/a.pptx").slides[0].shapes.title.text""",
    "pdf": """
import pdfplumber, pypdf
from reportlab.pdfgen.canvas import Canvas
page = Canvas("/mnt/data/a.pdf"); page.drawString(100, 700, "words"); page.save()
with pdfplumber.open("/mnt/data/a.pdf") as read:
    found = read.pages[0].extract_text()
found, pypdf.PdfReader("/mnt/data/a.pdf").pages[0].extract_text()""",
    "sql": "import sqlalchemy; df.to_sql('t', (e := sqlalchemy.create_engine('sqlite://'))); pd.read_sql('t', e).shape",
}


def test_what_is_written_in_the_first_minutes_runs(furnished: Session) -> None:
    shown = {name: said(furnished, cell) for name, cell in FIRST_MINUTES.items()}
    assert shown["style"] == "'<style'"
    assert shown["html"] == shown["excel"] == "(2, 2)"
    assert shown["docx"] == "'text'"
    assert shown["pptx"] == "'title'"
    assert shown["pdf"].count("words") == 2
    assert shown["sql"] == "(2, 2)"


def test_charts_come_as_data_and_say_what_they_draw(furnished: Session) -> None:
    done = furnished.execute("import plotly.express as px; px.bar(x=[1, 2], y=[3, 4], title='Sales')", timeout=60)
    assert "application/vnd.plotly.v1+json" in done.outputs[-1].data  # type: ignore[union-attr]
    assert done.text == "[Plotly figure 'Sales': bar of 2 values]"
    chart = "import altair as alt; alt.Chart(pd.DataFrame({'x': [1]})).mark_bar().encode(x='x:O')"
    done = furnished.execute(f"import pandas as pd; {chart}", timeout=60)
    assert "vega" in done.outputs[-1].data["text/html"]  # type: ignore[union-attr]


@pytest.mark.parametrize("call", ["requests.get('https://example.com')", "httpx.get('https://example.com')"])
def test_call_without_a_network_fails_soon_and_says_why(furnished: Session, call: str) -> None:
    done = furnished.execute(f"import httpx, requests; {call}", timeout=60)
    assert done.status == "error"
    assert done.error is not None
    assert done.error.traceback[-1].startswith("The sandbox has no network")
    assert done.duration < 10
