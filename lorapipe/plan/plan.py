"""The plan as a value: every step with what is known of it before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lorapipe.plan.files import InputFile
from lorapipe.plan.graph import Position
from lorapipe.plan.lineage import Lineage, Profile
from lorapipe.recipe.model import Recipe, Step
from lorapipe.remote.url import Location
from lorapipe.steps.kind import Cost, Kind
from lorapipe.weights.specs import FileSpec, Spec

__all__ = ["Plan", "PlannedStep", "Status"]


class Status(Enum):
    """What a run would do with a step; of a check ``UP_TO_DATE`` is one that is known to hold."""

    UP_TO_DATE = "up to date"
    IN_STORE = "in the store"
    RUN = "will run"
    UNDECIDED = "will run, or be found in the store once hashed"
    UNUSED = "not needed"
    HELD = "held back"
    FAILS = "does not hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step, its foretold result and cost, and whether a run would do it.

    ``files`` maps the options that name files to absolute paths, or URLs. ``lineage`` and
    ``key`` are ``None`` while an input above has no digest; ``preimage`` is the text
    that the key is the sha256 of. ``fetch`` are the bytes of a result that a shared store has, and the
    local one lacks. ``provenance`` is what an output's metadata will say, ``present``
    the digest of one that is up to date.
    """

    step: Step
    kind: Kind
    spec: Spec
    cost: Cost
    files: Mapping[str, Location]
    source: InputFile | None
    lineage: Lineage | None
    key: str | None
    preimage: str | None
    provenance: Mapping[str, str]
    status: Status
    reason: str
    present: str | None = None
    fetch: int | None = None

    @property
    def standing(self) -> str:
        """What a run would do with it, in words."""
        return self.status.value if self.fetch is None else "in the shared store"

    @property
    def output(self) -> Location | None:
        """Where the step's file goes, if it writes one."""
        return self.files.get("to") if isinstance(self.spec, FileSpec) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of the recipe would do; ``steps`` stand in the order of the build.

    ``held`` maps each check to the outputs that it holds back. ``left_out`` are steps that are in the
    recipe and not in the plan, as far as they can be told of: other variants than those asked for.
    """

    recipe: Recipe
    device: str
    profile: Profile
    steps: Mapping[str, PlannedStep]
    schedule: tuple[Position, ...]
    warnings: tuple[str, ...]
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, PlannedStep] = field(default_factory=dict)

    @property
    def pending(self) -> tuple[PlannedStep, ...]:
        """The outputs that a run would write, if the checks hold."""
        return tuple(p for p in self.outputs if p.status not in (Status.UP_TO_DATE, Status.HELD))

    @property
    def current(self) -> tuple[PlannedStep, ...]:
        """The outputs that are up to date."""
        return tuple(p for p in self.outputs if p.status is Status.UP_TO_DATE)

    @property
    def unchecked(self) -> tuple[PlannedStep, ...]:
        """The checks that a run would make."""
        return tuple(
            self.steps[c] for c in self.held if self.steps[c].status in (Status.RUN, Status.UNDECIDED)
        )

    @property
    def outputs(self) -> tuple[PlannedStep, ...]:
        return tuple(p for p in self.steps.values() if p.output is not None)

    def _repr_html_(self) -> str:
        """For a notebook: the steps, what comes of each, what a run would do."""
        from lorapipe.views.notebook import plan_html

        return plan_html(self)
