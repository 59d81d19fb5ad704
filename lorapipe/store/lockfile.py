"""``<recipe stem>.lock``: what a recipe was built from, and what came out.

The text is sorted, one block a step, so that two branches that touched different steps
merge without a conflict; for the same reason no line of it stands for the recipe as a whole.
It can always be made again, so it holds nothing that a build needs. It may come with a
stranger's repository, so nothing in it is trusted to be of the right type.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

from lorapipe.errors import LockError
from lorapipe.remote.url import Location, Url
from lorapipe.store import plainyaml
from lorapipe.store.atomic import atomic_write
from lorapipe.store.digest import is_sha256
from lorapipe.store.reading import read_whole

__all__ = [
    "VERSION",
    "LockFile",
    "LockedInput",
    "LockedOutput",
    "LockedStep",
    "Terms",
    "lock_path",
    "parse",
    "read",
    "relative",
    "render",
    "write",
]

T = TypeVar("T")

VERSION = 2
"""Of the format. A reader takes unknown fields in its stride; what version 1 lacks counts as absent."""

Terms = tuple[tuple[str, float], ...]
"""What a port takes: step ids with their weights, in order."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LockedInput:
    """A file that a ``load`` step read: its path as :func:`relative` gives it, its size in bytes.

    Of one elsewhere ``path`` is its URL, ``etag`` what its server calls its content, and ``revision`` the
    commit, version or generation that was read.
    """

    path: str
    sha256: str
    size: int
    etag: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class LockedStep:
    """A step as far as it decides a result: what two of them differ in is what changed in the recipe.

    ``inputs`` goes by port; ``params`` are canonical, and of an output ``to`` is among them.
    ``key`` is the content key of a result that is kept; what is fused into others has none.
    """

    kind: str
    version: int
    inputs: Mapping[str, Terms] = field(default_factory=lambda: _EMPTY)
    params: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class LockedOutput:
    """A file that a ``save`` step wrote, and the key it was built from.

    A step whose file was never built has no such block; its key is in its :class:`LockedStep`. Of one
    elsewhere ``etag`` is what its server calls its content.
    """

    path: str
    sha256: str
    size: int
    key: str
    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """A lock: digests are sha256 in hexadecimal, mappings go by step id.

    ``params`` are the values in force, ``profile`` what the numbers depend on (torch version,
    device type, compute dtype), ``date`` what ``SOURCE_DATE_EPOCH`` said, ``lorapipe`` the
    version that wrote it. ``parse(render(lock)) == lock``.
    """

    lorapipe: str
    date: str | None = None
    params: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    profile: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    inputs: Mapping[str, LockedInput] = field(default_factory=lambda: _EMPTY)
    steps: Mapping[str, LockedStep] = field(default_factory=lambda: _EMPTY)
    outputs: Mapping[str, LockedOutput] = field(default_factory=lambda: _EMPTY)


def lock_path(recipe: Path) -> Path:
    """Where a recipe's lock lies unless told otherwise: ``char.yaml`` -> ``char.lock``."""
    return recipe.with_suffix(".lock")


def relative(path: Location, folder: Path) -> str:
    """``path`` as seen from the recipe's ``folder``, with forward slashes everywhere; a URL as it is."""
    if isinstance(path, Url):
        return str(path)
    return PurePosixPath(*Path(os.path.relpath(path, folder)).parts).as_posix()


def read(path: Path) -> LockFile | None:
    """The lock at ``path``, or None if there is none.

    Raises :class:`~lorapipe.errors.LockError`: ``lock-unreadable``, or as :func:`parse` does.
    """
    try:
        raw = read_whole(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"it cannot be read: {error.strerror or error}"
        raise LockError("lock-unreadable", reason, where=str(path)) from error
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
        if read_whole(path) == raw:
            return False
    except OSError:
        pass  # missing or unreadable: the writing will tell
    with atomic_write(path, label="lock") as file:
        file.write(raw)
    return True


_HEADER = """\
# Written by lorapipe: what the recipe beside this file was built from, and what came out.
# It can be merged, or deleted: `lorapipe lock` writes it again.
"""


def render(lock: LockFile) -> str:
    """The lock's text: a function of its values alone, whatever order its mappings have.

    Parts of a file name that are not text are replaced by U+FFFD. Raises ``ValueError``
    for a float that is not finite.
    """
    document = {
        "version": VERSION,
        "lorapipe": lock.lorapipe,
        **({} if lock.date is None else {"date": lock.date}),
        "params": dict(sorted(lock.params.items())),
        "profile": dict(sorted(lock.profile.items())),
        "inputs": _blocks(lock.inputs),
        "steps": _blocks(lock.steps),
        "outputs": _blocks(lock.outputs),
    }
    return _HEADER + plainyaml.dump(document)


def _blocks(section: Mapping[str, Any]) -> dict[str, Any]:
    """A block a step: its fields in their order, those inside sorted, without what says nothing."""
    return {step: dict(_fields(each)) for step, each in sorted(section.items())}


def _fields(block: Any) -> Iterator[tuple[str, Any]]:
    for each in fields(block):
        value = getattr(block, each.name)
        if each.default_factory is not MISSING and value:
            yield each.name, dict(sorted(value.items()))
        elif value is not None and each.default_factory is MISSING:
            yield each.name, value


_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
_REMEDY = "'lorapipe lock' writes it again"


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
        lorapipe=_field(found, "lorapipe", "lorapipe", _text),
        date=_field(found, "date", "date", _text) if "date" in found else None,
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
            each: _field(block, each, f"{place}: {each}", read)
            for each, read in _READERS[kind].items()
            if each in block or each not in _OPTIONAL[kind]
        }
        blocks[step] = kind(**values)
    return MappingProxyType(blocks)


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return _EMPTY if found is None else _field(document, name, name, _map)


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


def _map(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a map")
    return MappingProxyType(dict(value))


def _ports(value: object) -> Mapping[str, Terms]:
    return MappingProxyType({port: _terms(terms) for port, terms in _map(value).items()})


def _terms(value: object) -> Terms:
    if not isinstance(value, list) or not all(_is_term(term) for term in value):
        raise ValueError("lists of steps and weights")
    return tuple((step, float(weight)) for step, weight in value)


def _is_term(value: object) -> bool:
    match value:
        case [str(), int() | float() as weight] if not isinstance(weight, bool):
            # The most that a float can be, whatever a whole number is.
            return -sys.float_info.max <= weight <= sys.float_info.max
    return False


_READERS: Mapping[type[Any], Mapping[str, Callable[[Any], Any]]] = {
    LockedInput: {"path": _text, "sha256": _digest, "size": _whole, "etag": _text, "revision": _text},
    LockedStep: {"kind": _text, "version": _whole, "inputs": _ports, "params": _map, "key": _digest},
    LockedOutput: {"path": _text, "sha256": _digest, "size": _whole, "key": _digest, "etag": _text},
}
_OPTIONAL = {
    kind: {
        each.name
        for each in fields(kind)
        if each.default is not MISSING or each.default_factory is not MISSING
    }
    for kind in _READERS
}


def _malformed(message: str) -> LockError:
    return LockError("lock-malformed", message, hint=_REMEDY)
