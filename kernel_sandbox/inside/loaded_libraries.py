"""Whether a kernel may end at once: the libraries in C that it has loaded, and which of them have nothing to do then.

A library in C may write at the exit (atexit(3), a destructor of its own) or when an object of its types is freed, which
nothing shows beforehand: h5py's files, OpenCV's videos, databases. So those are named that do neither, or whose
objects that do can be seen; any other has the interpreter end in full. Part of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator

_PACKAGES = """_cffi_backend _pydevd_bundle _yaml aiohttp bottleneck charset_normalizer contourpy cryptography debugpy
fontTools frozenlist greenlet httptools jiter kiwisolver lxml markupsafe matplotlib msgpack multidict numexpr numpy
orjson pandas PIL pillow propcache psutil pyarrow pydantic_core pypdfium2_raw pyzmq rapidfuzz regex rpds scikit_learn
scipy sklearn sqlalchemy statsmodels tornado ujson websockets wrapt yaml yarl zmq"""
PACKAGES = frozenset(_PACKAGES.split())
"""By the name of their folder or module; the libraries that a wheel brings are in NAME.libs."""
_SYSTEM = """libatomic libb libblas libbz libc libcblas libcrypt libcrypto libdl libexpat libffi libgcc_s libgfortran
libgomp liblapack liblzma libm libmpdec libmvec libncurses libncursesw libnsl libopenblas libpanelw libpthread libpython
libquadmath libreadline libresolv librt libsodium libsqlite libssl libstdc++ libtinfo libtinfow libtirpc libutil libuuid
libz libzmq libzstd"""
SYSTEM = frozenset(_SYSTEM.split())
"""Without their versions."""
LOADERS = ("ld-", "linux-vdso", "linux-gate")
OWN = "/lib-dynload/"
"""Where the interpreter's modules in C are."""
WRITERS = {"sqlite3": "Connection", "lxml.etree": "_IncrementalFileWriter"}
"""Types of theirs that write when they are freed: a database its journal into its file, say."""
UNSEEN = {"_dbm", "_gdbm"}
"""Modules of the interpreter's own whose types do."""


class _Library(ctypes.Structure):
    """The beginning of a link_map (link.h), which a handle of dlopen(3) points to."""


_Library._fields_ = [
    ("address", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("dynamic", ctypes.c_void_p),
    ("next", ctypes.POINTER(_Library)),
]


def have_nothing_to_do() -> bool:
    """Return whether no library that is loaded does anything of use at the exit."""
    if UNSEEN & sys.modules.keys() or not all(map(_is_known, loaded())):
        return False
    arrow = sys.modules.get("pyarrow")  # its streams have buffers of its own memory until they are written out
    return arrow is None or arrow.total_allocated_bytes() == 0


def writers() -> tuple[type, ...]:
    """Return the types of `WRITERS` whose modules are there."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in WRITERS.items())
    return tuple(writer for writer in found if isinstance(writer, type))


def loaded() -> Iterator[str]:
    """Yield the paths of all libraries of this process, modules in C among them."""
    library = ctypes.cast(ctypes.CDLL(None)._handle, ctypes.POINTER(_Library))
    while library:
        if library.contents.name:  # the program itself has none
            yield os.fsdecode(library.contents.name)
        library = library.contents.next


def _is_known(path: str) -> bool:
    for packages in ("/site-packages/", "/dist-packages/"):
        _, there, below = path.rpartition(packages)
        if there:
            return below.partition("/")[0].partition(".")[0] in PACKAGES
    name = path.rpartition("/")[2]
    stem = name.partition(".so")[0].rstrip("0123456789.-")
    return OWN in path or stem in SYSTEM or name.startswith(LOADERS)
