"""What is wrong with a file of weights, collected so that one message tells all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import InputError, gathered
from lorapipe.remote.url import Location, Url
from lorapipe.weights.sources import TensorSource

__all__ = ["Problems", "file_name"]

_SHOWN = 3
"""Names in a message; the others are counted."""

_DAMAGED = "the file is incomplete or damaged: copy or download it again"


@dataclass(frozen=True, slots=True)
class _Kind:
    message: str
    hint: str


_KINDS: Mapping[str, _Kind] = {
    "up-without-down": _Kind("{n} module{s} with an up but no down", _DAMAGED),
    "down-without-up": _Kind("{n} module{s} with a down but no up", _DAMAGED),
    "alpha-without-factors": _Kind("{n} module{s} with an alpha but no factors", _DAMAGED),
    "half-missing": _Kind("{n} module{s} of which tensors are missing", _DAMAGED),
    "mixed-formats": _Kind("{n} module{s} with tensors of formats that do not go together", _DAMAGED),
    "ranks-disagree": _Kind("{n} module{s} whose up and down have different ranks", _DAMAGED),
    "bad-factor-shape": _Kind("{n} module{s} whose factors have shapes that no LoRA has", _DAMAGED),
    "factors-not-floating": _Kind("{n} tensor{s} of factors whose numbers are not floating", _DAMAGED),
    "alpha-not-scalar": _Kind("{n} alpha{s} of more or less than one number", _DAMAGED),
    "bad-alpha": _Kind("{n} alpha{s} of 0, NaN or Inf", "the training failed, or the file is damaged"),
    "not-finite": _Kind("{n} tensor{s} with NaN or Inf", "the training failed, or the file is damaged"),
    "unknown-tensors": _Kind("{n} tensor{s} of no LoRA module", "a checkpoint? say `as: checkpoint`"),
    "config-contradicts": _Kind(
        "{n} module{s} that the adapter's config contradicts", "the config belongs to another file"
    ),
    "module-twice": _Kind("{n} module{s} written under two names", "remove one of the two"),
}


class Problems:
    """Problems by kind, each with the names of what has it, in the order found."""

    __slots__ = ("_found", "_where")

    def __init__(self, source: TensorSource | Location) -> None:
        self._where = file_name(source)
        self._found: dict[tuple[str, str, str], list[str]] = {}

    def add(self, code: str, name: str) -> None:
        """A problem of a kind that has one message."""
        kind = _KINDS[code]
        self.say(code, kind.message, name, kind.hint)

    def say(self, code: str, message: str, name: str, hint: str) -> None:
        """A problem with a message of its own; ``{n}``, ``{s}`` and ``{es}`` become number and plural."""
        self._found.setdefault((code, message, hint), []).append(name)

    def shows(self, code: str) -> bool:
        """Whether one more name of a kind would be shown, not only counted."""
        return sum(len(names) for (known, _, _), names in self._found.items() if known == code) < _SHOWN

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._found)

    def check(self) -> None:
        """Raise :class:`InputError`, or :class:`ManyErrors` of one for each kind found."""
        errors = [self._error(*key, names) for key, names in self._found.items()]
        if errors:
            raise gathered(errors)

    def _error(self, code: str, message: str, hint: str, names: list[str]) -> InputError:
        one = len(names) == 1
        counted = message.format(n=len(names), s="" if one else "s", es="" if one else "es")
        shown = ", ".join(name[:160] for name in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return InputError(code, f"{counted}: {shown}{more}", hint=hint, where=self._where)


def file_name(source: TensorSource | Location) -> str | None:
    """The path of a source that is a file or folder, for messages; a path is its own."""
    path = source if isinstance(source, (Path, Url)) else getattr(source, "path", None)
    return None if path is None else str(path)
