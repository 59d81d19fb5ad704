"""A plan's steps as the recipe writes them: the variants of one together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from rich.text import Text

from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.steps.kind import Materialise
from lorapipe.views.tables import result_text
from lorapipe.views.text import bytes_text, path_text, visible
from lorapipe.weights.specs import AdapterSpec, FileSpec
from lorapipe.weights.verdicts import CheckSpec

__all__ = [
    "by_written",
    "spanned",
    "variants_lines",
    "variants_sentence",
    "variants_status",
    "variants_terms",
]


def by_written(steps: Iterable[PlannedStep]) -> dict[str, list[PlannedStep]]:
    """The steps by their ids in the recipe's text, in the order given; without a matrix each is alone."""
    found: dict[str, list[PlannedStep]] = {}
    for planned in steps:
        found.setdefault(planned.step.written, []).append(planned)
    return found


def alike(plan: Plan, texts: Iterable[str]) -> Iterator[str]:
    """The texts; of those that differ in the ids of variants alone the first, and how many more."""
    named = "|".join({re.escape(step.written) for step in plan.recipe.steps.values() if step.axes})
    variant = re.compile(rf"\b({named})\[[^\]]*\]") if named else None
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(text if variant is None else variant.sub(r"\1", text), []).append(text)
    for of in found.values():
        head, end, details = of[0].partition("\n")
        more = f" (and {len(of) - 1} more like this, of other variants)" if len(of) > 1 else ""
        yield f"{head}{more}{end}{details}"


def as_written(plan: Plan, planned: PlannedStep) -> str:
    """What comes of a step, with the ids that the recipe's text has for what it takes."""
    text = result_text(planned)
    for term in planned.step.terms():
        text = text.replace(term.step, plan.recipe.steps[term.step].written)
    return text


def variants_lines(plan: Plan, variants: Sequence[PlannedStep], result: str, folder: Path) -> Iterator[Text]:
    """What the variants of a step do, what comes of them (``result``) at what cost, what a run would do."""
    yield Text(visible(variants_sentence(plan, variants, folder)))
    yield Text(", ".join([result, *_sizes(variants)]))
    held = [plan.steps[step].step.written for one in variants for step in plan.held.get(one.step.id, ())]
    if held:
        yield Text(f"holds back {', '.join(dict.fromkeys(held))}")
    statuses = {planned.status for planned in variants}
    quiet = statuses == {Status.RUN} and variants[0].kind.materialise is Materialise.LAZY
    failed = statuses & {Status.FAILS, Status.HELD}
    style = "dim" if quiet else "red" if failed else "green" if statuses == {Status.UP_TO_DATE} else ""
    yield Text(f"{len(variants)} variants: {variants_status(variants)}", style=style)


def variants_status(variants: Sequence[PlannedStep]) -> str:
    """What a run would do with variants of a step, counted: ``20 in the store, 4 will run``.

    Where it is one and the same, there is no count.
    """
    counted = Counter(planned.status for planned in variants)
    if len(counted) == 1:
        return _words(variants[0].status)
    return ", ".join(f"{counted[status]} {_words(status)}" for status in Status if status in counted)


def _words(status: Status) -> str:
    return "do not hold" if status is Status.FAILS else status.value


def variants_sentence(plan: Plan, variants: Sequence[PlannedStep], folder: Path) -> str:
    """The step as the recipe has it; weights and paths that are others in each variant from first to last."""
    step, spec = variants[0].step, variants[0].spec
    # What a check compares with is among what it asserts.
    ports = [step.kind] if isinstance(spec, CheckSpec) else None
    said = ", ".join(variants_terms(plan, variants, ports))
    paths = [planned.source.path if planned.source else planned.output for planned in variants]
    named = [path_text(path, folder) for path in dict.fromkeys(paths) if path is not None]
    if not named:
        return f"{step.kind} {said}"
    shown = named[0] if len(named) == 1 else f"{named[0]} and {len(named) - 1} more"
    return f"{step.kind} {said} to {shown}" if said else f"{step.kind} {shown}"


def variants_terms(
    plan: Plan, variants: Sequence[PlannedStep], ports: Collection[str] | None = None
) -> Iterator[str]:
    """What the variants take, by its id in the text: ``0.4 to 1.2 char`` where its weights differ.

    ``ports`` are those that count, by default all.
    """
    weights: dict[str, list[float]] = {}
    for planned in variants:
        inputs = planned.step.inputs
        for term in (term for port in inputs if ports is None or port in ports for term in inputs[port]):
            weights.setdefault(plan.recipe.steps[term.step].written, []).append(term.weight)
    for written, found in weights.items():
        low, high = min(found), max(found)
        if low == high:
            yield written if low == 1.0 else f"{low:g} {written}"
        else:
            yield f"{low:g} to {high:g} {written}"


def spanned(texts: Iterable[str]) -> str:
    """What is said of each variant as one text: where a part of it differs, the first and the last.

    >>> spanned(["LoRA, 264 modules, rank 4", "LoRA, 264 modules, rank 8", "LoRA, 264 modules, rank 16"])
    'LoRA, 264 modules, rank 4 ... rank 16'
    """
    distinct = list(dict.fromkeys(texts))
    parts = [text.split(", ") for text in distinct]
    if len({len(of) for of in parts}) > 1:
        return f"{distinct[0]} and others"
    columns = (list(dict.fromkeys(column)) for column in zip(*parts, strict=True))
    return ", ".join(c[0] if len(c) == 1 else f"{c[0]} ... {c[-1]}" for c in columns)


def _sizes(variants: Sequence[PlannedStep]) -> Iterator[str]:
    """Bytes of all of them together, and the memory of the one that takes most."""
    active = [one for one in variants if one.status in (Status.RUN, Status.UNDECIDED)]
    most = (
        "at most "
        if any(isinstance(o.spec, AdapterSpec | FileSpec) and o.spec.bounded for o in variants)
        else ""
    )
    if variants[0].source is not None:
        yield bytes_text(sum(one.source.size for one in variants if one.source)) + (
            " to read" if active else ""
        )
    elif isinstance(variants[0].spec, FileSpec):
        size = sum(one.spec.nbytes for one in active or variants if isinstance(one.spec, FileSpec))
        yield most + bytes_text(size) + (" to write" if active else "")
    elif written := sum(one.cost.written for one in active):
        yield f"{most}{bytes_text(written)} to the store"
    if peak := max((one.cost.peak for one in active), default=0):
        yield f"{bytes_text(peak)} of memory"
