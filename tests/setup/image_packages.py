"""The table of all packages in images/README.md, written from the locks: `python -m tests.setup.image_packages`."""

from __future__ import annotations

from kernel_sandbox.sandbox.engines.image_names import (
    debian_packages,
    image_names,
    images_folder,
    lock_of,
    locked_packages,
)

IMAGES = ("python", "datascience", "full")
"""Each holds what the one before it holds."""
OF_LANGUAGES = tuple(name for name in image_names() if name not in IMAGES)
OF_DEBIAN = "of Debian"
START, END = "<!-- packages: written by tests.setup.image_packages -->\n", "<!-- end of packages -->\n"
README = images_folder() / "README.md"


def locked(image: str) -> dict[str, str]:
    """Return the versions that an image's lock holds, by the packages' names."""
    return dict(locked_packages(lock_of(image)))


def held(image: str) -> dict[str, str]:
    """Return what is in an image: what its lock holds, and packages of Debian, whose versions are the mirror's."""
    return locked(image) | dict.fromkeys(debian_packages(image), OF_DEBIAN)


def table() -> str:
    """Write a row for each package: its version, and the images that have it."""
    images = (*IMAGES, *OF_LANGUAGES)
    rows = [
        "| package | version | " + " | ".join(f"`{name}`" for name in images) + " |",
        "|---|---|" + "---|" * len(images),
    ]
    contents = [held(name) for name in images]
    for package, version in sorted({pair for each in contents for pair in each.items()}):
        ticks = ("✓" if each.get(package) == version else "" for each in contents)
        rows.append(f"| {package} | {version} | {' | '.join(ticks)} |")
    return "\n".join(rows) + "\n"


def parts() -> tuple[str, str, str]:
    """Return the README before the table, the table, and what comes after it."""
    before, _, rest = README.read_text().partition(START)
    written, _, after = rest.partition(END)
    return before + START, written, END + after


if __name__ == "__main__":
    first, _, last = parts()
    README.write_text(first + table() + last)
