# mypy: ignore-errors
# A cell of a notebook: what stands above the first "# %%" is not part of it. It uses no name of another cell.
# %%
# Are the variables of the cells above still there?
print(f'ANALYST {{"step": "variables", "there": {int("df" in globals())}}}')
