# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Keep the rows where the target is known, and write every factor as a number.
target = ""  # parameter
numbers = []  # parameter
categories = []  # parameter
dates = []  # parameter
data = df[df[target].replace([np.inf, -np.inf], np.nan).notna()]
y = data[target].astype(float)

features = data[numbers].astype(float).replace([np.inf, -np.inf], np.nan)
for column in dates:
    for part in ("hour", "day_of_week", "month", "year"):
        features[f"{column}: {part}"] = getattr(data[column].dt, part)
for column in categories:
    # The commonest values get a column of 0 and 1 each; the rest is what they are compared with.
    values = data[column].value_counts().index[: min(8, data[column].nunique() - 1)]
    for value in values:
        features[f"{column} = {value}"] = data[column].eq(value).astype(float)

# A column that is mostly missing, or always the same, explains nothing.
useless = [name for name in features if features[name].isna().mean() > 0.6 or features[name].nunique() < 2]
features = features.drop(columns=useless)
filled = int(features.isna().sum().sum())
features = features.fillna(features.median())

display(features.assign(**{target: y}).describe().T)
summary = {"mean": y.mean(), "sd": y.std(), "lowest": y.min(), "highest": y.max(), "values": y.nunique()}
counts = {"used": len(y), "left_out": len(df) - len(y), "filled": filled, "factors": features.shape[1]}
report("clean", [[name] for name in useless[:20]], **summary, **counts)
