"""A folder made part by part, as an engine does that shares it out: each in a workshop of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lorapipe.build.engines.threads import Crew, single_threaded_torch
from lorapipe.build.events import Event
from lorapipe.build.planning import Options, plan_free
from lorapipe.build.records import Records
from lorapipe.build.result import BuiltOutput
from lorapipe.build.running.means import Means
from lorapipe.build.running.parts import write_part
from lorapipe.build.running.results import Results
from lorapipe.build.running.steps import Workshop, run_step
from lorapipe.build.running.values import Values
from lorapipe.formats.containers.output import Written
from lorapipe.plan.parts import Part, parts_of
from lorapipe.recipe.parsing import load_recipe

__all__ = ["finish", "known_parts", "make_part", "workshop"]


def unheard(event: Event) -> None:
    pass


def passed(point: str) -> None:
    pass


@contextmanager
def workshop(
    recipe: Path,
    params: Mapping[str, int],
    *,
    hook: Callable[[str], None] = passed,
    listen: Callable[[Event], None] = unheard,
    store: Path | None = None,
) -> Iterator[tuple[Workshop, Values]]:
    """A plan made and opened for work, as each process of an engine has its own."""
    read = load_recipe(recipe, params)
    records = Records(looking=False, hook=hook, root=store)
    with records, Crew(2, records.halt) as crew, single_threaded_torch():
        made, ownership = plan_free(read, Options(), records)
        shop = Workshop(made, ownership, Means(2), crew, listen, Results(records, made))
        values = Values(lambda step: run_step(made.steps[step], values, shop)[0], ())
        yield shop, values


def known_parts(recipe: Path, params: Mapping[str, int], step: str) -> tuple[Part, ...]:
    with workshop(recipe, params) as (shop, _):
        return parts_of(shop.plan.steps[step])


def make_part(
    recipe: Path,
    params: Mapping[str, int],
    step: str,
    name: str,
    *,
    hook: Callable[[str], None] = passed,
    listen: Callable[[Event], None] = unheard,
    store: Path | None = None,
) -> Written:
    """Make one file of a step's folder."""
    with workshop(recipe, params, hook=hook, listen=listen, store=store) as (shop, values):
        part = next(part for part in parts_of(shop.plan.steps[step]) if part.name == name)
        return write_part(part, values, shop)


def finish(
    recipe: Path,
    params: Mapping[str, int],
    step: str,
    parts: Mapping[str, Written],
    *,
    hook: Callable[[str], None] = passed,
    listen: Callable[[Event], None] = unheard,
) -> BuiltOutput:
    """Give the folder its name."""
    with workshop(recipe, params, hook=hook, listen=listen) as (shop, values):
        built, _ = run_step(shop.plan.steps[step], values, shop, parts)
    assert isinstance(built, BuiltOutput)
    return built
