"""A recipe on its way to text, for what writes recipes: values in, YAML 1.2 out.

>>> load = Draft({"char": {"load": "loras/char.safetensors"}}, name="small")
>>> print(render(load), end="")
lorapipe: 1
name: small
<BLANKLINE>
steps:
  char: {load: loras/char.safetensors}
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from lorapipe.recipe.model import JSON
from lorapipe.recipe.scalars import bare

__all__ = ["Draft", "flow", "literal", "render", "step_id"]

_WIDTH = 100
_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Draft:
    """Steps by id, each the mapping of its options with its kind's own key first.

    ``matrix`` maps axes to lists of values, and may have ``exclude`` and ``include``. ``remarks`` are
    comments by step id, put above the step, ``notes`` short ones behind it; ``head`` those of the whole
    recipe.
    """

    steps: Mapping[str, Mapping[str, JSON]]
    name: str | None = None
    params: Mapping[str, JSON] = field(default_factory=dict)
    matrix: Mapping[str, JSON] = field(default_factory=dict)
    defaults: Mapping[str, JSON] = field(default_factory=dict)
    head: Sequence[str] = ()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=lambda: _NOTHING)
    notes: Mapping[str, str] = field(default_factory=dict)


def render(draft: Draft) -> str:
    """The recipe's text: a step a line where it fits, its options below it where it does not.

    Reading it back gives the values of ``draft``, types too (a control character in a text
    is refused there, with its place). Raises ``ValueError`` for a
    float that is not finite, which the language cannot say.
    """
    lines = [*_comments(draft.head, ""), "lorapipe: 1"]
    if draft.name is not None:
        lines.append(f"name: {flow(draft.name)}")
    if draft.params:
        lines.append(f"params: {flow(dict(draft.params))}")
    if draft.matrix:
        lines += ["matrix:", *(f"  {axis}: {flow(values)}" for axis, values in draft.matrix.items())]
    if draft.defaults:
        lines.append(f"defaults: {flow(dict(draft.defaults))}")
    lines += ["", "steps:"]
    for step, margin in _margins(draft).items():
        remarks = _comments(draft.remarks.get(step, ()), "  ")
        if remarks and lines[-1] != "steps:":
            lines.append("")
        first, *rest = _step(step, draft.steps[step], margin)
        note = _comments([draft.notes[step]], "  ") if step in draft.notes else [""]
        lines += [*remarks, first + note[0], *rest]
    return "\n".join(lines) + "\n"


def flow(value: JSON) -> str:
    """A value on one line, quoted only where the language would read it otherwise."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value, allow_nan=False)


def step_id(text: str, taken: Collection[str] = ()) -> str:
    """A step id made of any text, such as a file's name; numbered where it is ``taken``.

    >>> step_id("Café Style (v2)"), step_id("42"), step_id("base", {"base"})
    ('caf-style-v2', 'lora-42', 'base-2')
    """
    words = re.findall(r"[a-z0-9_]+", text.lower())
    name = "-".join(words).strip("_") or "lora"
    name = name if name[0].isalpha() else f"lora-{name}"
    if name not in taken:
        return name
    return next(numbered for n in range(2, len(taken) + 3) if (numbered := f"{name}-{n}") not in taken)


def literal(text: str) -> str:
    """A text that stands for itself where a ``$(`` in it would be a hole.

    >>> literal("a$(b)")
    'a$$(b)'
    """
    return text.replace("$(", "$$(")


def _margins(draft: Draft) -> dict[str, int | None]:
    """The column behind the ids that a step's braces begin at, one for neighbours; none for a wide step."""
    widest = max(map(len, draft.steps), default=0)
    fits = {step: len(_line(step, options, widest)) <= _WIDTH for step, options in draft.steps.items()}
    groups: list[list[str]] = []
    for step, before in zip(fits, [None, *fits], strict=False):
        if before is None or draft.remarks.get(step) or not (fits[step] and fits[before]):
            groups.append([])
        groups[-1].append(step)
    return {step: max(map(len, group)) if fits[step] else None for group in groups for step in group}


def _step(step: str, options: Mapping[str, JSON], margin: int | None) -> list[str]:
    if margin is not None:
        return [_line(step, options, margin)]
    return [f"  {step}:", *(f"    {key}: {flow(value)}" for key, value in options.items())]


def _line(step: str, options: Mapping[str, JSON], margin: int) -> str:
    return f"  {step + ':':<{margin + 1}} {flow(dict(options))}"


def _comments(texts: Sequence[str], indent: str) -> list[str]:
    lines = [line for text in texts for line in text.splitlines() or [""]]
    return [f"{indent}# {_UNFIT.sub(_REPLACEMENT, line)}".rstrip() for line in lines]


def _text(text: str) -> str:
    if bare(text):
        return text
    quoted = json.dumps(_SURROGATE.sub(_REPLACEMENT, text), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
