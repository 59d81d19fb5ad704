"""What is otherwise in a new file than in an old one, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isinf
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.views.tables import headed_table, print_table
from lorapipe.views.text import visible
from lorapipe.weights.distances import Distance, total

if TYPE_CHECKING:
    from lorapipe.build.looking.diffing import WeightsDiff
    from lorapipe.build.looking.recipe_diffing import DiffedRecipes

__all__ = ["percent", "print_recipes_diff", "print_weights_diff"]

_SHOWN = 6
"""Names that are said of modules or entries of one sort; the others are counted."""

_LONG = 160


def print_weights_diff(diff: WeightsDiff, console: Console, *, modules: bool = False) -> None:
    """A row a block, and in all; before it what came, went or is of another sort.

    ``modules`` adds a row for each module or weight that moved, the farthest first.
    """
    for line in _weights_lines(diff):
        _print(line, console)
    if diff.sha256 is None and not diff.same_numbers:
        print_table(_block_table(diff), console)
        if modules:
            console.print()
            print_table(_module_table(diff), console)


def _weights_lines(diff: WeightsDiff) -> Iterator[str]:
    thing = "module" if diff.kind == "lora" else "tensor"
    if diff.sha256 is not None:
        yield f"the same file: sha256 {diff.sha256}"
        return
    for verb, found in (("added", diff.added), ("removed", diff.removed), ("others", diff.unequal)):
        if found:
            yield f"{verb}: {_counted(len(found), thing)}: {_some(found)}"
    for words, count in sorted(diff.altered.items(), key=lambda pair: -pair[1]):
        yield (
            words
            if words.startswith("dtype") and diff.kind == "lora"
            else f"{words}: {_counted(count, thing)}"
        )
    if diff.metadata:
        yield f"metadata: {_some([f'{key} {words}' for key, words in diff.metadata.items()])}"
    if diff.same_numbers:
        yield "no difference" if not diff.differs else f"the same numbers in every {thing}"


def _block_table(diff: WeightsDiff) -> Table:
    table = headed_table("model", "block", "modules" if diff.kind == "lora" else "tensors", *_HEADINGS)
    for (component, block), names in diff.blocks.items():
        told = (visible(component), visible(block) or "elsewhere", str(len(names)))
        _row(table, told, total(diff.distances[name] for name in names))
    _row(table, ("all", "", str(len(diff.distances))), total(diff.distances.values()))
    return table


_HEADINGS = ("norm", "new norm", "change", "cosine")


def _module_table(diff: WeightsDiff) -> Table:
    table = headed_table("module" if diff.kind == "lora" else "weight", *_HEADINGS)
    moved = {name: one for name, one in diff.distances.items() if one.apart}
    for name in sorted(moved, key=lambda name: -moved[name].relative):
        _row(table, (visible(name),), moved[name])
    return table


def _row(table: Table, told: Sequence[str], found: Distance) -> None:
    # Rounded first: -0.00001 is not to be written as -0.0000.
    cosine = "" if found.cosine is None else f"{round(found.cosine, 4) + 0.0:.4f}"
    cells = (f"{found.old:.4g}", f"{found.new:.4g}", percent(found.relative), cosine)
    table.add_row(*map(Text, (*told, *cells)))


def percent(share: float) -> str:
    """A relative change: ``12.3 %``; ``new`` of what came out of nothing.

    >>> percent(0.1234), percent(0.0), percent(1e-9), percent(float("inf"))
    ('12.3 %', '0 %', '1e-07 %', 'new')
    """
    return "new" if isinf(share) else f"{100 * share:.3g} %"


def print_recipes_diff(found: DiffedRecipes, console: Console) -> None:
    """A line for each thing that is otherwise, step by step; then the outputs with their keys."""
    for line in _recipe_lines(found):
        _print(line, console)
    rows = list(_outputs(found))
    if found.diff.differs and rows:
        table = headed_table("output", "key", "new key", "bytes")
        for cells in rows:
            table.add_row(*(Text(visible(cell)) for cell in cells))
        print_table(table, console)
    for reason in found.unplanned:
        _print(f"keys are not known: {reason}", console)


def _recipe_lines(found: DiffedRecipes) -> Iterator[str]:
    diff = found.diff
    if not diff.differs:
        yield "no difference in meaning: both build the same"
        return
    yield from diff.settings
    for recipe, verb, ends in ((found.old, "removed", diff.removed), (found.new, "added", diff.added)):
        for name in ends:
            step = recipe.steps[name]
            yield f"{verb}: step {name}: {step.kind} {step.params.get('to', '')}".rstrip()
    for name, words in diff.steps.items():
        yield from (f"step {name}: {word}" for word in words)
    for name, words in diff.quiet.items():
        yield from (f"step {name}: {word} (changes no byte)" for word in words)


def _outputs(found: DiffedRecipes) -> Iterator[tuple[str, str, str, str]]:
    """Each output of either recipe, both keys, and whether the bytes stay."""
    (old, new), ends = found.keys, found.diff.ends
    for name, now in new.items():
        was, before = old.get(ends.get(name, "")), ends.get(name)
        to = str(found.new.steps[name].params["to"])
        if before is None:
            yield to, "", _short(now), "added"
            continue
        former = str(found.old.steps[before].params["to"])
        known = was is not None and now is not None
        word = "not known before the inputs are hashed: --hash"
        if known:
            word = "same" if was == now else "other"
        yield to if to == former else f"{former} -> {to}", _short(was), _short(now), word
    for name in old.keys() - ends.values():
        yield str(found.old.steps[name].params["to"]), _short(old[name]), "", "removed"


def _short(key: str | None) -> str:
    return (key or "")[:12]


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(name if len(name) <= _LONG else f"{name[:_LONG]}..." for name in found[:_SHOWN]) + more


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _print(line: str, console: Console) -> None:
    console.print(Text(visible(line)), soft_wrap=True)
