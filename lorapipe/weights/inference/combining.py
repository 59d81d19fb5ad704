"""What ``combine`` makes of specs: the torch-free twin of :mod:`~lorapipe.weights.algebra.combining`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import FULL, cut, factored, needs_deltas, passes
from lorapipe.weights.inference.joining import Joint, Piece, SpecTerm, join
from lorapipe.weights.inference.methods import METHODS, Method, Result, Settings, check_weights
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, TensorSpec

__all__ = ["Combination", "combine_spec"]

_NEITHER = (
    "no factors hold exactly",
    "give a 'rank', such as the largest of the LoRAs' own, or 'dense: true'",
)
_BOTH = ("'rank' cuts and 'dense' keeps", "give one of the two")


@dataclass(frozen=True, slots=True)
class Combination:
    """What is asked for: a method of :data:`~.methods.METHODS`, its settings, and what is kept.

    ``ranks`` are those of the result; ``dense`` keeps the matrices of a method that makes such.
    Of these a method whose result is a matrix needs one; others keep exact factors without.
    Raises :class:`RecipeError` ``rank-or-dense``, ``bad-epsilon``.
    """

    method: str
    settings: Settings = field(default_factory=Settings)
    ranks: Ranks | None = None
    dense: bool = False

    def __post_init__(self) -> None:
        if self.row.result is Result.DENSE and self.dense is not (self.ranks is None):
            how, hint = _BOTH if self.dense else _NEITHER
            raise RecipeError(
                "rank-or-dense",
                f"'{self.method}' makes full matrices, which {how}",
                hint=hint,
                option="dense" if self.dense else "method",
            )
        if self.row.chances:
            self.settings.check_epsilon()

    @property
    def row(self) -> Method:
        return METHODS[self.method]


def combine_spec(
    terms: Sequence[SpecTerm], wanted: Combination, titles: Mapping[str, str] | None = None
) -> Joint:
    """The result's spec, and which of the terms' deltas meet in each of its modules.

    Modules meet as in ``concat``. Biases and norms stay what they are. Raises
    :class:`RecipeError` as :func:`~.joining.join` and :func:`~.methods.check_weights` do, and
    ``not-additive`` for what is no delta, ``ranks-differ`` for factors that cannot be added.
    """
    check_weights(wanted.method, [(name, weight) for name, weight, _ in terms])
    for name, weight, spec in terms:
        if weight:
            _only_deltas(name, spec)
    joint = join(terms, titles)
    modules = {
        module: _module(known, _parts(terms, joint.pieces[module]), wanted, joint.spec, module)
        for module, known in joint.spec.modules.items()
    }
    return Joint(replace(joint.spec, modules=modules), joint.pieces)


def _only_deltas(name: str, spec: AdapterSpec) -> None:
    try:
        needs_deltas(spec, "combine")
    except RecipeError as error:
        message = error.message.replace("this one", f"'{name}'")
        raise RecipeError(
            error.code, message, hint=error.hint, module=error.module, option="combine"
        ) from None


def _parts(terms: Sequence[SpecTerm], pieces: Sequence[Piece]) -> list[tuple[str, ModuleSpec]]:
    """The deltas that meet in a module, each with its term's name, cut to its rows."""
    return [(terms[p.term][0], cut(terms[p.term][2].modules[p.module], p.stop - p.start)) for p in pieces]


def _module(
    known: ModuleSpec,
    parts: Sequence[tuple[str, ModuleSpec]],
    wanted: Combination,
    spec: AdapterSpec,
    module: ModuleId,
) -> ModuleSpec:
    if passes(known):
        return known
    result, ranks = wanted.row.result, wanted.ranks
    target = known.full_rank if ranks is None else ranks.target(known, module)
    if result is Result.DENSE:
        rank = target if any(part.rank for _, part in parts) else 0
        return replace(known, rank=rank, form=_full(known, spec.dtype) if wanted.dense else None)
    if result is Result.FACTORS:
        found = [part.rank for _, part in parts if part.rank]
        if wanted.row.one_rank:
            _see_equal(wanted.method, parts, spec, module)
            found = [max(found, default=0)]
        return replace(known, rank=min(sum(found), target), form=None)
    return known if ranks is None else factored(known, target)


def _see_equal(
    method: str, parts: Sequence[tuple[str, ModuleSpec]], spec: AdapterSpec, module: ModuleId
) -> None:
    """Refuse factors that cannot be added: of different ranks, or none."""
    first, *others = [(name, part) for name, part in parts if part.rank] or parts
    for name, part in (first, *others):
        if part.form is not None:
            raise RecipeError(
                "no-factors",
                f"'{method}' adds factors, and '{name}' is {part.form.name} here",
                hint="svd-resize it first, or say 'method: sum', which adds deltas",
                module=str(module),
                option="method",
            )
        if part.rank != first[1].rank and not spec.bounded:
            raise RecipeError(
                "ranks-differ",
                f"'{method}' adds factors of one rank: "
                f"'{first[0]}' has {first[1].rank}, '{name}' {part.rank}",
                hint="svd-resize them to one rank, or say 'method: sum', which adds deltas of any rank",
                module=str(module),
                option="method",
            )


def _full(known: ModuleSpec, dtype: str) -> Form:
    """The format of a module that is kept as its matrix."""
    shape = known.shape
    turned = (shape[1], shape[0], *shape[2:]) if known.spelling.transposed else shape
    return Form(FULL, ((".diff", TensorSpec(dtype, turned)),))
