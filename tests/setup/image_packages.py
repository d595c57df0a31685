"""The table of all packages in images/README.md, written from the locks: `python -m tests.setup.image_packages`."""

from __future__ import annotations

import re

from kernel_sandbox.sandbox.engines.image_names import folder, images_folder

IMAGES = ("python", "datascience", "full")
"""Each holds what the one before it holds."""
START, END = "<!-- packages: written by tests.setup.image_packages -->\n", "<!-- end of packages -->\n"
README = images_folder() / "README.md"


def locked(image: str) -> dict[str, str]:
    """Return the versions that an image's lock holds, by the packages' names."""
    text = (folder(image) / "requirements.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))


def table() -> str:
    """Write a row for each package: its version, and the images that have it."""
    rows = ["| package | version | " + " | ".join(f"`{name}`" for name in IMAGES) + " |", "|---|---|" + "---|" * 3]
    locks = [locked(name) for name in IMAGES]
    for package, version in sorted(locks[-1].items()):
        rows.append(f"| {package} | {version} | " + " | ".join("✓" if package in lock else "" for lock in locks) + " |")
    return "\n".join(rows) + "\n"


def parts() -> tuple[str, str, str]:
    """Return the README before the table, the table, and what comes after it."""
    before, _, rest = README.read_text().partition(START)
    written, _, after = rest.partition(END)
    return before + START, written, END + after


if __name__ == "__main__":
    first, _, last = parts()
    README.write_text(first + table() + last)
