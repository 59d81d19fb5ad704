"""``--frozen``: inputs whose sha256 is taken from the lock are hashed while the build reads them.

A merge reads its tensors in another order than the file's, and of a LoRA a module at a time. So
the hashing is a pass of its own, on a thread beside the work, and the pages that one of the two
brought into memory serve both. Nothing appears before it has ended and agreed. What is not read,
because what was made of it is there already, is not hashed.

Of files elsewhere it asks for no other revision than the lock has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lorapipe.build.engines.halt import Halt
from lorapipe.errors import InputError, LorapipeError, gathered
from lorapipe.plan.files import Certainty, InputFile, pin_mismatch
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.resolve import placed
from lorapipe.remote.state import Version
from lorapipe.remote.url import Location
from lorapipe.store.digest import FileState, Hashed, Progress

__all__ = ["Beside", "changed"]

Hash = Callable[[Path, Progress], Hashed]
Read = Callable[[Version, Progress], str]
"""Reads a file elsewhere for its sha256, in the state in which it was found and no other."""


class _Stopped(Exception):  # never seen outside: it ends the thread's reading
    """The build is over, nobody waits for the digest."""


class Beside:
    """The inputs of a plan that are taken at the lock's or the pin's word, being hashed.

    Hashing begins at once, in the order of the schedule; :meth:`close` ends it. ``hash`` reads a
    file and remembers its digest, which needs no reading when asked for again. Who waits is let go
    when ``halt`` asks to stop.
    """

    def __init__(self, plan: Plan, hash: Hash, read: Read, halt: Halt) -> None:  # noqa: A002  # what it is
        self._hash, self._read = hash, read
        self._halt = halt
        self._over = threading.Event()
        self._states: dict[Path, FileState] = {}
        steps = [plan.steps[position.step] for position in plan.schedule]
        assumed = [(step, step.source) for step in steps if step.source is not None and _assumed(step.source)]
        for _, source in assumed:
            for path in source.files:
                # Before anything is read: what the work sees later must be what is hashed.
                with suppress(OSError):  # a file that is gone is for the reader to name
                    if isinstance(path, Path):
                        self._states[path] = FileState.of(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hashing")
        self._found = {
            source.path: self._thread.submit(self._check, step, source) for step, source in assumed
        }

    def wait(self, source: InputFile) -> None:
        """Wait until an input is hashed, if it is one of these.

        Raises :class:`~lorapipe.errors.InputError` when it is another file than the lock's
        (``input-changed``) or the pin's (``sha256-mismatch``), or changed meanwhile.
        """
        future = self._found.get(source.path)
        if future is not None:
            self._halt.result(future)

    def look(self) -> None:
        """Raise what is known to be wrong by now; waits for nothing."""
        for future in self._found.values():
            _raise_if_failed(future)

    def close(self) -> None:
        """Let go of what is still being hashed."""
        self._over.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _check(self, step: PlannedStep, source: InputFile) -> None:
        try:
            found = source.digest(self._digest)
            assert found is not None
            if found != source.sha256:
                raise _mismatch(source, found)
        except LorapipeError as error:
            raise gathered(list(placed(error, step.step))) from error.__cause__

    def _digest(self, path: Path | Version) -> str:
        if isinstance(path, Version):
            return self._read(path, self._go_on)
        hashed = self._hash(path, self._go_on)
        if hashed.state != self._states.get(path):
            raise changed(path)
        return hashed.sha256

    def _go_on(self, done: int, total: int) -> None:  # noqa: ARG002  # the hashing's signature
        if self._over.is_set():
            raise _Stopped


def changed(path: Location) -> InputError:
    """The error for an input that is not what it was when it was hashed, or taken for known."""
    return InputError(
        "input-changed",
        "changed after it was hashed",
        hint="run again when nothing writes to it",
        where=str(path),
    )


def _assumed(source: InputFile) -> bool:
    return source.certainty in (Certainty.LOCKED, Certainty.PINNED)


def _mismatch(source: InputFile, found: str) -> InputError:
    assert source.sha256 is not None
    if source.certainty is Certainty.PINNED:
        return pin_mismatch(source.path, found, source.sha256)
    return InputError(
        "input-changed",
        f"'{source.path.name}' has sha256 {found[:12]}..., the lock has {source.sha256[:12]}...",
        hint="fetch the locked file again, or 'lorapipe lock' takes this one",
        option="load",
    )


def _raise_if_failed(future: Future[None]) -> None:
    if future.done() and not future.cancelled():
        future.result()
