"""``<recipe stem>.lock``: what a recipe was built from, and what came out.

The text is sorted, one block a step, so that two branches that touched different steps
merge without a conflict. It can always be made again, so it holds nothing that a build
needs. It may come with a stranger's repository, so nothing in it is trusted to be of
the right type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

from lorapipe.errors import LockError
from lorapipe.store import plainyaml
from lorapipe.store.atomic import atomic_write
from lorapipe.store.digest import is_sha256

__all__ = [
    "VERSION",
    "LockFile",
    "LockedInput",
    "LockedOutput",
    "LockedStep",
    "lock_path",
    "parse",
    "read",
    "relative",
    "render",
    "write",
]

T = TypeVar("T")

VERSION = 1
"""Of the format. A reader takes unknown fields of its own version in its stride."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LockedInput:
    """A file that a ``load`` step read: its path as :func:`relative` gives it, its size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class LockedStep:
    """A step's kind, the version of that kind, and the content key of its result."""

    kind: str
    version: int
    key: str


@dataclass(frozen=True, slots=True)
class LockedOutput:
    """A file that a ``save`` step wrote, and the key it was built from."""

    path: str
    sha256: str
    size: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """A lock: digests are sha256 in hexadecimal, mappings go by step id.

    ``recipe`` is the digest of the recipe's text, ``params`` the values in force,
    ``profile`` what the numbers depend on (torch version, device type, compute dtype),
    ``lorapipe`` the version that wrote it. ``parse(render(lock)) == lock``.
    """

    recipe: str
    lorapipe: str
    params: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    profile: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    inputs: Mapping[str, LockedInput] = field(default_factory=lambda: _EMPTY)
    steps: Mapping[str, LockedStep] = field(default_factory=lambda: _EMPTY)
    outputs: Mapping[str, LockedOutput] = field(default_factory=lambda: _EMPTY)

    def owns(self, path: str, sha256: str) -> bool:
        """Whether the lock holds this output (its path as :func:`relative` gives it) with this digest."""
        return any(out.path == path and out.sha256 == sha256 for out in self.outputs.values())


def lock_path(recipe: Path) -> Path:
    """Where a recipe's lock lies unless told otherwise: ``char.yaml`` -> ``char.lock``."""
    return recipe.with_suffix(".lock")


def relative(path: Path, folder: Path) -> str:
    """``path`` as seen from the recipe's ``folder``, with forward slashes on every platform."""
    return PurePosixPath(*Path(os.path.relpath(path, folder)).parts).as_posix()


def read(path: Path) -> LockFile | None:
    """The lock at ``path``, or None if there is none.

    Raises :class:`~lorapipe.errors.LockError`: ``lock-unreadable``, or as :func:`parse` does.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError("lock-unreadable", f"it cannot be read: {error.strerror}", where=str(path)) from error
    try:
        return parse(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8 text").located(where=str(path)) from error
    except LockError as error:
        raise error.located(where=str(path)) from error.__cause__


def write(path: Path, lock: LockFile) -> bool:
    """Write the lock, unless the file says the same already; returns whether it did.

    Atomic; raises :class:`~lorapipe.errors.BuildError` as :func:`~lorapipe.store.atomic.stage` does.
    """
    raw = render(lock).encode("utf-8")
    try:
        if path.read_bytes() == raw:
            return False
    except OSError:
        pass  # missing or unreadable: the writing will tell
    with atomic_write(path, label="lock") as file:
        file.write(raw)
    return True


_HEADER = """\
# Written by lorapipe: what the recipe beside this file was built from, and what came out.
# It can be merged, or deleted: the next run writes it again.
"""


def render(lock: LockFile) -> str:
    """The lock's text: a function of its values alone, whatever order its mappings have.

    Parts of a file name that are not text are replaced by U+FFFD. Raises ``ValueError``
    for a float that is not finite.
    """
    document = {
        "version": VERSION,
        "lorapipe": lock.lorapipe,
        "recipe": lock.recipe,
        "params": dict(sorted(lock.params.items())),
        "profile": dict(sorted(lock.profile.items())),
        "inputs": {step: asdict(each) for step, each in sorted(lock.inputs.items())},
        "steps": {step: asdict(each) for step, each in sorted(lock.steps.items())},
        "outputs": {step: asdict(each) for step, each in sorted(lock.outputs.items())},
    }
    return _HEADER + plainyaml.dump(document)


_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
_REMEDY = "delete it: 'lorapipe run' writes it again"


def parse(text: str) -> LockFile:
    """The lock that a text holds.

    Raises :class:`~lorapipe.errors.LockError`: ``lock-conflict`` (git's conflict markers),
    ``lock-newer``, or ``lock-malformed``.
    """
    if _CONFLICT.search(text) is not None:
        raise LockError("lock-conflict", "it holds git's conflict markers", hint=_REMEDY)
    try:
        found = plainyaml.load(text)
    except plainyaml.Unfit as error:
        at = "" if error.line is None else f"line {error.line}: "
        raise _malformed(f"{at}{error}") from error
    version = _field(found, "version", "version", _whole)
    if version > VERSION:
        raise LockError(
            "lock-newer", f"its format is version {version}, made by a newer lorapipe", hint="update lorapipe"
        )
    return LockFile(
        recipe=_field(found, "recipe", "recipe", _digest),
        lorapipe=_field(found, "lorapipe", "lorapipe", _text),
        params=_mapping(found, "params"),
        profile=_mapping(found, "profile"),
        inputs=_section(found, "inputs", LockedInput),
        steps=_section(found, "steps", LockedStep),
        outputs=_section(found, "outputs", LockedOutput),
    )


def _section(document: Mapping[str, Any], name: str, kind: type[T]) -> Mapping[str, T]:
    """The blocks of one section, each read by the fields of ``kind``."""
    blocks = {}
    for step, block in _mapping(document, name).items():
        place = f"{name}: {step}"
        if not isinstance(block, Mapping):
            raise _malformed(f"'{place}' is not a map")
        values = {
            each: _field(block, each, f"{place}: {each}", read) for each, read in _READERS[kind].items()
        }
        blocks[step] = kind(**values)
    return MappingProxyType(blocks)


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if found is None:
        return _EMPTY
    if not isinstance(found, Mapping):
        raise _malformed(f"'{name}' is not a map")
    return MappingProxyType(dict(found))


def _field(block: Mapping[str, Any], name: str, place: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(block[name])
    except KeyError:
        raise _malformed(f"'{place}' is missing") from None
    except ValueError as error:
        raise _malformed(f"'{place}' is not {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")  # a ValueError, of which _field makes a sentence
    return value


def _digest(value: object) -> str:
    if not is_sha256(value):
        raise ValueError("a sha256")
    return str(value)


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a whole number")
    return value


_READERS: Mapping[type[Any], Mapping[str, Callable[[Any], Any]]] = {
    LockedInput: {"path": _text, "sha256": _digest, "size": _whole},
    LockedStep: {"kind": _text, "version": _whole, "key": _digest},
    LockedOutput: {"path": _text, "sha256": _digest, "size": _whole, "key": _digest},
}


def _malformed(message: str) -> LockError:
    return LockError("lock-malformed", message, hint=_REMEDY)
