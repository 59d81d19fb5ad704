"""What a matrix must not make: variants that are one, and variants that write one file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from lorapipe.recipe.expansion import Axes, Written, variant_id
from lorapipe.recipe.holes import Value, names_in
from lorapipe.recipe.language import NAME, FileUse
from lorapipe.recipe.matrix import Matrix
from lorapipe.recipe.nodes import Entry, MapNode, Scalar
from lorapipe.recipe.source import Report

__all__ = ["check_variants"]


def check_variants(
    written: Sequence[Written], axes: Mapping[str, Axes], matrix: Matrix, report: Report
) -> None:
    """Note axes that no step names, and files that several variants of a step would write."""
    named = {axis for step in written for axis in step.axes}
    for axis, span in matrix.spans.items():
        if axis not in named and re.fullmatch(NAME, axis):  # no hole can name another
            hint = f"put $({axis}) where its values belong, or delete it"
            report.add("unused-axis", f"no step has $({axis}): its variants are one and the same", span, hint)
    for step in written:
        _check_outputs(step, axes[step.id], matrix, report)


def _check_outputs(step: Written, axes: Axes, matrix: Matrix, report: Report) -> None:
    drafts = [draft for drafts in step.drafts.values() for draft in drafts]
    files = {name for draft in drafts for name, use in draft.kind.files.items() if use is FileUse.OUTPUT}
    node = step.entry.value
    for entry in node.entries if isinstance(node, MapNode) else ():
        if entry.name in files:
            _check_output(entry, step, axes, matrix, report)


def _check_output(entry: Entry, step: Written, axes: Axes, matrix: Matrix, report: Report) -> None:
    """Note, once, that variants of a step give one name to their files, and the axes that it lacks."""
    writers: dict[str, Mapping[str, Value]] = {}
    lacking: set[str] = set()
    twins: tuple[str, str] | None = None
    for combination in matrix.combinations(axes):
        values = dict(zip(axes, combination, strict=True))
        for name in _names(entry.name, step, values):
            first = writers.setdefault(name, values)
            if first is not values:
                twins = twins or (variant_id(step.id, first), variant_id(step.id, values))
                lacking.update(axis for axis in axes if values[axis] != first[axis])
    if twins is None:
        return
    absent = [axis for axis in matrix.ordered(lacking) if axis not in set(names_in(entry.value))]
    message = f"'{twins[0]}' and '{twins[1]}' write the same file"
    hint: str | None = "put other characters between the values"
    if absent:
        holes = "-".join(f"$({axis})" for axis in absent)
        message = f"'{entry.name}' lacks {' and '.join(f'$({axis})' for axis in absent)}: {message}"
        hint = f"such as {_with(entry.value.text, holes)}" if isinstance(entry.value, Scalar) else None
    report.add("output-collision", message, entry.value.span, hint)


def _names(option: str, step: Written, values: Mapping[str, Value]) -> Iterator[str]:
    for draft in step.drafts[tuple(values[axis] for axis in step.axes)]:
        node = draft.node.get(option)
        if isinstance(node, Scalar) and not node.unknown:
            yield node.text


def _with(name: str, holes: str) -> str:
    """A file's or a folder's name with something before its ending."""
    slash = name[len(name.rstrip("/")) :]
    stem, dot, ending = name.rstrip("/").rpartition(".")
    if slash or "/" in ending or not stem:
        return f"{name.rstrip('/')}-{holes}{slash}"
    return f"{stem}-{holes}{dot}{ending}"
