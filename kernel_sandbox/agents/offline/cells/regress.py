# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# A linear regression on standardised factors: coefficients in standard deviations can be compared.
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

standardised = StandardScaler().fit_transform(features)
regression = LinearRegression().fit(standardised, (y - y.mean()) / y.std(ddof=0))
r_squared = regression.score(standardised, (y - y.mean()) / y.std(ddof=0))
ranking["coefficient"] = regression.coef_
print(f"R² = {r_squared:.3f}")
display(ranking[["coefficient"]].sort_values("coefficient", key=abs, ascending=False))
report("regress", r_squared=r_squared)
