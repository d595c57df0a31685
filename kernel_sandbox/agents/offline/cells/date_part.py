# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# Take a part of the date as a column of its own.
column = ""  # parameter
part = ""  # parameter
taken = f"{column}: {part}"
df[taken] = df[column].dt.day_name() if part == "weekday" else getattr(df[column].dt, part)
report("date_part", column=taken)
