"""A child process for the crash tests: one result, a file, a folder, a lock, and death on demand.

    one_build.py FOLDER VERSION [POINT NTH ACTION]
    one_build.py --serve

builds ``FOLDER/out/f``, ``FOLDER/out/m/`` and ``FOLDER/r.lock`` from a store in
``FOLDER/store``. The NTH time it comes to POINT it is killed (``kill``), or its disk is full
(``full``). It prints each point it passes, and at the end whether it ``built`` the result or ``found`` it.
A server does so for each line of JSON, a list of such arguments, all at once in children of its
own, and prints a list of exit statuses and lines: a fork costs less than to start Python.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lorapipe.build.digests import MemoDigests
from lorapipe.errors import LorapipeError
from lorapipe.store.contents import listing_digest
from lorapipe.store.lockfile import LockedOutput, LockFile, write
from lorapipe.store.store import Store, open_store
from lorapipe.store.temporaries import sweep

SIZE = 3 << 19


def content(version: str) -> bytes:
    """Of an output; a third of it is more than the writer's buffer."""
    return hashlib.sha256(version.encode()).digest() * (SIZE // 32)


def folder_content(version: str) -> dict[str, bytes]:
    """Of the output folder: two files, one of them in a folder of its own."""
    return {"config.json": version.encode(), "unet/weights": content(version)}


def folder_digest(version: str) -> str:
    return listing_digest(
        {name: hashlib.sha256(data).hexdigest() for name, data in folder_content(version).items()}
    )


def result(version: str) -> bytes:
    return b"result of " + content(version)


def key(version: str) -> str:
    return hashlib.sha256(b"key" + version.encode()).hexdigest()


def write_pieces(file: BinaryIO, data: bytes) -> None:
    for start in range(0, len(data), SIZE // 3):
        file.write(data[start : start + SIZE // 3])


def build(folder: Path, version: str, hook: Callable[[str], None]) -> bool:
    """Returns whether the result had to be built."""
    path = folder / "out" / "f"
    for place in (folder, path.parent):  # of the lock, of the output
        sweep(place)
    with open_store(folder / "store", hook=hook) as store:
        _, built = store.entries.obtain(
            key(version), lambda file: write_pieces(file, result(version)), version
        )
        digest = publish(store, path, version)
        publish_folder(store, folder / "out" / "m", version)
    outputs = {
        "f": LockedOutput("out/f", digest, SIZE, key(version)),
        "m": LockedOutput("out/m", folder_digest(version), SIZE + len(version), key(version)),
    }
    write(folder / "r.lock", LockFile(lorapipe="0", outputs=outputs))
    return built


def publish(store: Store, path: Path, version: str) -> str:
    present = store.memo.hash(path).sha256 if path.exists() else None
    assert present is None or store.journal.ours(path, present), "a foreign file"
    digest = hashlib.sha256(content(version)).hexdigest()
    with store.stage(path, needed=SIZE) as staged:
        write_pieces(staged.file, content(version))
        store.publish(staged, digest, key(version), replacing=present)
    return digest


def publish_folder(store: Store, path: Path, version: str) -> None:
    # Others give the name to theirs meanwhile, which a build's own digests know.
    digests = MemoDigests(store.memo, store.remote_memo, lambda *_: None)
    present = digests.hash(path) if path.exists() else None
    assert present is None or store.journal.ours(path, present), "a foreign folder"
    files = folder_content(version)
    with store.stage_folder(path, needed=SIZE) as staged:
        for name, data in files.items():
            write_pieces(staged.create(name), data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        store.publish_folder(staged, digests, key(version), replacing=present)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # a killed process flushes nothing


def acting(point: str, nth: int, action: str) -> Callable[[str], None]:
    seen: Counter[str] = Counter()

    def hook(at: str) -> None:
        say(at)
        seen[at] += 1
        if (at, seen[at]) == (point, nth):
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, "injected")

    return hook


def main(folder: str, version: str, point: str = "", nth: str = "0", action: str = "") -> int:
    try:
        built = build(Path(folder), version, acting(point, int(nth), action))
    except LorapipeError as error:
        say(error.code)
        return error.exit_status
    say("built" if built else "found")
    return 0


def fork(arguments: list[str], out: int) -> int:
    """A child that does :func:`main` with its output in the file ``out``."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        status = main(*arguments)
    finally:
        os._exit(status)


def serve() -> None:
    for line in sys.stdin:
        jobs = json.loads(line)
        outs = [tempfile.TemporaryFile() for _ in jobs]  # noqa: SIM115  # closed below
        pids = [fork(job, out.fileno()) for job, out in zip(jobs, outs, strict=True)]
        ends = []
        for pid, out in zip(pids, outs, strict=True):
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out.seek(0)
            ends.append((status, out.read().decode().splitlines()))
            out.close()
        say(json.dumps(ends))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main(*sys.argv[1:]))
