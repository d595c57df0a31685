"""Says how much the wheels of a directory unpack to, before any of them is unpacked, in the sandbox that will do it.

`python3 wheel_check.py DIRECTORY MOST_BYTES MOST_FILES` ends with an error for more. A member never unpacks to more
than its entry says (zipfile reads no further).
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

if __name__ == "__main__":
    directory, most_bytes, most_files = sys.argv[1:4]
    size = count = 0
    for path in sorted(Path(directory).glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.infolist():
                size, count = size + member.file_size, count + 1
        if size > int(most_bytes) or count > int(most_files):
            sys.exit(f"{path.name} would unpack to more than there is room for: {size} bytes, {count} files")
