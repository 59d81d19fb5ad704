"""The plan as a value: every step with what is known of it before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lorapipe.plan.files import InputFile
from lorapipe.plan.graph import Position
from lorapipe.plan.lineage import Lineage, Profile
from lorapipe.recipe.model import Recipe, Step
from lorapipe.steps.kind import Cost, Kind
from lorapipe.weights.specs import FileSpec, Spec

__all__ = ["Plan", "PlannedStep", "Status"]


class Status(Enum):
    """What a run would do with a step."""

    UP_TO_DATE = "up to date"
    IN_STORE = "in the store"
    RUN = "will run"
    UNDECIDED = "will run, or be found in the store once hashed"
    UNUSED = "not needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step, its foretold result and cost, and whether a run would do it.

    ``files`` maps the options that name files to absolute paths. ``lineage`` and
    ``key`` are ``None`` while an input above has no digest; ``preimage`` is the text
    that the key is the sha256 of. ``provenance`` is what an output's metadata will say.
    """

    step: Step
    kind: Kind
    spec: Spec
    cost: Cost
    files: Mapping[str, Path]
    source: InputFile | None
    lineage: Lineage | None
    key: str | None
    preimage: str | None
    provenance: Mapping[str, str]
    status: Status
    reason: str

    @property
    def output(self) -> Path | None:
        """Where the step's file goes, if it writes one."""
        return self.files.get("to") if isinstance(self.spec, FileSpec) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of the recipe would do; ``steps`` stand in the order of the build."""

    recipe: Recipe
    device: str
    profile: Profile
    steps: Mapping[str, PlannedStep]
    schedule: tuple[Position, ...]
    warnings: tuple[str, ...]

    @property
    def pending(self) -> tuple[PlannedStep, ...]:
        """The outputs that a run would write."""
        return tuple(p for p in self.outputs if p.status is not Status.UP_TO_DATE)

    @property
    def outputs(self) -> tuple[PlannedStep, ...]:
        return tuple(p for p in self.steps.values() if p.output is not None)
