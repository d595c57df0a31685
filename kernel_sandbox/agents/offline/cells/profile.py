# mypy: ignore-errors
# ruff: noqa: F821
# A cell of a notebook: what stands above the first "# %%" is not part of it, and other cells make its other names.
# %%
# What does each column hold, and how much of it is missing?
import re

most_columns = 150  # parameter
CODE_WORDS = {"id", "ids", "key", "code", "uuid", "guid", "zip", "zipcode", "postcode", "index"}


def tidy(values):
    """Turn text that holds numbers or dates into numbers or dates."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return values
    if values.map(lambda value: isinstance(value, (list, dict, np.ndarray))).any():
        return values.astype(str)
    text = values.dropna().astype(str).str.strip()
    if text.empty or set(values.dropna().map(type)) == {bool}:
        return values
    numbers = pd.to_numeric(text.str.replace(r"^[$€£]|(?<=\d),(?=\d{3}\b)|%$", "", regex=True), errors="coerce")
    if numbers.notna().mean() >= 0.9:
        return numbers.reindex(values.index)
    if text.str.contains(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|[A-Za-z]{3,9} \d{1,2},? \d{4}").mean() >= 0.9:
        dates = parse_dates(text)
        if dates.notna().mean() >= 0.9:
            return dates.reindex(values.index)
    return values if values.map(type).nunique() <= 1 else values.where(values.isna(), values.astype(str))


def parse_dates(text):
    """Read dates, the month first or the day first: whichever fits more of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ways = [pd.to_datetime(text, errors="coerce", dayfirst=first, utc=True) for first in (False, True)]
    return max(ways, key=lambda dates: dates.notna().sum()).dt.tz_localize(None)


def kind_of(name, values):
    """Return what a column is: number, boolean, date, category, text, identifier or empty."""
    known = values.dropna()
    if known.empty:
        return "empty"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    unique = known.nunique()
    coded = not CODE_WORDS.isdisjoint(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower().split())
    if pd.api.types.is_numeric_dtype(values):
        counts_up = (coded or name == df.columns[0]) and len(known) >= 10 and known.diff().dropna().eq(1).all()
        if coded or counts_up:
            return "identifier" if counts_up or unique > len(known) / 2 else "category"
        return "number"
    if coded and unique > len(known) / 2:
        return "identifier"
    return "category" if len(df) < 30 or unique <= max(20, len(known) / 10) else "text"


df = df.apply(tidy)
kinds = {column: kind_of(column, df[column]) for column in df.columns}
profile = pd.DataFrame({"kind": kinds, "missing": df.isna().sum(), "unique": df.nunique()}).reindex(df.columns)
display(profile.head(30))
report("profile", profile.head(most_columns).reset_index().values.tolist(), table_columns=len(profile))
