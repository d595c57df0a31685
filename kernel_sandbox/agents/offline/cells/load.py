# mypy: ignore-errors
# ruff: noqa: F401, F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Load the table.
import html
import json
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

names = []  # parameter
folder = Path("/mnt/data")


def read_csv(path):
    """Read a text table, with the delimiter that its first line has most of."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(100_000)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", encoding_errors="replace", low_memory=False)


def read_json(path):
    """Read a list of objects, an object of lists, or an object that holds such a list."""
    content = json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    if isinstance(content, dict) and not all(isinstance(value, list) for value in content.values()):
        lists = [value for value in content.values() if isinstance(value, list) and value]
        content = max(lists, key=len) if lists else [content]
    return pd.DataFrame(content) if isinstance(content, dict) else pd.json_normalize(content)


def read_lines(path):
    """Read one JSON object per line."""
    return pd.read_json(path, lines=True)


readers = {".csv": read_csv, ".tsv": read_csv, ".txt": read_csv, ".parquet": pd.read_parquet, ".json": read_json}
readers |= {".jsonl": read_lines, ".ndjson": read_lines, ".xlsx": pd.read_excel, ".xlsm": pd.read_excel}


def report(step, rows=(), **facts):
    """Hand a step's numbers to the analyst, in lines short and few enough to be read whole; shown folded."""
    lines = [[]]
    for row in rows:
        if lines[-1] and len(json.dumps([*lines[-1], row], default=float)) > 1500:
            lines.append([])
        lines[-1].append(row)
    parts = [{"step": step, "rows": lines[0], **facts}, *({"step": step, "rows": line} for line in lines[1:8])]
    text = "\n".join(f"ANALYST {json.dumps(part, default=float)}" for part in parts)
    folded = f"<details><summary>What the analyst reads</summary><pre>{html.escape(text)}</pre></details>"
    display({"text/plain": text, "text/html": folded, "text/markdown": ""}, raw=True)


tables = [path for path in folder.rglob("*") if path.suffix.lower() in readers and path.is_file()]
named = [folder / name for name in names if folder / name in tables]
if not tables:
    raise FileNotFoundError("there is no table under /mnt/data")
path = named[0] if named else max(tables, key=lambda table: table.stat().st_mtime)
df = readers[path.suffix.lower()](path)
df.columns = [" ".join(str(column).split())[:200] for column in df.columns]
df = df.loc[:, ~df.columns.duplicated()]

display(df.head())
others = sorted(table.name for table in tables if table != path)
report("load", file=path.name, names=names, table_rows=len(df), others=others[:5])
