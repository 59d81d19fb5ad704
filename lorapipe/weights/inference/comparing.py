"""Whether two LoRAs, or two checkpoints, can be compared module by module. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.checking import names
from lorapipe.weights.inference.forms import common_shape
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleSpec

__all__ = ["differ", "incomparable"]

_SHOWN = 3
"""Names in a message; the others are counted."""

Known = AdapterSpec | CheckpointSpec


def differ(one: Known, two: Known) -> bool:
    """Whether headers alone show that two of one type are not equal; of ranks that are bounds they do not."""
    if isinstance(one, CheckpointSpec) or isinstance(two, CheckpointSpec):
        return _tensors(one) != _tensors(two)
    if one.bounded or two.bounded:
        return False
    mine, theirs = ({m for m, known in spec.modules.items() if not known.empty} for spec in (one, two))
    return mine != theirs


def incomparable(one: Known, two: Known, name: str, titles: Mapping[str, str]) -> Iterator[RecipeError]:
    """What keeps ``one`` from being compared with ``two``, the step ``name``, which is of the same type."""
    if isinstance(one, CheckpointSpec) and isinstance(two, CheckpointSpec):
        yield from _other_names(set(one.tensors), set(two.tensors), name, "tensor")
        shapes = (
            (key, one.tensors[key].shape, two.tensors[key].shape) for key in one.tensors if key in two.tensors
        )
        yield from (_shapes(key, mine, theirs, name) for key, mine, theirs in shapes if mine != theirs)
    if not (isinstance(one, AdapterSpec) and isinstance(two, AdapterSpec)):
        return
    if one.families and two.families and not one.families & two.families:
        mine, theirs = (titles.get(str(spec.family), str(spec.family)) for spec in (one, two))
        hint = "compare it with a LoRA of its own family"
        yield RecipeError("family-mismatch", f"it is for {mine}, '{name}' is for {theirs}", hint=hint)
        return
    called = {**names(two), **names(one)}
    mine_only = {called[module] for module in one.modules.keys() - two.modules.keys()}
    theirs_only = {called[module] for module in two.modules.keys() - one.modules.keys()}
    yield from _other_names(mine_only, theirs_only, name, "module")
    for module, known in one.modules.items():
        other = two.modules.get(module)
        if other is not None and _shape(known, other) is None:
            yield _shapes(called[module], known.shape, other.shape, name)


def _tensors(spec: Known) -> object:
    return dict(spec.tensors) if isinstance(spec, CheckpointSpec) else None


def _shape(one: ModuleSpec, two: ModuleSpec) -> tuple[int, ...] | None:
    return common_shape(one.shape, two.shape, flat=(one.form is not None, two.form is not None))


def _other_names(
    mine: Collection[str], theirs: Collection[str], name: str, thing: str
) -> Iterator[RecipeError]:
    more, less = sorted(set(mine) - set(theirs)), sorted(set(theirs) - set(mine))
    if not more and not less:
        return
    counts = [
        f"{verb} {len(found)} {thing}{'' if len(found) == 1 else 's'} that {whose}"
        for verb, found, whose in (("has", more, f"'{name}' lacks"), ("lacks", less, f"'{name}' has"))
        if found
    ]
    details = [*more[:_SHOWN], *less[:_SHOWN]]
    if len(more) + len(less) > len(details):
        details.append(f"and {len(more) + len(less) - len(details)} more")
    yield RecipeError(
        f"{thing}s-differ",
        f"it {' and '.join(counts)}",
        hint=f"compare it with what it was made of, of the same {thing}s",
        details=details,
    )


def _shapes(what: str, mine: tuple[int, ...], theirs: tuple[int, ...], name: str) -> RecipeError:
    message = f"it is {list(mine)} here and {list(theirs)} in '{name}'"
    hint = "they were trained on different models"
    return RecipeError("shapes-disagree", message, hint=hint, module=what)
