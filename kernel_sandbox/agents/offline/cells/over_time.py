# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Draw the mean (without a target: the count of rows) over time.
date = ""  # parameter
target = ""  # parameter
dated = df.dropna(subset=[date]).set_index(date).sort_index()
days = (dated.index.max() - dated.index.min()).days
step = "D" if days <= 90 else "W" if days <= 1500 else "MS"
series = dated[target].astype(float).resample(step).mean() if target else dated.resample(step).size()
series = series.dropna()
fig, ax = plt.subplots(figsize=(10, 4.5))
ax.plot(series.index, series.values, marker="." if len(series) < 100 else "")
ax.set(title=f"{target or 'rows'} over time", xlabel=date, ylabel=target or "rows")
fig.autofmt_xdate()
plt.show()
ends = {"first": str(series.index[0].date()), "last": str(series.index[-1].date())}
peak = {"lowest": series.min(), "highest": series.max(), "peak": str(series.idxmax().date())}
report("over_time", **ends, **peak, points=len(series), unit={"D": "day", "W": "week", "MS": "month"}[step])
