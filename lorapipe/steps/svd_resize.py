"""``svd-resize``: the best LoRA of given ranks, of a given size, or of what scores high beside a base."""

from __future__ import annotations

from dataclasses import replace
from math import floor
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import RecipeError
from lorapipe.recipe.model import JSON
from lorapipe.steps.blocks import read_blocks
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.scoring import base_weights, bind_base, read_score, scored_cost, source_spec
from lorapipe.steps.types import adapter_spec, at_work, factor_bytes
from lorapipe.weights.inference.ranks import Dynamic, Rank, Ranks
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.algebra.resize import Resized

__all__ = ["KIND"]

_PORT = "svd-resize"
_RANKS = ("rank", "conv-rank", "conv1x1-rank")


def _ranks(spec: AdapterSpec, params: Params) -> Ranks:
    rule = list(cast("dict[str, float]", params.get("dynamic") or {}).items())
    ranks = {option: _rank(spec, params[option], option) for option in _RANKS if option in params}
    return Ranks(
        ranks.get("rank"),
        conv=ranks.get("conv-rank"),
        conv1x1=ranks.get("conv1x1-rank"),
        dynamic=Dynamic(*rule[0]) if rule else None,
        max_size=cast("int | None", params.get("max-size")),
        score=read_score(params),
    )


def _rank(spec: AdapterSpec, said: JSON, option: str) -> Rank:
    """A rank for all modules, or each module's by its block.

    Raises :class:`RecipeError` ``bad-rank``, and as :func:`~.blocks.read_blocks` does.
    """
    if not isinstance(said, dict):
        return cast("int", said)
    default = cast("float | None", said.get("default"))
    numbers = read_blocks(spec, said["blocks"], option)
    found = numbers.spread(spec, default, "say it with a default: {default: 16, blocks: ...}")
    wrong = next((rank for rank in numbers.named.values() if not (rank >= 1 and rank == int(rank))), None)
    if wrong is not None:
        hint = "filter leaves out modules of blocks that shall have none" if wrong == 0 else None
        message = f"a rank is a whole number from 1, not {wrong:g}"
        raise RecipeError("bad-rank", message, hint=hint, option=option)
    return {module: int(value) for module, value in found.items()}


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    spec = source_spec(inputs, _PORT)
    bind_base(inputs, _PORT, params)
    return resize_spec(spec, _ranks(spec, params))


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.algebra.resize import resize

    given: Adapter = inputs.one(_PORT)
    spec = source_spec(inputs, _PORT)
    ranks = _ranks(spec, params)
    resized = resize(
        replace(given, spec=spec, extras=given.extras if spec.extras else {}),
        ranks,
        base=base_weights(inputs, _PORT, params, context),
        compute=context.compute,
        each=context.each,
        put_away=context.put_away,
    )
    _tell(resized, ranks, context)
    return resized.adapter


def _tell(resized: Resized, ranks: Ranks, context: Context) -> None:
    found = resized.adapter.spec.modules
    context.note("energy", {str(module): energy for module, energy in resized.energy.items()})
    if ranks.bounded:
        context.note("ranks", {str(module): known.rank for module, known in found.items()})
    if ranks.score is not None:
        # Rounded down: as a threshold it keeps what is kept.
        least = min(score for scores in resized.scores.values() for score in scores)
        context.note("lowest score kept", floor(least * 1e6) / 1e6)
        if empty := sum(known.empty for known in found.values()):
            context.note("left out", {"modules of which no component scores more": empty})


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:
    spec = source_spec(inputs, _PORT)
    out = adapter_spec(result, KIND.name)
    bounded = _ranks(spec, params).bounded
    # Two Gram matrices, of which the half is a copy (n r^2 each), the core's SVD, two products.
    items = tuple(
        m.elements * (m.rank + 2 * out.modules[i].rank) + 20 * min(m.rank, m.full_rank) ** 3
        if bounded or out.modules[i] != m
        else 0
        for i, m in spec.modules.items()
    )
    size = factor_bytes(out)
    own = Cost(written=size, flops=sum(items), each=at_work(spec), kept=size, items=items)
    return scored_cost(inputs, _PORT, params, own)


KIND = Kind(
    name="svd-resize", version=1, materialise=Materialise.STORED, infer=_infer, work=_work, cost=_cost
)
