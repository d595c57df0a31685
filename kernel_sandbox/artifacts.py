"""Artifacts: what cells leave on the host, pictures and files, in one directory. The doors and the agents call it.

Cells are hostile. A picture's name is ours alone. A file's name is made of its own by `host_name`: one part, plain
ASCII, with a suffix that no desktop runs or gives to a browser; and it never takes the place of a file that this
session did not write. How many files, and how many bytes, is bounded.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.errors import FileError, FileNameRefused, SandboxError, SandboxFileNotFound
from kernel_sandbox.sandbox.files import AsyncSandboxFiles, FileInfo
from kernel_sandbox.session.outputs import PICTURE_SUFFIXES, Picture
from kernel_sandbox.spec.values import parse_size
from kernel_sandbox.text.amounts import format_size

SUFFIXES = frozenset(
    "csv tsv txt log md json jsonl ndjson geojson yaml yml toml parquet feather arrow xlsx npy npz "  # noqa: SIM905
    "png jpg jpeg gif webp pdf".split()
)
"""Of files that keep their suffix; others get `.bin` behind it. Not here: what a double click runs, unpacks or gives to
a browser, which runs what is in it (html, svg, xml), and pickles, whose reading runs code."""
MAX_STEM = 100
"""Characters of a name before its suffix."""
MAX_FILES = 100
MAX_BYTES = 256 * 1024 * 1024
_OURS = re.compile(r"cell-\d+-\d+\.\w+(\.bin)?")
"""How pictures are named; no file of a cell gets such a name."""


def host_name(name: str) -> str:
    """Make a name for the host of one that a sandbox chose: [A-Za-z0-9._-], no dot or dash first, a known suffix."""
    plain = unicodedata.normalize("NFKD", name.rsplit("/", 1)[-1][:1000]).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).rstrip("._-")
    stem, dot, suffix = plain.rpartition(".")
    if not dot or suffix.lower() not in SUFFIXES:
        stem, suffix = plain, "bin"
    return f"{stem[:MAX_STEM].strip('._-') or 'file'}.{suffix}"


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of something that was to be saved on the host."""

    path: Path | None
    problem: str = ""
    """Why there is no path, in a few words."""


class Budget:
    """How much one session may leave on the host."""

    def __init__(self, max_files: int, max_bytes: int) -> None:
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._sizes: dict[Path, int] = {}

    def room(self, path: Path | None, size: int) -> int:
        """Return how many bytes may stand at a path, None for a new one. Raises OSError where `size` is too much."""
        if path not in self._sizes and len(self._sizes) >= self._max_files:
            raise OSError(errno.EDQUOT, f"at most {self._max_files} files of a session are saved")
        others = sum(kept for other, kept in self._sizes.items() if other != path)
        if others + size > self._max_bytes:
            raise OSError(errno.EDQUOT, f"at most {format_size(self._max_bytes)} of a session are saved")
        return self._max_bytes - others

    def charge(self, path: Path, size: int) -> None:
        self._sizes[path] = size


class PictureFolder:
    """Where pictures are kept: `cell-03-1.png` in a directory that is made with the first one.

    One of that name that is there already, from an earlier session, is replaced.
    """

    def __init__(self, directory: Path | None, budget: Budget | None = None) -> None:
        """`directory` None keeps nothing. With a `budget`, as agents have, svg is kept as `.svg.bin`."""
        self.directory = directory
        self._budget = budget
        self._displays: dict[str, str] = {}
        self._cell = self._count = 0

    def start_cell(self, cell: int) -> None:
        """Name what follows after this cell."""
        self._cell, self._count = cell, 0

    def restart_cell(self) -> None:
        """Number from one again, over what is there: a cell that clears its output shows the frames of a film."""
        self._count = 0

    def keep(self, picture: Picture, display_id: str | None = None) -> Saved | None:
        """Write a picture, over an earlier one of its display_id, and say where; None where nothing is kept."""
        if self.directory is None:
            return None
        stem = self._displays.get(display_id or "")
        if stem is None:
            self._count += 1
            stem = f"cell-{self._cell:02d}-{self._count}"
        name = f"{stem}.{PICTURE_SUFFIXES[picture.kind]}"
        path = self.directory / (name if self._budget is None else host_name(name))
        try:
            if self._budget is not None:
                self._budget.room(path, len(picture.data))
            self.directory.mkdir(parents=True, exist_ok=True)
            _replace(path, picture.data)
        except OSError as exc:
            return Saved(None, exc.strerror or str(exc))
        if self._budget is not None:
            self._budget.charge(path, len(picture.data))
        if display_id:
            self._displays[display_id] = stem
        return Saved(path)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of whatever bears its name: a link is replaced, not followed."""
    temporary = path.with_name(f".artifact-{secrets.token_hex(8)}.tmp")
    try:
        with open(_create(temporary), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _create(path: Path) -> int:
    """Make a new file, and return its descriptor. Raises FileExistsError for anything that is there, a link too."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


class Artifacts:
    """What one session leaves in a directory of the host: its pictures, and its files where they are wanted."""

    def __init__(
        self,
        directory: str | Path,
        *,
        files: bool = True,
        max_files: int = MAX_FILES,
        max_bytes: int | str = MAX_BYTES,
    ) -> None:
        """`max_files` and `max_bytes` count pictures too, as they stand: what is written anew counts once."""
        self.directory = Path(directory).expanduser()
        self.files = files
        self._budget = Budget(max_files, parse_size(max_bytes))
        self.pictures = PictureFolder(self.directory, self._budget)
        self._written: dict[str, tuple[Path, _Signature]] = {}

    async def save(self, files: AsyncSandboxFiles, infos: Iterable[FileInfo]) -> dict[str, Saved]:
        """Copy files out of the sandbox, and say by name what became of each. Nothing is raised for a file."""
        return {info.name: await self._save(files, info) for info in infos} if self.files else {}

    async def _save(self, files: AsyncSandboxFiles, info: FileInfo) -> Saved:
        own = self._own_place(info.name)
        try:
            room = self._budget.room(own, info.size)
            target = own or self._claim(info.name)
        except OSError as exc:
            return Saved(None, exc.strerror or str(exc))
        saved = False
        try:
            await files.download(info.name, target, limit=room)
            saved = True
        except SandboxError as exc:
            return Saved(None, _problem(exc))
        finally:
            if not saved and own is None:
                target.unlink(missing_ok=True)
        signature = _signature(target)
        self._budget.charge(target, signature[2] if signature else 0)
        self._written[info.name] = target, signature
        return Saved(target)

    def _own_place(self, name: str) -> Path | None:
        """Where this session has saved a file before; None where it has not, or where somebody changed it since."""
        path, written = self._written.get(name, (None, None))
        return path if path is not None and _signature(path) == written else None

    def _claim(self, name: str) -> Path:
        """Make an empty file under a name that is free, so that nobody else can take it. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        wanted = Path(host_name(name))
        for number in itertools.count(1):
            path = self.directory / (wanted if number == 1 else f"{wanted.stem}-{number}{wanted.suffix}")
            if _OURS.fullmatch(path.name):
                continue
            try:
                os.close(_create(path))
            except FileExistsError:
                continue
            return path
        raise AssertionError("unreachable")


_Signature = tuple[int, int, int] | None


def _signature(path: Path) -> _Signature:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _problem(exc: SandboxError) -> str:
    """Return why a file was not copied, without its name (many may share the reason) and without a path of the host."""
    if isinstance(exc, FileNameRefused):
        return "refused for its name, or as no regular file"
    if isinstance(exc, SandboxFileNotFound):
        return "gone before it could be copied"
    if isinstance(exc.__cause__, OSError):
        return exc.__cause__.strerror or "it cannot be written"
    return "it could not be copied whole" if isinstance(exc, FileError) else "the sandbox has ended"
