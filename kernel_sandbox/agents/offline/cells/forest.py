# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# A random forest sees curves and interplay too. It is judged on rows that it has not seen.
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split

trees = 100  # parameter
most_rows = 20000  # parameter
chosen = features.sample(min(len(features), most_rows), random_state=0).index
train, test = train_test_split(chosen, test_size=0.25, random_state=0)
forest = RandomForestRegressor(trees, min_samples_leaf=5, max_features=0.5, random_state=0, n_jobs=2)
forest.fit(features.loc[train].values, y[train])
held_out = forest.score(features.loc[test].values, y[test])

# How much worse does it guess when one factor's values are shuffled?
shuffled = permutation_importance(forest, features.loc[test].values, y[test], n_repeats=5, random_state=0)
ranking["importance"] = shuffled.importances_mean.clip(min=0)
print(f"held-out R² = {held_out:.3f}")
display(ranking[["importance"]].sort_values("importance", ascending=False))
report("forest", held_out=held_out, trained=len(train), tested=len(test), sampled=int(len(chosen) < len(features)))
