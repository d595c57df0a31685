# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Count the rows of each group.
group = ""  # parameter
ascending = 0  # parameter
number = 5  # parameter
counts = df[group].value_counts(ascending=bool(ascending)).rename("rows").to_frame()
display(counts.head(20))
rows = [[str(name), count] for name, count in counts["rows"].head(number).items()]
report("group_counts", rows, groups=len(counts), counted=counts["rows"].sum(), missing=df[group].isna().sum())
table, shown = counts, "rows"
