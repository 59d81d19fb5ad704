"""References between steps: that each leads somewhere, and none in a circle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorapipe.recipe.language import FileUse
from lorapipe.recipe.nodes import ListNode, MapNode, Node, Scalar
from lorapipe.recipe.options import Draft
from lorapipe.recipe.source import Report, Span
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["Reference", "check_references", "references"]

_FILE_ENDINGS = (".safetensors", ".ckpt", ".pt", ".bin")
_LIKENESSES = 20_000  # ids compared in one recipe: as many as take about 0.1 s


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a step by another: the scalar that names it, and its weight if written."""

    port: str
    step: Scalar
    weight: Node | None = None


def references(draft: Draft) -> Iterator[Reference]:
    """The steps that a step uses, port by port, in the order written.

    What is no id is left out: the schema's check has named it.
    """
    for port, node in _ports(draft):
        if isinstance(node, MapNode):
            yield from (Reference(port, entry.key, entry.value) for entry in node.entries)
        else:
            for item in node.items if isinstance(node, ListNode) else [node]:
                if isinstance(item, Scalar) and isinstance(item.value, str) and not item.unknown:
                    yield Reference(port, item)


def _ports(draft: Draft) -> Iterator[tuple[str, Node | None]]:
    """What stands at each port, those inside of options among them."""
    for option in draft.kind.options.values():
        node = draft.node.get(option.name)
        if option.port is not None:
            yield option.name, node
        elif isinstance(node, MapNode):
            yield from ((f"{option.name}.{key}", node.get(key)) for key in option.inner)


def check_references(drafts: Sequence[Draft], ids: Collection[str], report: Report) -> None:
    """Note unknown steps, steps that use themselves or a file's writer, and circles.

    ``ids`` are all steps that the recipe writes, those that could not be read among them. A step may
    have several drafts, for several values of an axis: what each of them uses is used.
    """
    by_id = {draft.id: draft for draft in drafts}
    likenesses = _LIKENESSES
    for draft in drafts:
        for reference in references(draft):
            name = reference.step.text
            if name not in ids:
                choices = [one for one in ids if one != draft.id] if likenesses > 0 else []
                likenesses -= len(choices)
                _unknown(reference, choices, report)
            elif name == draft.id:
                report.add("self-reference", f"step '{name}' uses itself", _span(reference))
            elif name in by_id and by_id[name].kind.last:
                _uses_last(reference, by_id[name], report)
    _check_cycles(drafts, report)


def _unknown(reference: Reference, ids: Collection[str], report: Report) -> None:
    name = reference.step.text
    if "$(" in name and reference.weight is not None:
        return  # a hole in a key has been refused already
    if name.endswith(_FILE_ENDINGS) or "/" in name or "\\" in name:
        hint: str | None = f"a file is read by its own step: {{load: {name}}}"
    else:
        hint = did_you_mean(name, ids)
    if hint is None and reference.step.inserted:
        hint = ", ".join(f"$({one.name}) is {one.shown}" for one in reference.step.inserted)
    report.add("unknown-step", f"no step '{name}'", _span(reference), hint)


def _span(reference: Reference) -> Span:
    step = reference.step
    return step.inserted[0].span if step.inserted else step.span


def _uses_last(reference: Reference, last: Draft, report: Report) -> None:
    taken, files = last.node.get(last.kind.name), FileUse.OUTPUT in last.kind.files.values()
    hint = f"a {last.kind.name} makes {'a file; load it in a step of its own' if files else 'no weights'}"
    if isinstance(taken, Scalar) and last.kind.main.port is not None:
        made, does = ("a file", "saves") if files else ("no weights", "takes")
        hint = f"a {last.kind.name} makes {made}; use what it {does}, '{taken.text}'"
    report.add("uses-output", f"step '{last.id}' gives nothing to use", _span(reference), hint)


def _check_cycles(drafts: Sequence[Draft], report: Report) -> None:
    """Note each circle once, at the reference that leads into it from its first step."""
    order = {draft.id: number for number, draft in enumerate(drafts) if draft.sound}
    uses: dict[str, dict[str, Reference]] = {step: {} for step in order}
    for draft in drafts:
        for reference in references(draft) if draft.sound else ():
            if reference.step.text in order and reference.step.text != draft.id:
                uses[draft.id][reference.step.text] = reference
    for circle in _cycles(uses):
        first = circle.index(min(circle, key=order.__getitem__))
        cycle = circle[first:] + circle[:first]
        reference = uses[cycle[0]][cycle[-1]]
        path = " -> ".join([*cycle, cycle[0]])
        hint = "a step can only use what is made without it"
        report.add("cycle", f"the steps go in a circle: {path}", _span(reference), hint)


def _cycles(uses: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Circles without a common step, each step used by the next and the last by the first.

    A depth-first walk along the inputs. A circle is what lies on the path when the walk
    meets it again; its steps are done with then, so that one mistake is one circle. In
    time proportional to the recipe, where asking graphlib anew after each is quadratic.
    """
    done: set[str] = set()
    for start in uses:
        path: dict[str, Iterator[str]] = {} if start in done else {start: iter(uses[start])}
        while path:
            step, inputs = next(reversed(path.items()))
            following = next((one for one in inputs if one not in done), None)
            if following is None:
                done.add(step)
                del path[step]
            elif following in path:
                steps = list(path)
                circle = steps[steps.index(following) :]
                yield circle[::-1]
                done.update(circle)
                for one in circle:
                    del path[one]
            else:
                path[following] = iter(uses[following])
