"""sha256 of a file with Python's hashlib: hash_file.py FILE."""

import hashlib
import sys
from pathlib import Path


def main(path: str) -> None:
    """Read in pieces of 4 MiB."""
    found, piece = hashlib.sha256(), bytearray(4 << 20)
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            found.update(memoryview(piece)[:count])
    sys.stdout.write(found.hexdigest() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
