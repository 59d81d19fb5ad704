"""Where in a model the modules of a file belong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

from lorapipe.architectures import Family, Target, nearest, other_families
from lorapipe.architectures import family as family_named
from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.dialects import ALPHA, WRAPPER
from lorapipe.formats.adapters.found import Found
from lorapipe.formats.forms.lora import UP
from lorapipe.formats.problems import Problems
from lorapipe.weights.inference.cuts import ANYWHERE, can_cut, part
from lorapipe.weights.inference.filed import cut_form
from lorapipe.weights.inference.forms import FULL, cut
from lorapipe.weights.specs import Form, ModuleId, ModuleSpec, Spelling, TensorSpec

__all__ = ["Placed", "place", "targets", "verbatim"]

_KERNELS = {"conv3x3": (3, 3)}
_BIAS = ".diff_b"
_BASE = ".base_layer."
_OTHER = "is it a LoRA for another model? then say which: `family:`"
_WHOLE = "merge it into a checkpoint and extract a LoRA from the difference"
_PARTS = "{n} module{s} whose rows cannot be parted as the model's file has them"
_HEIGHTLESS = "{n} module{s} for some rows of a fused weight, whose height the format does not tell"
_ELSEWHERE = "merge it with the program that it was trained with"
Tensors = Mapping[str, TensorSpec]


class Placed(NamedTuple):
    """A module where it belongs: ``rows`` of a module of the file, all of them if ``None``."""

    found: Found
    module: ModuleId
    spec: ModuleSpec
    rows: tuple[int, int] | None = None


def targets(modules: Sequence[Found], known: Family, problems: Problems) -> list[Target | None]:
    """Each module's place in a family; ``None`` of those that have none, which are problems."""
    found = [_target(module, known) for module in modules]
    lost = [module for module, target in zip(modules, found, strict=True) if target is None]
    strange = [m for m in lost if m.parameter or known.lookup(m.path) is None]
    for module in lost:
        if module not in strange:
            problems.say(
                "no-such-bias", f"{{n}} bias{{es}} that {known.title} does not have", module.stem, _OTHER
            )
    hint = _reason(strange, known) if strange else ""
    for module in strange:
        near = nearest(known, module.path, 1) if problems.shows("unknown-modules") else ()
        shown = module.stem + (f" (nearest is {near[0]})" if near else "")
        problems.say("unknown-modules", f"{{n}} module{{s}} that {known.title} does not have", shown, hint)
    return found


def _target(module: Found, known: Family) -> Target | None:
    if module.target is not None:
        return module.target
    if module.parameter:
        return known.place(module.path)
    target = known.lookup(module.path)
    return target.bias if target is not None and module.bias else target


def _reason(strange: Sequence[Found], known: Family) -> str:
    """Why names are not the family's: perhaps another one knows them."""
    counts = other_families([module.path for module in strange])
    best = next((name for name in counts if name != known.name), None)
    if best is None or 2 * counts[best] < len(strange):
        return _OTHER
    return f"they are modules of {family_named(best).title}: is the LoRA for that? then say `family: {best}`"


def verbatim(module: Found, tensors: Tensors) -> Placed:
    """A module of an unknown family, under the name that it has.

    A path (one with dots, or PEFT's) is that of a layer, whose weight is meant; of any other name
    no more is known.
    """
    key = module.path
    if not module.parameter and (module.bias or "." in key or WRAPPER in module.stem):
        key += ".bias" if module.bias else ".weight"
    turned = module.transposed and len(module.measured.shape) == 2
    return Placed(module, ModuleId("", key), _spec(module, module.measured.shape, tensors, turned=turned))


def place(
    module: Found, target: Target, known: Family, tensors: Tensors, problems: Problems
) -> Iterator[Placed]:
    """The modules of identity that a module of the file is, in the orientation of the weight there.

    One, unless the reference layout has its rows in several places or in another order.
    """
    shape = _opened(module, target)
    turned = module.transposed != target.transpose and len(shape) > 1
    if turned and len(shape) > 2:
        problems.add("bad-factor-shape", f"{module.stem} (a kernel {list(shape)} where a matrix is due)")
        return
    # A numbered module has no name of its own, so that it is saved under the usual trainer's.
    stem = module.stem if module.target is None else known.spell(target, "kohya") or ""
    spec = _spec(module, shape, tensors, turned=turned, stem=stem)
    if target.parts and not spec.shape[0]:
        problems.say("rows-unknown", _HEIGHTLESS, f"{module.stem} ({module.form.name})", _ELSEWHERE)
        return
    try:
        ranges = target.rows(spec.shape[0])
    except RecipeError as error:
        problems.say("rows-do-not-divide", _PARTS, f"{module.stem} ({error.message})", _OTHER)
        return
    if len(ranges) < 2:
        yield Placed(module, ModuleId(target.component, target.key, ranges[0] if ranges else None), spec)
        return
    ends = [0, *accumulate(last - first for first, last in ranges)]
    cuts = None if spec.form is None or spec.additive else spec.form.cuts
    if cuts is not None and not all(can_cut(cuts, end) for end in ends[:-1]):
        problems.say("rows-do-not-divide", _PARTS, f"{module.stem} ({module.form.name})", _WHOLE)
        return
    for (first, last), rows in zip(ranges, pairwise(ends), strict=True):
        identity = ModuleId(target.component, target.key, (first, last))
        yield Placed(module, identity, _part(spec, *rows), rows)


def _opened(module: Found, target: Target) -> tuple[int, ...]:
    """The shape ``[O, I, *k]``, where the file leaves a kernel's axes and the inputs' in one."""
    shape, kernel = module.measured.shape, _KERNELS.get(target.kind)
    if kernel is None or module.form.plain or len(shape) != 2 or not shape[1] or shape[1] % prod(kernel):
        return shape
    return (shape[0], shape[1] // prod(kernel), *kernel)


def _part(spec: ModuleSpec, start: int, stop: int) -> ModuleSpec:
    """Rows of a module, which stay under its name: they are joined when it is written."""
    if spec.additive:
        return replace(cut(spec, stop - start), spelling=spec.spelling)
    assert spec.form is not None
    form = cut_form(spec.form, start, stop, spec.shape[0]) or replace(spec.form, tensors=())
    cuts = part(spec.form.cuts, start, stop)
    return replace(spec, shape=(stop - start, *spec.shape[1:]), form=replace(form, cuts=cuts))


def _spec(
    module: Found, shape: tuple[int, ...], tensors: Tensors, *, turned: bool, stem: str | None = None
) -> ModuleSpec:
    spelling = Spelling(module.stem if stem is None else stem, turned, module.up or UP)
    shape = (shape[1], shape[0]) if turned else shape
    if module.base is not None:
        return ModuleSpec(tensors[module.base].shape, 0, spelling, _on_saved(module, tensors, turned=turned))
    form = None if module.form.plain else _form(module, tensors, turned=turned)
    return ModuleSpec(shape, module.measured.rank, spelling, form)


def _form(module: Found, tensors: Tensors, *, turned: bool) -> Form:
    measured = module.measured
    named = tuple((_suffix(module, role), tensors[name]) for role, name in module.tensors.items())
    # What is no quotient (OFT's limit, an alpha that counts for nothing) is written where the file has it.
    said = module.scale.alpha is not None and module.form.name != FULL
    alpha = ((ALPHA, TensorSpec("F32", ())),) if said or measured.divisor is not None else ()
    return Form(
        name=measured.name or module.form.name,
        tensors=(*named, *alpha),
        additive=module.form.additive,
        cuts=() if turned else measured.cuts,
        grows=measured.grows,
        biased=measured.biased,
    )


def _on_saved(module: Found, tensors: Tensors, *, turned: bool) -> Form:
    """The format of a module that brings the weight it acts on: no delta, whatever it is by itself."""
    assert module.base is not None
    form = _form(module, tensors, turned=turned)
    own = (module.base[module.base.rindex(_BASE) :], tensors[module.base])
    cuts = ANYWHERE if form.additive else form.cuts
    return Form(f"{form.name} on a saved weight", (*form.tensors, own), additive=False, cuts=cuts)


def _suffix(module: Found, role: str) -> str:
    return _BIAS if module.bias else role
