"""Why a run would do what it would: the plan, and all that is known of earlier builds."""

from __future__ import annotations

from functools import partial

from lorapipe.build.locks.drift import drift
from lorapipe.build.locks.locking import locate, locked_view
from lorapipe.build.planning import Options, plan_with, recipe_folder
from lorapipe.build.records import Records
from lorapipe.errors import UsageError
from lorapipe.plan.explain import Before
from lorapipe.plan.explanation import Explanation, History, explain
from lorapipe.plan.plan import Plan
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.selection import left_out, named_steps
from lorapipe.store.lockfile import LockFile, read

__all__ = ["explain_recipe"]


def explain_recipe(
    recipe: Recipe, options: Options | None = None, step: str | None = None
) -> tuple[Explanation, ...]:
    """Why each output and stored step, or one ``step``, would be done or not; writes nothing.

    A step of a matrix is each of its variants. Reads headers, the memo, the journal and the lock. Raises
    what a plan raises, and as :func:`~lorapipe.recipe.selection.named_steps`.
    """
    options = options or Options()
    steps = None if step is None else _wanted(recipe, options, step)
    with Records(looking=True, root=options.places) as records:
        lock = read(locate(recipe, options.lock))
        locked = locked_view(lock, recipe_folder(recipe))
        made = plan_with(recipe, options, records, locked, read=False)
        outputs = {
            planned.step.id: tuple(Before.of(record) for record in records.history(planned.output))
            for planned in made.outputs
            if planned.output is not None
        }
        words = None if lock is None else _words(lock, made)
        known = partial(records.digest, read=False)
        history = History(outputs, known, records.there, words, frozenset(locked.outputs))
        return explain(made, history, steps)


def _wanted(recipe: Recipe, options: Options, step: str) -> tuple[str, ...]:
    out = left_out(recipe, options.only)
    steps = tuple(name for name in named_steps(recipe, step) if name not in out)
    if not steps:
        hint = "ask without --only"
        raise UsageError("step-left-out", f"--only leaves out every '{step}'", hint=hint)
    return steps


def _words(lock: LockFile, plan: Plan) -> dict[str | None, tuple[str, ...]]:
    """What is not as the lock has it, by step, and for the whole build under ``None``."""
    found = drift(lock, plan)
    words: dict[str | None, tuple[str, ...]] = {}
    if found.settings or found.machine:
        words[None] = (*found.settings, *found.machine)
    words.update(found.steps)
    return words
