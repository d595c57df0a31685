# Load the table.
import functools
import html
import json
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

file = ""  # parameter
plt.rcParams["text.parse_math"] = False  # a column may be called "$"
warnings.filterwarnings("ignore", "Glyph|Tight layout")  # or in letters that the font lacks, or by a long name


def read_csv(path):
    """Read a text table, with the separator that its first line has most of."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(100_000)
    separator = max(",;\t|", key=first.count)
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", encoding_errors="replace", low_memory=False)


readers = dict.fromkeys([".csv", ".tsv", ".txt"], read_csv) | dict.fromkeys([".xlsx", ".xlsm"], pd.read_excel)
readers |= dict.fromkeys([".jsonl", ".ndjson"], functools.partial(pd.read_json, lines=True))
readers |= {".json": pd.read_json, ".parquet": pd.read_parquet}


def kind(values):
    """Return what a column holds: number, date, category (few different values), text, or nothing."""
    if values.isna().all():
        return "empty"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return "number"
    return "category" if values.nunique() <= 20 else "text"


def report(step, rows, **facts):
    """Hand a step's numbers to the analyst, line by line; a notebook shows them folded."""
    lines = [{"step": step, **facts}, *({"step": step, "row": row} for row in rows)]
    text = "\n".join(f"ANALYST {json.dumps(line, default=float)}" for line in lines)
    folded = f"<details><summary>What the analyst reads</summary><pre>{html.escape(text)}</pre></details>"
    display({"text/plain": text, "text/html": folded, "text/markdown": ""}, raw=True)


tables = [path for path in Path("/mnt/data").rglob("*") if path.suffix.lower() in readers and path.is_file()]
named = [path for path in tables if path == Path("/mnt/data", file)]
path = (named or sorted(tables, key=lambda table: table.stat().st_mtime))[-1]
df = readers[path.suffix.lower()](path)
df.columns = [str(name) for name in df.columns]
for name in df:  # lists and objects, of JSON and Parquet, are compared by what they look like
    if df[name].dtype == object and df[name].map(type).isin([list, dict, np.ndarray]).any():
        df[name] = df[name].map(str)

display(df.head())
names = [[name] for name in df.columns if len(json.dumps(name)) < 1000]
report("load", names[:200], file=path.name, length=len(df), width=len(df.columns), others=len(tables) - 1)
