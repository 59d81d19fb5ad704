"""The formats that a file's modules have in a layout: cut, joined, respelt, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorapipe.formats.layouts.naming import Group
from lorapipe.formats.layouts.refusals import Refusals
from lorapipe.formats.layouts.table import BIAS, MAGNITUDES, Layout, respelled
from lorapipe.weights.inference.filed import DOWN, FileModule, below, cut_form
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.specs import Form, ModuleId, TensorSpec

__all__ = ["beside", "check_alike", "formed", "no_format"]

_OTHERS = "leave 'layout' out, choose another, or merge it into a checkpoint"
_DENSE = "svd-resize makes a plain LoRA of it, `dense: true` writes it as a full difference"


def formed(
    made: FileModule, group: Group, layout: Layout | None, refused: Refusals, *, dense: str | None = None
) -> FileModule | None:
    """A module that is no plain pair of factors, with its format in the file.

    ``group`` are the adapter's modules that it is made of. ``dense`` is the dtype of full
    differences where these may be written of what has no other format. ``None``, and why is
    said, where it has none at all.
    """
    known = [group[module] for module in made.sources]
    additive = all(module.additive for module in known)
    form = _one_form(group, made, additive=additive)
    if form is None and dense is not None and additive:
        role = BIAS if len(made.shape) == 1 else ".diff"
        form = Form(FULL, ((role, TensorSpec(dense, made.shape)),))
    if form is None:
        _refuse(made, group, _DENSE if additive else _OTHERS, refused)
        return None
    if layout is not None:
        found = respelled(form, made.shape, layout)
        if found is None:
            no_format(form.name, made.sources[0], layout, refused)
            return None
        form = found
    return replace(made, form=form)


def _one_form(group: Group, made: FileModule, *, additive: bool) -> Form | None:
    """The format of the module's parts together, if they are of one that can be cut and joined."""
    pieces: list[Form] = []
    for part in made.parts:
        if part.module is None:
            if not additive:
                return None
            continue
        known = group[part.module]
        piece = known.form and cut_form(known.form, part.start, part.stop, known.shape[0])
        if piece is None or not piece.tensors:
            return None
        pieces.append(piece)
    return pieces[0] if len(made.parts) == 1 else below(pieces, sum(part.height for part in made.parts))


def _refuse(made: FileModule, group: Group, hint: str, refused: Refusals) -> None:
    first = group[made.sources[0]]
    forms = (group[module].form for module in made.sources)
    names = " and ".join(dict.fromkeys("LoRA" if form is None else form.name for form in forms))
    if len(made.parts) == 1 and made.parts[0].height == first.shape[0]:
        code, message = "no-format", f"{{n}} module{{s}} of {names} that no file can hold"
    else:
        code, message = (
            "not-one-module",
            f"{{n}} module{{s}} of {names} that would have to be split or joined",
        )
    refused.say(code, message, str(made.sources[0]), hint)


def no_format(form: str, module: ModuleId, layout: Layout, refused: Refusals) -> None:
    """Say that a layout has no place for a module of a format."""
    message = f"{{n}} module{{s}} of {form} that {layout.program} has no place for"
    refused.say("no-format", message, str(module), _OTHERS)


def beside(found: Sequence[FileModule], layout: Layout | None, refused: Refusals) -> Iterator[FileModule]:
    """The modules, biases in the words of the weights that they are beside."""
    weights = {module.stem: module for module in found if module.form is None}
    for module in found:
        if not _is_bias(module):
            yield module
        elif module.stem in weights:
            yield replace(module, words=weights[module.stem].words)
        elif layout is None or module.words.suffix(BIAS) == BIAS:
            yield module
        else:
            no_format("a bias beside no LoRA", module.sources[0], layout, refused)


def check_alike(found: Sequence[FileModule], layout: Layout, refused: Refusals) -> None:
    """PEFT's settings are of a whole model: all of its modules are DoRA or none, all have a bias or none."""
    biased = {module.stem for module in found if _is_bias(module)}
    weights = [module for module in found if DOWN in module.tensors("F32")]
    for component in dict.fromkeys(module.sources[0].component for module in weights):
        own = [module for module in weights if module.sources[0].component == component]
        dora = [module for module in own if not module.tensors("F32").keys().isdisjoint(MAGNITUDES)]
        plain = [module for module in own if module not in dora]
        bare = [module for module in own if module.stem not in biased]
        for odd, what in ((plain, "without DoRA, others with it"), (bare, "without a bias, others with one")):
            message = f"{{n}} module{{s}} {what}: to {layout.program} a model's are alike"
            for module in odd if len(odd) < len(own) else ():
                refused.say("not-alike", message, str(module.sources[0]), _OTHERS)


def _is_bias(module: FileModule) -> bool:
    return module.form is not None and any(role == BIAS for role, _ in module.form.tensors)
