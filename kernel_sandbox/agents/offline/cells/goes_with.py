# How closely does each other column go with this one, taken alone?
target = ""  # parameter
known = df[df[target].notna()].replace([np.inf, -np.inf], np.nan)
kinds = {name: kind(known[name]) for name in known}


def usable(name):
    """Return whether a column holds different numbers, or groups, and five rows or more for each on average."""
    different, rows = known[name].nunique(), known[name].count()
    return different > 1 and rows >= 5 * {"number": 1, "category": different}.get(kinds[name], np.inf)


def compare(name):
    """Return how closely a column goes with the target: the measure's name, its value, and what it is taken from."""
    pair = known[[name, target]].dropna()
    if len(pair) < 5 or pair.nunique().min() < 2:
        return "none", np.nan, np.nan, np.nan, len(pair)
    numbers = [each for each in pair if kinds[each] == "number"]
    groups = [each for each in pair if each not in numbers]
    if not groups:
        x, y = pair[name].astype(float), pair[target].astype(float)
        return "Pearson", x.corr(y), x.rank().corr(y.rank()), np.nan, len(pair)
    if numbers:  # its square is the share of the variance that lies between the groups
        values = pair[numbers[0]].astype(float)
        means = values.groupby(pair[groups[0]], observed=True).transform("mean")
        return "correlation ratio", means.std() / values.std(), np.nan, pair[groups[0]].nunique(), len(pair)
    counts = pd.crosstab(pair[name], pair[target]).to_numpy()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(pair)
    squares = ((counts - expected) ** 2 / expected).sum() / len(pair)
    return "Cramér's V", (squares / (min(counts.shape) - 1)) ** 0.5, np.nan, len(counts), len(pair)


compared = [name for name in known if name != target and usable(target) and usable(name)]
columns = ["measure", "closeness", "Spearman", "groups", "rows"]
found = pd.DataFrame([compare(name) for name in compared], index=compared, columns=columns).dropna(subset="closeness")
found = found.sort_values("closeness", key=abs, ascending=False, kind="stable")
rows = [[name[:80], *row] for name, row in zip(found.index, found.values.tolist())]
left_out = [[name[:80]] for name in known if name != target and name not in found.index]
report("goes_with", [*rows[:12], *left_out[:20]], used=len(known), compared=len(rows), left_out=len(left_out))

if len(found):
    display(found.dropna(axis=1, how="all"))
    best, bars = found.index[0], found["closeness"].abs().head(8).iloc[::-1].rename(lambda name: name[:40])
    fig, (left, right) = plt.subplots(1, 2, figsize=(13, 5))
    bars.plot.barh(ax=left, title=f"What goes with {target[:60]}", xlabel="0: not at all, 1: wholly")
    value, group = (target, best) if kinds[target] == "number" else (best, target)
    groups = pd.qcut(known[group], 10, duplicates="drop") if known[group].nunique() > 20 else known[group]
    if kinds[value] == "number":
        known.groupby(groups, observed=True)[value].mean().plot.barh(ax=right, title=f"Mean of {value[:60]}")
    else:
        pd.crosstab(groups, known[value], normalize="index").plot.barh(ax=right, stacked=True)
    fig.tight_layout()
    plt.show()
