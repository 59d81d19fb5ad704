"""Feed a reader for as long as wanted: ``nice python -m tests.fuzz recipe --count 100000``.

What must hold of every input: no exception but a named error, no more than a second, no more than
a gigabyte in all. An input of which it does not hold is printed with its number, and kept in
``fuzz-failures/``; ``--first N --count 1`` gives it again. With ``--atheris`` the inputs are
libFuzzer's (``pip install atheris``), guided by what they cover.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType

from .inputs import MAKERS
from .targets import TARGETS

_SECONDS = 1.0
_MEMORY = 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--count", type=int, default=100_000, help="how many inputs (100,000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first (0)")
    parser.add_argument("--atheris", action="store_true", help="let libFuzzer make the inputs")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (4 * _MEMORY, 4 * _MEMORY))  # what is mapped, not what is used
    with tempfile.TemporaryDirectory() as scratch:
        feed = TARGETS[asked.target]
        if asked.atheris:
            return _guided(feed, Path(scratch), asked.count)
        return _run(asked.target, feed, Path(scratch), asked.first, asked.count)


def _run(name: str, feed: Callable[[bytes, Path], str], scratch: Path, first: int, count: int) -> int:
    codes: Counter[str] = Counter()
    slowest, failed, began = 0.0, 0, time.monotonic()
    for number in range(first, first + count):
        data = MAKERS[name](Random(number))
        start = time.process_time()
        try:
            with _alarm():
                codes[feed(data, scratch)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            _keep(name, number, data)
            traceback.print_exc()
        taken = time.process_time() - start
        slowest = max(slowest, taken)
        if taken > _SECONDS:
            failed += 1
            _keep(name, number, data)
            print(f"input {number} took {taken:.2f} s")
    peak = _peak()
    failed += peak > _MEMORY
    print(f"{count} inputs of {name} in {time.monotonic() - began:.0f} s: {failed} failures")
    print(f"slowest {slowest:.3f} s, peak {peak / 2**20:.0f} MiB")
    for code, times in codes.most_common():
        print(f"{times:8} {code}")
    return 1 if failed else 0


def _peak() -> int:
    """The most memory that this program had, in bytes.

    The kernel's ``ru_maxrss`` is that of the process that started this one, where it had more.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _alarm:  # noqa: N801  # reads as what it does
    """Raises in what hangs; the limit proper is of processor time, that others on the machine do not take."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.alarm(20)

    def __exit__(self, *exc: object) -> None:
        signal.alarm(0)

    @staticmethod
    def _ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("hangs")


def _keep(name: str, number: int, data: bytes) -> None:
    folder = Path("fuzz-failures")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{number}").write_bytes(data)
    print(f"input {number} failed: fuzz-failures/{name}-{number}", flush=True)


def _guided(feed: Callable[[bytes, Path], str], scratch: Path, count: int) -> int:
    import atheris

    atheris.instrument_all()
    options = [sys.argv[0], f"-runs={count}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=4096"]
    atheris.Setup(options, lambda data: feed(data, scratch) and None)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
