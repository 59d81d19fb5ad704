"""What is no more as the lock has it: inputs, params, steps, versions, torch and device.

Step by step the meaning is compared and not the recipe's text, so that comments, order and
layout of a recipe may change under a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lorapipe.errors import LockError
from lorapipe.plan.differences import UNSET, Description, arrow, differences, same
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.provenance import source_date
from lorapipe.store.lockfile import LockedStep, LockFile, Terms
from lorapipe.version import __version__

__all__ = ["GONE", "NEW", "Drift", "described", "drift", "locked_step"]

NEW, GONE = "not in the lock", "not in the recipe any more"

_MACHINE = ("torch", "device")
"""What of a profile another machine can have otherwise; the rest is the recipe's."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences in words, old -> new: of params and settings, of steps by id, of the machine.

    An input that changed is a difference of the step that loads it.
    """

    settings: tuple[str, ...] = ()
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    machine: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it, a line each."""
        steps = (f"step {step}: {word}" for step, words in self.steps.items() for word in words)
        return (*self.settings, *steps, *self.machine)

    def refuse(self, where: str, *, any_profile: bool) -> None:
        """Raise :class:`~lorapipe.errors.LockError` ``lock-drift`` if there is anything, with all of it.

        ``any_profile`` lets the machine be another.
        """
        if self.settings or self.steps:
            hint = "'lorapipe lock' takes over what is now"
        elif self.machine and not any_profile:
            hint = "with --any-profile it is built all the same; the last bits may be others"
        else:
            return
        machine = () if any_profile else self.machine
        lines = Drift(self.settings, self.steps, machine).lines
        raise LockError("lock-drift", "it describes another build", hint=hint, where=where, details=lines)


def drift(lock: LockFile, plan: Plan) -> Drift:
    """What the plan has otherwise than the lock; an input that is not hashed yet counts as locked."""
    settings = (*_params(lock, plan), *_settings(lock, plan))
    steps = {name: words for name, words in _steps(lock, plan) if words}
    machine = tuple(_profile(lock, plan, _MACHINE))
    if not (settings or steps or machine):
        # The keys hold all that counts: where they differ and nothing else does, lorapipe itself is another.
        steps = {name: words for name, words in _keys(lock, plan) if words}
    return Drift(settings, steps, machine)


def locked_step(planned: PlannedStep) -> LockedStep:
    """A step as a lock has it: without the options that change no result, of an output with its name."""
    params = {name: value for name, value in planned.step.params.items() if name not in planned.kind.keyless}
    if planned.output is not None:
        params["to"] = planned.step.params["to"]
    inputs: dict[str, Terms] = {
        port: tuple((term.step, term.weight) for term in terms)
        for port, terms in planned.step.inputs.items()
        if terms
    }
    return LockedStep(planned.step.kind, planned.kind.version, inputs, params, planned.key)


def described(step: LockedStep, sha256: str | None) -> Description:
    """A locked step and the sha256 of its input, as they are compared."""
    return Description(step.kind, step.version, step.params, step.inputs, sha256)


def _params(lock: LockFile, plan: Plan) -> Iterator[str]:
    # A param that came or went shows in the steps that use it, or changes nothing.
    for name, value in plan.recipe.params.items():
        if name in lock.params and not same(lock.params[name], value):
            yield arrow(f"param {name}", lock.params[name], value)


def _settings(lock: LockFile, plan: Plan) -> Iterator[str]:
    yield from _profile(lock, plan, [name for name in plan.profile.as_json() if name not in _MACHINE])
    date = source_date(os.environ)
    if lock.date != date:
        yield arrow("SOURCE_DATE_EPOCH", lock.date or UNSET, date or UNSET)


def _profile(lock: LockFile, plan: Plan, names: tuple[str, ...] | list[str]) -> Iterator[str]:
    now = plan.profile.as_json()
    for name in names:
        if lock.profile.get(name) != now[name]:
            yield arrow(name, lock.profile.get(name, UNSET), now[name])


def _steps(lock: LockFile, plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, planned in plan.steps.items():
        if name not in lock.steps:
            yield name, (NEW,)
            continue
        was = lock.inputs[name].sha256 if name in lock.inputs else None
        if planned.source is not None and was is None:
            yield name, ("its input is not in the lock",)
            continue
        now = planned.source.sha256 if planned.source is not None else None
        if planned.source is not None and now is None:
            now = was
        yield name, differences(described(lock.steps[name], was), described(locked_step(planned), now))
    for name in sorted(lock.steps.keys() - plan.recipe.steps.keys()):
        yield name, (GONE,)


def _keys(lock: LockFile, plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, planned in plan.steps.items():
        was = lock.steps[name].key
        if planned.key is not None and was != planned.key:
            old = UNSET if was is None else f"{was[:12]}..."
            lorapipe = f" (lorapipe {lock.lorapipe} -> {__version__})" if lock.lorapipe != __version__ else ""
            yield name, (arrow("key", old, f"{planned.key[:12]}...") + lorapipe,)
