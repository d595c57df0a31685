# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Sort the numbers into five groups of about equal size.
column = ""  # parameter
binned = f"{column} (in five groups)"
df[binned] = pd.qcut(df[column], 5, duplicates="drop").astype(str).where(df[column].notna())
report("bins", column=binned)
