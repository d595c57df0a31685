# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Read the file once more, as plain text, leaving out the lines that do not fit.
path = named[0] if named else max(tables, key=lambda table: table.stat().st_mtime)
df = pd.read_csv(path, sep=None, engine="python", encoding="latin-1", on_bad_lines="skip")
df.columns = [" ".join(str(column).split())[:200] for column in df.columns]
df = df.loc[:, ~df.columns.duplicated()]

display(df.head())
report("load", file=path.name, names=names, table_rows=len(df), others=[], roughly=1)
