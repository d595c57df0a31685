# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Draw how the values are distributed.
column = ""  # parameter
values = df[column].astype(float).replace([np.inf, -np.inf], np.nan).dropna()
fig, ax = plt.subplots(figsize=(9, 4.5))
ax.hist(values, bins=min(40, max(5, values.nunique())))
ax.set(title=f"Distribution of {column}", xlabel=column, ylabel="rows")
plt.show()
spread = {"mean": values.mean(), "median": values.median(), "lowest": values.min(), "highest": values.max()}
report("histogram", used=len(values), **spread)
