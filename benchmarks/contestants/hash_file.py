"""sha256 of files with Python's hashlib: hash_file.py FILE ..."""

import hashlib
import sys
from pathlib import Path


def main(*paths: str) -> None:
    """Read in pieces of 4 MiB."""
    piece = bytearray(4 << 20)
    for path in paths:
        found = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as file:
            while count := file.readinto(piece):
                found.update(memoryview(piece)[:count])
        sys.stdout.write(found.hexdigest() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
