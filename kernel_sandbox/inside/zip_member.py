"""Writes one member of a zip archive to a file, in the sandbox in which an environment is made.

`python3 zip_member.py ARCHIVE MEMBER FILE`
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

if __name__ == "__main__":
    with zipfile.ZipFile(sys.argv[1]) as archive:
        Path(sys.argv[3]).write_bytes(archive.read(sys.argv[2]))
