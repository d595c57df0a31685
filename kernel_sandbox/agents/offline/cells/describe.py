# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Numbers in short.
numbers = []  # parameter
numeric = df[numbers].astype(float).replace([np.inf, -np.inf], np.nan)
summary = numeric.agg(["mean", "std", "min", "median", "max"]).T
display(summary)
report("describe", summary.reset_index().astype(object).where(lambda t: t.notna(), None).values.tolist())

fig, axes = plt.subplots(-(-min(9, len(numbers)) // 3), 3, figsize=(12, 8), squeeze=False)
for ax, column in zip(axes.flat, numbers, strict=False):
    ax.hist(numeric[column].dropna(), bins=30)
    ax.set_title(column[:40])
for ax in axes.flat[len(numbers) :]:
    ax.axis("off")
fig.tight_layout()
plt.show()
