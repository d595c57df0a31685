# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# The target has two values: write it as 0 and 1.
target = ""  # parameter
known = df[target].dropna()
yes = sorted(known.unique(), key=str)[-1]
marked = f"{target} = {yes}"
df[marked] = df[target].eq(yes).astype(float).where(df[target].notna())
report("two_values", column=marked)
