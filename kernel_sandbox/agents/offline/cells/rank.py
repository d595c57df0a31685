# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# All measures side by side, ordered by the mean of a factor's places in them.
target = ""  # parameter
places = ranking.abs().rank(ascending=False).mean(axis=1)
ranking = ranking.loc[places.sort_values(kind="stable").index]
display(ranking)
for measure in ("coefficient", "importance"):
    ranking[measure] = ranking.get(measure, np.nan)
order = ["pearson", "spearman", "coefficient", "importance"]
report("rank", ranking[order].head(10).reset_index().astype(object).where(lambda t: t.notna(), None).values.tolist())

fig, (left, right) = plt.subplots(1, 2, figsize=(13, 5))
top = ranking[order].head(8).abs().iloc[::-1].dropna(axis=1, how="all")
top.plot.barh(ax=left, width=0.8)
left.set(title=f"What goes with {target}", xlabel="strength (0: none)")
best = features[ranking.index[0]]
groups = pd.qcut(best, 10, duplicates="drop") if best.nunique() > 12 else best
means = y.groupby(groups, observed=True).mean()
right.plot(means.index.map(lambda group: getattr(group, "mid", group)).astype(float), means.values, marker="o")
right.set(title=f"Mean of {target}", xlabel=ranking.index[0], ylabel=target)
fig.tight_layout()
plt.show()
