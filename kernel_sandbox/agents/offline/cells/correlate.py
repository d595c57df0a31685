# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Which factors go with the target, along a line (Pearson) and in rank (Spearman)?
correlations = pd.DataFrame({"pearson": features.corrwith(y), "spearman": features.rank().corrwith(y.rank())})
ranking = correlations.copy()
correlations = correlations.sort_values("pearson", key=abs, ascending=False)
display(correlations)
report("correlate", correlations.head(15).reset_index().values.tolist())
