# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# The commonest values of the other columns.
columns = []  # parameter
rows = []
for column in columns:
    counts = df[column].value_counts().head(3)
    rows.append([column, ", ".join(f"{str(value)[:40]} ({count})" for value, count in counts.items())])
display(pd.DataFrame(rows, columns=["column", "commonest values"]))
report("common_values", rows)
