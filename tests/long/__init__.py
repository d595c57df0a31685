"""What takes too long for every run of the tests, or fetches what they do not need: `python -m tests.long`.

Each module here is an entry, known by its name; its docstring's first line says what it finds out. It has one function:

    def run(asked: Asked) -> list[str]

`asked` (in `_asked`) has what the command line asks for, and a directory for what it fetches. `run` prints its figures
as it goes and returns what is wrong, a sentence each; an empty list means that all is well. What it needs and
cannot get is wrong too, never left out. An exception counts as one such sentence. Modules and packages whose names
begin with an underscore are parts of entries.
"""
