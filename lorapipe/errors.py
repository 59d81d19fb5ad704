"""Every error lorapipe raises, with its exit status.

    LorapipeError                1   an internal fault, or the base of all below
     ├── UsageError              2   the command line asks for something impossible
     ├── RecipeError             3   the recipe's text or the inputs' headers are wrong
     ├── InputError              4   an input is missing, unreadable, malformed or another file
     ├── BuildError              5   something failed while building
     ├── LockError               6   the lock file does not describe this build
     ├── WorkPending             7   ``plan --check`` found work to do
     ├── CheckFailed             8   a check or a verification failed
     ├── Interrupted           130   the user asked to stop
     └── ManyErrors                  several at once; the lowest status of its members

An error is raised where the fault is seen, with a short message and no place;
the borders it crosses (module, step, recipe) add what they know with
:meth:`LorapipeError.located`, so that the algebra never carries line numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "REMEDIES",
    "BuildError",
    "CheckFailed",
    "Halted",
    "InputError",
    "Interrupted",
    "LockError",
    "LorapipeError",
    "ManyErrors",
    "Place",
    "RecipeError",
    "UsageError",
    "WorkPending",
    "gathered",
]

_SAVE_AGAIN = "it is damaged or half written: fetch it again, or save it again with the program that made it"
_OTHER_BASE = "'lorapipe inspect' tells what each file is for: the two are not made for each other"
_SPLIT = "make several recipes of it: one loads what another saved"
_WHOLE = "write a whole number from 1"
_NUMBERS = "'lorapipe inspect' shows the norms of what goes in: a file is damaged, or a weight too large"

REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "alpha-out-of-range": "scale it by a number nearer to 1",
        "bad-alpha": _SAVE_AGAIN,
        "bad-command": "give the command as it is run; 'lorapipe import kohya --help' shows some",
        "bad-density": "0.5 keeps half of the numbers, 1 all of them",
        "bad-factor-shape": _SAVE_AGAIN,
        "bad-flag": _SAVE_AGAIN,
        "bad-option": "an option takes text, a number, true or false, or a list or mapping of them",
        "bad-rank": _WHOLE,
        "bad-rule": "'lorapipe steps svd-resize' lists the rules and what they take",
        "bad-setting": "write for example --set strength=0.5",
        "blocks-misfit": _OTHER_BASE,
        "cannot-write": "choose another folder, or see that you may write this one",
        "check-failed": "mend what is checked, or give the check other limits",
        "disk-full": "make room on the disk; 'lorapipe store gc' drops results that can be built again",
        "endless-alias": "write the value out where the alias stands",
        "extras-disagree": "leave one of the two LoRAs out, or rename what is in its file",
        "gain-misfit": _OTHER_BASE,
        "input-missing": "check the path",
        "input-unreadable": "check that it is a file, that you may read it, and that its disk is well",
        "key-unreadable": "name a private key as a PEM file, which you may read",
        "lock-unreadable": "take it from version control, or delete it: the next run writes it anew",
        "name-clash": "save in another layout",
        "no-format": "bring it to a plain LoRA with svd-resize before it is saved",
        "no-strength-rule": "leave the program's rule out: lorapipe's own holds for every form",
        "no-svd": _NUMBERS,
        "not-a-number": "write a finite number such as 0.5",
        "not-as-built": "give the recipe a step that saves, and run it",
        "not-finite": _NUMBERS,
        "not-reproduced": "the lock names the device and versions of its build; 'lorapipe diff' compares",
        "not-yaml": "mend it where the message points",
        "nothing-left": "give at least one of them a weight that is not 0",
        "one-checkpoint": "name two or more, or leave the step out",
        "output-unwritable": "save to another folder, or see that you may write this one",
        "rank-below-one": _WHOLE,
        "recipe-too-long": _SPLIT,
        "recipe-unreadable": "name a recipe, which is a YAML file; 'lorapipe init' writes one",
        "too-deep": "nest less: a recipe is a list of steps",
        "too-many-nodes": _SPLIT,
        "unknown-kind": "'lorapipe steps' lists the kinds",
        "unmatched-modules": "'lorapipe inspect' tells what each file is for: it may be another base model's",
        "wrong-type": "'lorapipe steps KIND' tells what a step takes",
    }
)
"""Code -> what to do, which a view tells of an error that was raised without a hint of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A span in a text file: ``line`` and ``column`` count from 1.

    ``text`` is the source line itself and ``width`` the length of the span in
    it, both for the caret that a view draws under the line.
    """

    file: str
    line: int
    column: int
    width: int = 1
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class LorapipeError(Exception):
    """Base of all errors: a kebab-case ``code``, a message, and a remedy.

    ``where`` is a place in a recipe, or the name of a file; ``hint`` says what to
    do ("did you mean 'rank'?"); ``option`` names the recipe option at fault, from
    which the plan finds the place; ``step`` and ``module`` say in which step and in
    which module of an adapter or checkpoint it happened. ``details`` are lines that say
    more of what the message counts.
    """

    exit_status: ClassVar[int] = 1

    def __init__(  # noqa: PLR0913  # each is one thing that an error may say
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        where: Place | str | None = None,
        step: str | None = None,
        module: str | None = None,
        option: str | None = None,
        details: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.where = where
        self.step = step
        self.module = module
        self.option = option
        self.details = tuple(details)

    @property
    def remedy(self) -> str | None:
        """What to do: the hint, or what is good advice for every error of this code."""
        return self.hint if self.hint is not None else REMEDIES.get(self.code)

    @property
    def parts(self) -> tuple[LorapipeError, ...]:
        """The errors that this one is made of, none of them :class:`ManyErrors`: of a single one itself."""
        return (self,)

    def located(
        self,
        *,
        where: Place | str | None = None,
        step: str | None = None,
        module: str | None = None,
    ) -> Self:
        """Fill in what is not known yet; what an inner border said stays.

        A place in a recipe is better than the name of a file, which then moves into
        the message.
        """
        if isinstance(self.where, str) and isinstance(where, Place):
            self.message, self.where = f"{self.where}: {self.message}", where
        self.where = self.where if self.where is not None else where
        self.step = self.step if self.step is not None else step
        self.module = self.module if self.module is not None else module
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is in another process, too, with what each border added; but not what caused it."""
        return _blank, (type(self), *self.args), vars(self)

    def __str__(self) -> str:
        prefix = f"{self.where}: " if self.where is not None else ""
        inside = f"{self.module}: " if self.module is not None else ""
        suffix = f" - {self.hint}" if self.hint is not None else ""
        return "\n  ".join([f"{prefix}error: {inside}{self.message}{suffix}", *self.details])


def _blank(kind: type[LorapipeError], *args: object) -> LorapipeError:
    """An error that ``vars`` are still to be given to; ``kind`` may ask for more than ``args`` when made."""
    return kind.__new__(kind, *args)


class UsageError(LorapipeError):
    """The command line or an API call asks for something impossible."""

    exit_status = 2


class RecipeError(LorapipeError):
    """The recipe's text, or what the inputs' headers show, is wrong."""

    exit_status = 3


class InputError(LorapipeError):
    """An input is missing, unreadable, malformed, or not the pinned file."""

    exit_status = 4


class BuildError(LorapipeError):
    """A step failed while building: NaN, overflow, a foreign file, a full disk."""

    exit_status = 5


class LockError(LorapipeError):
    """The lock file is missing, malformed, or describes another build."""

    exit_status = 6


class WorkPending(LorapipeError):
    """``plan --check`` found steps that would run."""

    exit_status = 7


class CheckFailed(LorapipeError):
    """A check step or a verification did not hold."""

    exit_status = 8


class Interrupted(LorapipeError):
    """A signal asked the build to stop (Ctrl-C is Python's own KeyboardInterrupt)."""

    exit_status = 130


class Halted(Exception):  # a signal between threads, not an error that anybody sees
    """All is to stop: what this thread is at need not be finished."""


class ManyErrors(LorapipeError):
    """Several errors found in one pass, in the order of their places."""

    def __init__(self, errors: Iterable[LorapipeError]) -> None:
        self.errors: tuple[LorapipeError, ...] = tuple(errors)
        if not self.errors:
            raise ValueError("ManyErrors needs at least one error")
        super().__init__("many", f"{len(self.errors)} errors")
        # An earlier phase of the build explains the later ones.
        self.exit_status = min(e.exit_status for e in self.errors)  # type: ignore[misc]  # per group, not per class

    @property
    def parts(self) -> tuple[LorapipeError, ...]:
        """Every single error of the group, and of groups in it, in their order."""
        return tuple(part for error in self.errors for part in error.parts)

    def __str__(self) -> str:
        return "\n".join(str(e) for e in self.errors)


def gathered(errors: Sequence[LorapipeError]) -> LorapipeError:
    """One error as it is, several as :class:`ManyErrors`; ``ValueError`` for none."""
    return errors[0] if len(errors) == 1 else ManyErrors(errors)
