"""Packages that people mean when they name one that there is not: by the name that is imported, or nearly spelled.

An index has no search by which the nearest could be found, so these are the ones that are asked for most. What a kernel
says of a missing one (inside/missing_packages.py) is made of `words`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from kernel_sandbox.sandbox.engines.image_names import OWN_NAME, image_names, main_packages
from kernel_sandbox.spec.languages import language_of_image
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.spelling import nearest

IMPORTED_AS = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "bs4": "beautifulsoup4",
    "pil": "pillow",
    "yaml": "pyyaml",
    "docx": "python-docx",
    "pptx": "python-pptx",
    "dotenv": "python-dotenv",
    "dateutil": "python-dateutil",
    "serial": "pyserial",
    "crypto": "pycryptodome",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "fitz": "pymupdf",
    "igraph": "igraph",
    "attr": "attrs",
    "levenshtein": "levenshtein",
    "usb": "pyusb",
    "git": "gitpython",
    "psycopg2": "psycopg2-binary",
    "mysqldb": "mysqlclient",
    "ruamel": "ruamel.yaml",
    "google-protobuf": "protobuf",
}
"""The name in an import, and the package that brings it."""
_OFTEN = """
aiohttp altair arrow attrs beautifulsoup4 black bokeh boto3 bottleneck catboost chardet click cryptography cvxpy cython
dask datasets duckdb faker fastapi fastparquet filelock flask folium fonttools fsspec gensim geopandas great-tables
h5py html5lib httpx hypothesis imageio ipykernel ipython ipywidgets jinja2 joblib jsonschema keras lark levenshtein
lightgbm llvmlite lxml markdown matplotlib mizani more-itertools moviepy msgpack narwhals nbformat networkx nltk numba
numexpr numpy openpyxl opencv-python-headless orjson pandas patsy pdfplumber pillow plotly plotnine polars prophet
protobuf psutil psycopg pyarrow pycountry pydantic pydub pygments pymc pymupdf pyparsing pypdf pypdfium2 pyproj pytest
python-dateutil python-docx python-dotenv python-pptx pytz pyyaml qrcode rapidfuzz regex reportlab requests rich
ruptures scikit-image scikit-learn scipy scrapy seaborn shap shapely simpy sortedcontainers spacy sqlalchemy
statsmodels sympy tables tabulate tenacity textblob threadpoolctl tiktoken tomlkit torch torchvision tqdm transformers
typer umap-learn unidecode urllib3 vega-datasets wordcloud xarray xgboost xlrd xlsxwriter xmltodict zstandard
"""
OFTEN = tuple(_OFTEN.split())
MOST_OPTIONS = 8
ASKED = re.compile(r"[\w.+:\[\],<>=!~ *-]{1,100}")
DEBIAN = re.compile(r"apt:[a-z0-9][a-z0-9+.-]{1,99}")
FILES = (".whl", ".tar.gz", ".tgz", ".zip")


def near_package(name: str, others: Iterable[str] = ()) -> str | None:
    """Return the package that somebody meant by a name that no index has; None where none is near."""
    imported = IMPORTED_AS.get(name.lower().replace("_", "-"))
    return imported or nearest(name, {*OFTEN, *others} - {name.lower()})


def words(image: str, engine: str, own_facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a kernel of an image needs to say which command brings a package.

    `own_facts` is what the image tells of itself, if it is one of the user's own: a new one holds what was added to it.
    """
    known = image_names()
    new, default = "mine2" if image == "mine" else "mine", SandboxSpec().image
    elsewhere = {package: other for other in reversed(known) if other != image for package in main_packages(other)}
    told: dict[str, Any] = {
        "advice": "Build an image",
        "command": f"kernel-sandbox image build {new}",
        "takes_file": True,
        "apt_end": " --engine docker" if engine == "bubblewrap" else "",
        "imported_as": IMPORTED_AS,
        "often": OFTEN,
        "elsewhere": elsewhere,
    }
    base, name = own_facts.get("base"), str(own_facts.get("image"))
    asked, whole = _asked(own_facts)
    if image in known and language_of_image(image).is_python:
        told["command"] += f" --from {image}"
    elif base in known and OWN_NAME.fullmatch(name):
        file = ""
        if not whole:
            told["takes_file"], file = False, f" {name}.txt"
            told["command"] = f"kernel-sandbox image show {name} --lock > {name}.txt && {told['command']}"
        told["command"] += " ".join([f"{file} --from {base}", *asked])
    elif image in known:  # it is for another language, and takes no packages of Python's
        told["command"] += f" --from {default}"
    else:
        place = f"to the Dockerfile of {image}" if base == "" else f"where the image {image} was made"
        told["advice"] = f"Add it {place}, or build an image on {default}"
        told["command"] += f" --from {default}"
    return told


def _asked(own_facts: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return the options that ask for what an image of one's own holds, and whether they are all.

    They are not where they are many, or of files: nobody knows where those are. The image's lock has these packages.
    """
    told = own_facts.get("asked")
    asked = [each for each in told if isinstance(each, str)] if isinstance(told, list) else []
    debian = [f"--apt {each[4:]}" for each in asked if DEBIAN.fullmatch(each)]
    others = [each for each in asked if not each.startswith("apt:")]
    if len(asked) > MOST_OPTIONS or not all(ASKED.fullmatch(each) and not each.endswith(FILES) for each in others):
        return debian[:MOST_OPTIONS], False
    return [*(f"--with {shlex.quote(each)}" for each in others), *debian], True
