"""The jobs of ``lorapipe init``: files in, a recipe with comments out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lorapipe.drafts import oneliners
from lorapipe.drafts.finding import Found
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import RecipeError, UsageError
from lorapipe.recipe.model import JSON

__all__ = ["JOBS", "Chosen", "Job", "Order", "choose", "fill"]

RANK = 16
"""The rank of jobs that take one, unless another is said."""

Chosen = tuple[Found, float]
"""A file and its weight."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a job works on: LoRAs with weights, the checkpoints that it needs, the rank if it has one."""

    loras: tuple[Chosen, ...] = ()
    base: Found | None = None
    tuned: Found | None = None
    rank: int = RANK


@dataclass(frozen=True, slots=True)
class Job:
    """``title`` is what it does; ``fill`` adds its steps and returns the one to save.

    ``loras`` and ``checkpoints`` are how many it needs of each, ``ranked`` says that it takes a
    rank, ``varies`` names the axis that tells its files apart.
    """

    title: str
    fill: Callable[[Sheet, Order], str]
    loras: int = 0
    checkpoints: int = 0
    ranked: bool = False
    varies: str = ""


def choose(name: str, files: Sequence[Chosen], base: Found | None = None, rank: int | None = None) -> Order:
    """The order that files make for a job; a checkpoint among them is the base unless one is given.

    Raises :class:`~lorapipe.errors.UsageError` for files that are too few, too many or of the wrong
    sort, and :class:`~lorapipe.errors.RecipeError` ``family-mismatch`` for files of several models.
    """
    job = JOBS[name]
    if rank is not None and not job.ranked:
        raise UsageError("rank-unused", f"'{name}' takes no rank", hint="the job 'svd' does")
    loras = tuple(one for one in files if one[0].lora)
    models = [one for one, _ in files if not one.lora]
    if base is not None and base.lora:
        raise UsageError("not-a-checkpoint", f"'{base.given}' is a LoRA", hint="--base names a checkpoint")
    if base is None and job.checkpoints == 1 and len(models) == 1:
        base = models.pop()
    if base is not None and not job.checkpoints:
        raise UsageError("base-unused", f"'{name}' takes no checkpoint", hint="the job 'merge' does")
    _counted(name, job, loras, models, base)
    tuned = models[0] if models else None
    _one_family([one for one in (base, tuned) if one is not None] + [one for one, _ in loras])
    return Order(loras, base, tuned, rank or RANK)


def fill(name: str, order: Order, sheet: Sheet, target: str, options: Mapping[str, JSON]) -> None:
    """Write the recipe of a job onto a sheet; ``target`` is the file to be, ``options`` those of its save."""
    job = JOBS[name]
    sheet.tell(f"{job.title} Written by lorapipe init; from here on it is yours.")
    step = job.fill(sheet, order)
    saved = sheet.save(step, target, options, varies=job.varies)
    if job.checkpoints != 1:
        sheet.remark(saved, "layout: kohya, diffusers, peft or comfy writes the names that a program reads.")


def _counted(
    name: str, job: Job, loras: Sequence[Chosen], models: Sequence[Found], base: Found | None
) -> None:
    """Refuse what does not suffice, or has no place."""
    has = [one.given for one in (*models, *([base] if base else []))]
    if job.loras and not loras:
        raise UsageError("no-loras", "there is no LoRA", hint=f"lorapipe init {name} FILE...")
    if loras and not job.loras:
        raise UsageError(
            "lora-unused", f"'{loras[0][0].given}' is a LoRA", hint=f"'{name}' takes checkpoints"
        )
    if len(has) > job.checkpoints and job.checkpoints < 2:
        hint = "--base says into which" if job.checkpoints else "the job 'merge' takes one"
        raise UsageError("checkpoints", f"there are checkpoints: {', '.join(has)}", hint=hint)
    if len(has) < job.checkpoints or (job.checkpoints == 2 and base is None) or len(has) > 2:
        needed = {1: "a checkpoint", 2: "two checkpoints, one of them the --base"}[job.checkpoints]
        shown = ", ".join(has) or "none"
        hint = {1: "--base names the checkpoint", 2: "name the tuned one, and --base the other"}[
            job.checkpoints
        ]
        raise UsageError("checkpoints", f"'{name}' needs {needed}; there is {shown}", hint=hint)


def _one_family(files: Sequence[Found]) -> None:
    """Refuse files of several models, all named."""
    common = frozenset.intersection(*(one.families for one in files))
    unknown = [one for one in files if not one.families]
    if common or len(unknown) == len(files):
        return
    shown = ", ".join(f"{one.given} ({one.title})" for one in files)
    hint = "name those of one model"
    raise RecipeError("family-mismatch", f"the files are for different models: {shown}", hint=hint)


# --- what each writes


def _terms(order: Order) -> list[oneliners.Weighted]:
    return [(one.given, weight) for one, weight in order.loras]


def _concat(sheet: Sheet, order: Order) -> str:
    step = oneliners.concat(sheet, _terms(order), shuffled=False, small={})
    sheet.remark(step, *_WEIGHTS)
    return step


def _svd(sheet: Sheet, order: Order) -> str:
    sheet.params["rank"] = order.rank
    step = oneliners.concat(sheet, _terms(order), shuffled=False, small={"rank": "$(rank)"})
    sheet.remark("sum", *_WEIGHTS)
    sheet.remark(step, "The nearest LoRA of that rank; the run says what it keeps of each module.")
    return step


def _merge(sheet: Sheet, order: Order) -> str:
    assert order.base is not None, "counted before"
    step = oneliners.merge(sheet, order.base.given, _terms(order), {})
    sheet.remark(
        step,
        "A weight of 0.5 is what the LoRA does at strength 0.5. A module without a place in the",
        "checkpoint is an error, unless 'unmatched: warn' or 'ignore' is added.",
    )
    return step


def _extract(sheet: Sheet, order: Order) -> str:
    assert order.base is not None, "counted before"
    assert order.tuned is not None, "counted before"
    sheet.params["rank"] = order.rank
    step = oneliners.extract(sheet, order.tuned.given, order.base.given, {"rank": "$(rank)"})
    sheet.remark(step, "The most ranks of a module; the run says how much of the difference they hold.")
    return step


def _sweep(sheet: Sheet, order: Order) -> str:
    *others, (last, weight) = order.loras
    strengths: list[JSON] = [round(weight * part, 6) for part in _PARTS]
    sheet.matrix["strength"] = strengths
    terms: list[oneliners.Weighted] = [(one.given, other) for one, other in others]
    step = oneliners.concat(sheet, [*terms, (last.given, "$(strength)")], shuffled=False, small={})
    sheet.remark(
        step,
        f"A file for each strength of {Path(last.given).name}; one of them: lorapipe run RECIPE --only"
        f" strength={strengths[0]}",
    )
    return step


_PARTS = (0.4, 0.6, 0.8, 1.0)
"""Of a weight, the strengths that a sweep begins with."""

_WEIGHTS = (
    "1.0 is a LoRA as it was trained, 0.5 half of it, a negative weight takes it away. The sum is",
    "exact: its rank is that of all together.",
)

JOBS: Mapping[str, Job] = MappingProxyType(
    {
        "concat": Job("Several LoRAs in one file, exactly.", _concat, loras=1),
        "svd": Job("Several LoRAs in one file of a rank of choice.", _svd, loras=1, ranked=True),
        "merge": Job("LoRAs made part of a checkpoint.", _merge, loras=1, checkpoints=1),
        "extract": Job(
            "A LoRA of what one checkpoint has more than another.", _extract, checkpoints=2, ranked=True
        ),
        "sweep": Job("A LoRA at several strengths, a file for each.", _sweep, loras=1, varies="strength"),
    }
)
"""The jobs by name, in the order in which they are offered."""
