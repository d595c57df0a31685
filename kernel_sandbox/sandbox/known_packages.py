"""Packages that people mean when they name one that there is not: by the name that is imported, or nearly spelled.

An index has no search by which the nearest could be found, so these are the ones that are asked for most. What a kernel
says of a missing one (inside/missing_packages.py) is made of `words`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernel_sandbox.sandbox.engines.image_names import image_names, main_packages
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


def near_package(name: str, others: Iterable[str] = ()) -> str | None:
    """Return the package that somebody meant by a name that no index has; None where none is near."""
    imported = IMPORTED_AS.get(name.lower().replace("_", "-"))
    return imported or nearest(name, {*OFTEN, *others} - {name.lower()})


def words(image: str) -> dict[str, Any]:
    """Return what a kernel of an image needs to say which command brings a package."""
    known = image_names()
    below = image if image in known else SandboxSpec().image
    elsewhere = {package: other for other in reversed(known) if other != image for package in main_packages(other)}
    return {
        "command": f"kernel-sandbox image build {'mine2' if image == 'mine' else 'mine'} --from {below}",
        "imported_as": IMPORTED_AS,
        "often": OFTEN,
        "elsewhere": elsewhere,
    }
