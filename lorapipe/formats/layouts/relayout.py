"""From an adapter's modules to those of a file: names, and rows cut and joined to fit them.

The reference layout may keep as one weight what a naming has as several modules, as several
what it has as one, or rows in another order. All of that is exact: a module is split by
its rows and joined from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lorapipe.architectures import Family, family
from lorapipe.formats.layouts.formed import beside, check_alike, formed, no_format
from lorapipe.formats.layouts.naming import Group, Name, groups, names_on, naming_of, own_names
from lorapipe.formats.layouts.refusals import Refusals
from lorapipe.formats.layouts.table import (
    EMBEDDED_DOWN,
    EMBEDDED_UP,
    KEEP,
    LAYOUTS,
    PEFT_PREFIX,
    SET,
    Layout,
    kept_words,
)
from lorapipe.weights.inference.filed import DOWN, UP, FileModule, Part, Words
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec

__all__ = ["file_modules"]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked for, and what is known of it."""

    spec: AdapterSpec
    known: Family | None
    layout: Layout | None
    naming: str | None
    dense: bool
    refused: Refusals

    @property
    def peft(self) -> bool:
        return self.layout is LAYOUTS["peft"]


def file_modules(spec: AdapterSpec, layout: str = KEEP, *, dense: bool = False) -> tuple[FileModule, ...]:
    """The modules of the file that an adapter becomes in a layout, weight by weight in its order.

    ``keep`` names each as its source does, and what has no such name as the first source
    names its modules. ``dense`` writes as a full difference what adds and has no format.

    Raises :class:`~lorapipe.errors.RecipeError`, or ``ManyErrors``: ``no-name`` for modules that
    the layout has no name for, ``no-format`` for those whose format it does not have,
    ``not-one-module`` for those that would have to be split or joined and cannot be,
    ``not-alike``, ``several-components`` and ``extras-not-kept``.
    """
    refused = Refusals("save" if layout == KEEP else "layout")
    known = None if spec.family is None else family(spec.family)
    stems = [module.spelling.stem for module in spec.modules.values()]
    naming = None if known is None else naming_of(known, [stem for stem in stems if stem])
    task = _Task(spec, known, LAYOUTS.get(layout), naming, dense, refused)
    _check_whole(task)
    made = [module for group in groups(spec) for module in _group(task, group)]
    found = tuple(beside(made, task.layout, refused))
    if task.layout is not None and not task.layout.words.alpha:
        check_alike(found, task.layout, refused)
    refused.check()
    return found


def _check_whole(task: _Task) -> None:
    """What is wrong with the adapter as a whole."""
    if task.layout is None:
        return
    components = {module.component: None for module in task.spec.modules}
    if task.peft and len(components) > 1:
        for component in components:
            task.refused.say(
                "several-components",
                "PEFT's layout holds one model, this LoRA is of {n}",
                component,
                "`scale: ..., components: {te: 0}` keeps one of them",
            )
    if not task.layout.extras:
        message = f"{{n}} embedding{{s}} that {task.layout.program} has no place for"
        for name in task.spec.extras:
            task.refused.say("extras-not-kept", message, name, "`layout: kohya` keeps them")


def _group(task: _Task, group: Group) -> Iterator[FileModule]:
    """The file's modules on one weight."""
    names = _names(task, group)
    lost = [module for module, rows in _rows(group).items() if not _covered(rows, names)]
    if lost:
        who = "the first source" if task.layout is None else task.layout.program
        other = "choose a layout" if task.layout is None else "leave `layout:` out, or choose another"
        for module in lost:
            task.refused.say("no-name", f"{{n}} module{{s}} that {who} has no name for", str(module), other)
        return
    for name in names:
        made = _module(task, group, name)
        if made is not None:
            yield made


def _names(task: _Task, group: Group) -> tuple[Name, ...]:
    """What the layout calls the modules on the group's weight; nothing where it has no names for it."""
    if task.layout is None:
        own = own_names(task.known, group)
        if own is not None and _whole(own, group):
            return own
    elif task.known is None:
        return _verbatim(task.layout, group)
    if task.known is None:
        return ()
    wanted = (task.naming,) if task.layout is None else task.layout.names_by(task.known.components)
    found = (names_on(task.known, naming, group) for naming in wanted if naming is not None)
    names = next((names for names in found if names), ())
    if not task.peft:
        return names
    return tuple(replace(name, stem=PEFT_PREFIX + name.stem.partition(".")[2]) for name in names)


def _verbatim(layout: Layout, group: Group) -> tuple[Name, ...]:
    """The names of a module of unknown family: its path to PEFT, to others its own if it is of their sort."""
    own = own_names(None, group)
    if own is None:
        return ()
    if layout is not LAYOUTS["peft"]:
        return own if all(layout.takes(name.stem) for name in own) else ()
    key = next(iter(group)).key
    path = key.removesuffix(".weight").removesuffix(".bias")
    return (replace(own[0], stem=PEFT_PREFIX + path),) if path != key else ()


def _rows(group: Group) -> dict[ModuleId, tuple[int, int]]:
    return {module: module.rows or (0, known.shape[0]) for module, known in group.items()}


def _whole(names: Sequence[Name], group: Group) -> bool:
    """Whether each module's rows lie within one name: what is several modules of the file needs others."""
    return all(any(name.holds(*rows) for name in names) for rows in _rows(group).values())


def _covered(rows: tuple[int, int], names: Sequence[Name]) -> bool:
    reached = rows[0]
    for first, last in sorted(pair for name in names for pair in name.ranges):
        if first <= reached:
            reached = max(reached, last)
    return reached >= rows[1]


def _parts(group: Group, name: Name) -> tuple[Part, ...]:
    """The rows of the group's modules that a name means, in its order, and zeros between them."""
    parts: list[Part] = []
    held = {module: rows for module, rows in _rows(group).items() if not group[module].empty}
    placed = sorted(held.items(), key=lambda item: item[1])
    for first, last in name.ranges:
        reached = first
        for module, (start, stop) in placed:
            low, high = max(first, start), min(last, stop)
            # A format that does not tell its weight's height treats all rows alike.
            if low < high or start == stop:
                if low > reached:
                    parts.append(Part(None, 0, low - reached))
                parts.append(Part(module, low - start, high - start))
                reached = high
        if reached < last:
            parts.append(Part(None, 0, last - reached))
    return tuple(parts)


def _module(task: _Task, group: Group, name: Name) -> FileModule | None:
    """The file's module of a name; ``None`` where the adapter has nothing for it, or it is refused."""
    parts = _parts(group, name)
    sources = tuple(dict.fromkeys(part.module for part in parts if part.module is not None))
    if not sources:
        return None
    first = group[sources[0]]
    embedded = first.spelling.up == EMBEDDED_UP
    transposed = first.spelling.transposed if embedded else name.transposed
    shape = (sum(part.height for part in parts), *first.shape[1:])
    if name.kind == "conv1x1" and task.layout is LAYOUTS["kohya"] and len(shape) == 2:
        shape = (*shape, 1, 1)
    made = FileModule(
        stem=name.stem,
        parts=parts,
        shape=(shape[1], shape[0], *shape[2:]) if transposed else shape,
        rank=sum(group[module].rank for module in sources),
        words=_words(task, first, sources[0], name.stem),
        transposed=transposed,
        bounded=len(sources) > 1,
    )
    if all(group[module].form is None for module in sources):
        if embedded and task.layout is not None and not task.peft:
            no_format("LoRA of an embedding", sources[0], task.layout, task.refused)
            return None
        return made
    return formed(made, group, task.layout, task.refused, dense=task.spec.dtype if task.dense else None)


def _words(task: _Task, first: ModuleSpec, module: ModuleId, stem: str) -> Words:
    if task.layout is None:
        return kept_words(replace(first.spelling, stem=stem))
    words = task.layout.words
    if first.spelling.up == EMBEDDED_UP:
        return replace(words, suffixes={UP: EMBEDDED_UP, DOWN: EMBEDDED_DOWN})
    if task.peft:
        # A whole parameter has the name that it has in the model.
        return replace(
            words, suffixes={**words.suffixes, SET: ".bias" if module.key.endswith(".bias") else ".weight"}
        )
    return words
