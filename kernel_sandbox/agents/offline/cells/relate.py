# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# How do the two go together: direction, closeness, slope, and the means of five groups of equal size.
factor = ""  # parameter
target = ""  # parameter
pair = df[[factor, target]].astype(float).replace([np.inf, -np.inf], np.nan).dropna()
x, y = pair[factor], pair[target]
slope, intercept = np.polyfit(x, y, 1)
pearson, spearman = x.corr(y), x.rank().corr(y.rank())
bins = pd.qcut(x, 5, duplicates="drop") if x.nunique() > 8 else x
means = y.groupby(bins, observed=True).agg(["mean", "count"])
display(means)
print(f"Pearson {pearson:.3f}, Spearman {spearman:.3f}, slope {slope:.4g}")
rows = [[str(group), mean, count] for group, (mean, count) in zip(means.index, means.values.tolist(), strict=True)]
report("relate", rows, pearson=pearson, spearman=spearman, slope=slope, intercept=intercept, used=len(pair))

shown = pair.sample(min(len(pair), 5000), random_state=0)
fig, ax = plt.subplots(figsize=(9, 5))
ax.scatter(shown[factor], shown[target], s=8, alpha=0.3)
ends = np.array([x.min(), x.max()])
ax.plot(ends, intercept + slope * ends, color="tab:red", label="line of best fit")
ax.set(title=f"{target} by {factor}", xlabel=factor, ylabel=target)
ax.legend()
plt.show()
