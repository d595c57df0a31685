# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Draw it.
title = ""  # parameter
bars = table[shown].head(15).iloc[::-1]
fig, ax = plt.subplots(figsize=(9, max(2.5, 0.4 * len(bars) + 1)))
ax.barh([str(name)[:40] for name in bars.index], bars.values)
ax.set(title=title, xlabel=shown)
fig.tight_layout()
plt.show()
report("bars", drawn=len(bars))
