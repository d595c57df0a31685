"""Describe a data file: its first rows, its columns and their types, row count, missing values.

Runs INSIDE the sandbox as the source of a cell (file_access.py reads it as text); imported by nobody on the host. The
file may be hostile. One class, so that it leaves one hidden name in the user's kernel.
"""
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False
# Without annotations: names for them would have to be imported into the user's kernel.


class _FilePreview:
    """Prints what a file holds. `request` is JSON text: {"name", "rows"}."""

    def __init__(self, request: str) -> None:
        import json

        wanted = json.loads(request)
        self.name: str = wanted["name"]
        self.rows: int = wanted["rows"]
        self.suffix = "." + self.name.rpartition(".")[2].lower()

    def show(self) -> None:
        if self.suffix in (".txt", ".md", ".log"):
            self.show_lines()
            return
        try:
            tables = self.read_tables()
        except Exception as exc:  # noqa: BLE001 - a hostile or broken file can make its parser raise anything
            print(f"It cannot be read as {self.suffix[1:]} ({type(exc).__name__}: {str(exc)[:500]}).")
            if self.suffix not in (".parquet", ".xlsx", ".xlsm"):
                self.show_lines()
            return
        for title, table in tables:
            self.show_table(title, table)

    def read_tables(self):
        """Return pairs of a title (empty for the only table) and a DataFrame."""
        import pandas

        if self.suffix in (".csv", ".tsv"):
            separator = "\t" if self.suffix == ".tsv" else self.separator()
            return [("", pandas.read_csv(self.name, sep=separator, encoding_errors="replace", low_memory=False))]
        if self.suffix == ".parquet":
            return [("", pandas.read_parquet(self.name))]
        if self.suffix in (".xlsx", ".xlsm"):
            sheets = pandas.read_excel(self.name, sheet_name=None)
            return [(f"Sheet {title!r}" if len(sheets) > 1 else "", table) for title, table in sheets.items()]
        if self.suffix in (".jsonl", ".ndjson"):
            return [("", pandas.read_json(self.name, lines=True))]
        return [("", self.json_table())]

    def json_table(self):
        """Return a list of objects, or an object of lists, as a table; nested objects become columns "a.b"."""
        import json

        import pandas

        with open(self.name, encoding="utf-8", errors="replace") as file:
            content = json.load(file)
        if isinstance(content, dict) and not all(isinstance(value, list) for value in content.values()):
            print(f"A JSON object with the keys: {', '.join(map(str, list(content)[:50]))}")
            lists = [value for value in content.values() if isinstance(value, list) and value]
            content = max(lists, key=len) if lists else [content]
        return pandas.DataFrame(content) if isinstance(content, dict) else pandas.json_normalize(content)

    def separator(self) -> str:
        """Guess between comma, semicolon, tab and bar from the first line: the one that it has most of."""
        with open(self.name, encoding="utf-8", errors="replace") as file:
            first = file.readline(100_000)
        return max(",;\t|", key=first.count)

    def show_table(self, title, table):
        import pandas

        print(f"{title + ': ' if title else ''}{len(table)} rows × {len(table.columns)} columns")
        print(f"The file content for the first {self.rows} rows is:")
        print(table.head(self.rows).to_string(max_cols=40, max_colwidth=60, line_width=110))
        missing = table.isna().sum()
        facts = pandas.DataFrame({"dtype": table.dtypes.astype(str), "missing": missing})
        print(f"Columns, their types and how many values are missing ({int(missing.sum())} in all):")
        print(facts.to_string(max_rows=200))

    def show_lines(self) -> None:
        count = 0
        print(f"The first {self.rows} lines are:")
        with open(self.name, encoding="utf-8", errors="replace") as file:
            for line in file:
                count += 1
                if count <= self.rows:
                    print(line[:1000].rstrip("\n"))
        print(f"{count} lines in all")
