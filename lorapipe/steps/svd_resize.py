"""``svd-resize``: the best LoRA of given ranks, or of a given size, by the SVD of a small core."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.errors import RecipeError
from lorapipe.recipe.model import JSON
from lorapipe.steps.blocks import read_blocks
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, at_work, factor_bytes
from lorapipe.weights.inference.ranks import Dynamic, Rank, Ranks
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.sizes import size_in_bytes
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _ranks(spec: AdapterSpec, params: Params) -> Ranks:
    rule = list(cast("dict[str, float]", params.get("dynamic") or {}).items())
    size = cast("int | str | None", params.get("max-size"))
    return Ranks(
        _rank(spec, params["rank"], "rank"),
        conv=_rank(spec, params["conv-rank"], "conv-rank") if "conv-rank" in params else None,
        conv1x1=_rank(spec, params["conv1x1-rank"], "conv1x1-rank") if "conv1x1-rank" in params else None,
        dynamic=Dynamic(*rule[0]) if rule else None,
        max_size=None if size is None else size_in_bytes(size),
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
    spec = adapter_spec(inputs.one("svd-resize"), "svd-resize")
    return resize_spec(spec, _ranks(spec, params))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.algebra.resize import resize

    adapter = inputs.one("svd-resize")
    ranks = _ranks(adapter.spec, params)
    resized = resize(adapter, ranks, compute=context.compute, each=context.each, put_away=context.put_away)
    context.note("energy", {str(module): energy for module, energy in resized.energy.items()})
    if ranks.bounded:
        found = resized.adapter.spec.modules
        context.note("ranks", {str(module): known.rank for module, known in found.items()})
    return resized.adapter


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:
    spec = adapter_spec(inputs.one("svd-resize"), "svd-resize")
    out = adapter_spec(result, KIND.name)
    bounded = _ranks(spec, params).bounded
    changed = {i: m for i, m in spec.modules.items() if bounded or out.modules[i] != m}
    # Two Gram matrices, of which the half is a copy (n r^2 each), the core's SVD, two products.
    flops = sum(
        m.elements * (m.rank + 2 * out.modules[i].rank) + 20 * min(m.rank, m.full_rank) ** 3
        for i, m in changed.items()
    )
    return Cost(written=factor_bytes(out), flops=flops, each=at_work(spec), kept=factor_bytes(out))


KIND = Kind(
    name="svd-resize", version=1, materialise=Materialise.STORED, infer=_infer, work=_work, cost=_cost
)
