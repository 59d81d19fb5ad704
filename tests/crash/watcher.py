"""Looks at outputs while builds run and die: a script for tests.

    watcher.py OUT KNOWN

Reads what is visible below the folder OUT again and again until its input ends; every file must
have a digest that KNOWN (JSON) lists, every folder must be one of those that it lists, whole. Prints
``{"looks": ..., "files": ..., "wrong": [...]}``. Needs neither torch nor lorapipe.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_folder(fd: int) -> Iterator[tuple[str, str]]:
    """Name and sha256 of each file of an open folder, whatever name the folder has meanwhile."""
    for name in sorted(os.listdir(fd)):
        file = os.open(name, os.O_RDONLY, dir_fd=fd)
        with os.fdopen(file, "rb") as stream:
            yield name, hashlib.sha256(stream.read()).hexdigest()


def look_at_folder(path: Path, known: list[dict[str, str]]) -> str | None:
    """What is wrong with a folder; nothing if it was replaced while it was read."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = dict(read_folder(fd))
        same = os.path.samestat(os.fstat(fd), path.stat())
    finally:
        os.close(fd)
    return f"{path.name}/: {found}" if same and found not in known else None


def look(out: Path, known: dict[str, Any]) -> tuple[int, list[str]]:
    """Everything visible in ``out``: how much, and what of it is wrong."""
    wrong, count = [], 0
    for path in sorted(out.iterdir()):
        if path.name.startswith("."):
            continue
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):  # replaced just now
            if path.is_dir():
                problem = look_at_folder(path, known["folders"])
            else:
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                problem = None if sha256 in known["files"] else f"{path.name}: {sha256}"
            count += 1
            wrong += [problem] if problem else []
    return count, wrong


def main(out: str, known: str) -> None:
    looks = files = 0
    wrong: list[str] = []
    print("looking", flush=True)  # noqa: T201 - the test waits for it
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        with suppress(FileNotFoundError):
            count, found = look(Path(out), json.loads(known))
            looks, files, wrong = looks + 1, files + count, wrong + found
    print(json.dumps({"looks": looks, "files": files, "wrong": wrong[:5]}))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
