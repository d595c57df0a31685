# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Draw one against the other; of very many rows, a sample.
across = ""  # parameter
up = ""  # parameter
pair = df[[across, up]].astype(float).replace([np.inf, -np.inf], np.nan).dropna()
drawn = pair.sample(min(len(pair), 10000), random_state=0)
fig, ax = plt.subplots(figsize=(9, 5))
ax.scatter(drawn[across], drawn[up], s=8, alpha=0.4)
ax.set(title=f"{up} by {across}", xlabel=across, ylabel=up)
plt.show()
report("scatter", drawn=len(drawn), used=len(pair), pearson=pair[across].corr(pair[up]))
