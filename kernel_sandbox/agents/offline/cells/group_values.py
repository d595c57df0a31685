# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Compare the groups: how many rows, their total, mean and median.
group = ""  # parameter
target = ""  # parameter
order = "mean"  # parameter
ascending = 0  # parameter
number = 5  # parameter
pair = df[[group, target]].dropna().astype({target: float})
pair = pair[np.isfinite(pair[target])]
table = pair.groupby(group)[target].agg(["count", "sum", "mean", "median"])
table = table.sort_values(order, ascending=bool(ascending), kind="stable")
display(table.head(20))

# The share of the target's variance that lies between the groups (eta squared).
spread = ((pair[target] - pair[target].mean()) ** 2).sum()
between = (table["count"] * (table["mean"] - pair[target].mean()) ** 2).sum()
share = between / spread if spread else 0.0
rows = [[str(name), *values] for name, values in zip(table.index, table.values.tolist(), strict=True)][:number]
extremes = table["mean"].agg(["idxmin", "idxmax"]).astype(str)
facts = {"lowest": extremes["idxmin"], "highest": extremes["idxmax"], "share": share, "groups": len(table)}
report("group_values", rows, used=len(pair), left_out=len(df) - len(pair), **facts)
shown = order
