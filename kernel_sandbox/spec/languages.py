"""The languages of kernels: what people, notebooks and models call each, and which image and which files go with it.

Python's is every image's but those that say otherwise. A kernel of none of these is known by what it says of itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Language:
    """One language."""

    name: str
    """As kernelspecs and language_info have it."""
    title: str
    """As people write it."""
    image: str | None = None
    """The image of this package that is for it; None where it is any image's, or none's."""
    suffixes: tuple[str, ...] = ()
    """Of files that hold a program in it, in small letters."""
    fences: tuple[str, ...] = ()
    """What Markdown calls blocks of it, beside its name."""
    comment: str = "#"
    """What begins a comment, up to the end of its line."""

    @property
    def is_python(self) -> bool:
        """Whether it is Python, for which a session can do more."""
        return self is PYTHON

    @property
    def kernelspec(self) -> dict[str, str]:
        """How notebooks and Jupyter name a sandboxed kernel of it."""
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "other"
        return {"name": f"{name}-sandbox", "display_name": f"{self.title} (sandbox)", "language": self.name}


LONGEST = 30
"""Characters of a language's name."""
PYTHON = Language("python", "Python", None, (".py", ".ipy"), ("py", "python3", "ipython"))
R = Language("R", "R", "r", (".r",), ("r",))
TYPESCRIPT = Language(
    "typescript", "TypeScript", "javascript", (".ts", ".js", ".mts", ".mjs"), ("ts", "javascript", "js"), "//"
)
BASH = Language("bash", "Bash", "bash", (".sh", ".bash"), ("sh", "shell"))
JAVA = Language("java", "Java", "java", (".java", ".jsh"), comment="//")
LANGUAGES = (PYTHON, R, TYPESCRIPT, BASH, JAVA)


def language_named(name: str) -> Language:
    """Return the language of this name in a kernelspec or in language_info; a new one for a name that is none here.

    The name may be a stranger's text: it is short then, and of characters that names have.
    """
    name = re.sub(r"[^A-Za-z0-9+#. -]", "", name)[:LONGEST].strip() or "another language"
    small = name.lower()
    known = (language for language in LANGUAGES if small in (language.name.lower(), *language.fences))
    return next(known, Language(name, name))


def language_of_image(image: str) -> Language:
    """Return the language of one of this package's images, as far as its name tells: Python, but for those here."""
    return next((language for language in LANGUAGES if language.image == image), PYTHON)


def language_of_file(path: PurePath | str) -> Language | None:
    """Return the language of a program by its file's name; None for any other name."""
    suffix = PurePath(path).suffix.lower()
    return next((language for language in LANGUAGES if suffix in language.suffixes), None)
