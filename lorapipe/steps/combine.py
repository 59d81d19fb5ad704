"""``combine``: LoRAs merged by a method of the field, on their true deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from lorapipe.architectures import titles
from lorapipe.formats.layouts.spelling import one_spelling
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, at_work
from lorapipe.weights.inference.combining import Combination, combine_spec
from lorapipe.weights.inference.joining import Joint
from lorapipe.weights.inference.methods import Result, Settings
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import DTYPES, AdapterSpec, ModuleSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]

_PORT = "combine"

_SETTINGS: Mapping[str, str] = {
    "density": "density", "gamma": "gamma", "epsilon": "epsilon", "elect": "elect", "normalize": "normalize",
    "lambda": "factor", "t": "t", "directions": "directions", "side": "side", "projection": "projection",
    "seed": "seed",
}  # fmt: skip
"""Options by the names of what they set; those that are not said have the methods' defaults."""

_FLOPS_OF_A_MINUTE = 3e12
"""On two cores, about (measured: TIES of three SD1.5 LoRAs at rank 16, 2.4e12, took 80 s of CPU)."""


def _wanted(params: Params) -> Combination:
    said = {name: params[option] for option, name in _SETTINGS.items() if params.get(option) is not None}
    rank = cast("int | None", params.get("rank"))
    conv, conv1x1 = (cast("int | None", params.get(option)) for option in ("conv-rank", "conv1x1-rank"))
    return Combination(
        str(params["method"]),
        Settings(**cast("dict[str, Any]", said)),
        None if rank is None else Ranks(rank, conv=conv, conv1x1=conv1x1),
        dense=bool(params.get("dense")),
    )


def _joint(inputs: Inputs[Spec], params: Params) -> Joint:
    terms = [(t.step, t.weight, adapter_spec(t.value, _PORT, t.step)) for t in inputs.terms(_PORT)]
    return combine_spec(terms, _wanted(params), titles())


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    joint = _joint(inputs, params)
    first = next(t.value for t in inputs.terms(_PORT) if t.weight)
    return one_spelling(joint.spec, adapter_spec(first, _PORT))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.algebra.combining import combine

    terms = inputs.terms(_PORT)
    combined = combine(
        [(t.step, t.weight, t.value) for t in terms],
        _wanted(params),
        titles(),
        compute=context.compute,
        each=context.each,
        put_away=context.put_away,
    )
    if combined.energy:
        context.note("energy", {str(module): energy for module, energy in combined.energy.items()})
    first = next(t.value.spec for t in terms if t.weight)
    return replace(combined.adapter, spec=one_spelling(combined.adapter.spec, first))


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:
    out, wanted, joint = adapter_spec(result, KIND.name), _wanted(params), _joint(inputs, params)
    written = _bytes(out)
    if wanted.row.result is not Result.DENSE:
        given = sum(adapter_spec(t.value, _PORT).elements for t in inputs.terms(_PORT) if t.weight)
        work = max(at_work(out), 4 * DTYPES["F64"] * _largest(joint.spec))
        return Cost(written=written, flops=_thin_flops(given, out), each=work, kept=written)
    live = sum(1 for t in inputs.terms(_PORT) if t.weight)
    items = tuple(_dense_flops(m, live, wanted) for m in out.modules.values())
    return Cost(
        written=written,
        flops=sum(items),
        each=max((_dense_bytes(m, live) for m in out.modules.values()), default=0),
        kept=written,
        items=items,
    )


def _bytes(spec: AdapterSpec) -> int:
    """Of all that the result keeps: factors, or matrices."""
    return sum(
        DTYPES["F64"] * (m.elements if m.form is None else m.shape[0] * m.columns)
        for m in spec.modules.values()
    )


def _largest(spec: AdapterSpec) -> int:
    return max((m.elements for m in spec.modules.values()), default=0)


def _thin_flops(given: int, out: AdapterSpec) -> int:
    """Two Gram matrices of the stacked factors, and the small decompositions between them."""
    ranks = max((m.rank for m in out.modules.values()), default=0)
    return 3 * given * ranks + sum(20 * min(m.rank, m.full_rank) ** 3 for m in out.modules.values())


def _dense_flops(module: ModuleSpec, terms: int, wanted: Combination) -> int:
    """The matrices, some passes over them, and with a rank a Gram matrix, its eigenvectors, the factors."""
    size, short = module.shape[0] * module.columns, module.full_rank
    passes = 40 * terms * size
    if wanted.dense or len(module.shape) == 1:
        return passes
    return passes + 2 * size * short + 10 * short**3 + 2 * size * module.rank


def _dense_bytes(module: ModuleSpec, terms: int) -> int:
    """The terms' matrices, one more and what is made of it, the sum, and those of the decomposition."""
    size, short = module.shape[0] * module.columns, module.full_rank
    return DTYPES["F64"] * ((terms + 5) * size + 4 * short**2)


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:
    found = []
    minutes = _cost(inputs, params, result).flops / _FLOPS_OF_A_MINUTE
    if _wanted(params).row.result is Result.DENSE and minutes >= 2:
        found.append(
            f"'{params['method']}' decomposes whole matrices: some {minutes:.0f} minutes on two cores"
            " ('dense: true' does without, in a larger file)"
        )
    live = [t for t in inputs.terms(_PORT) if t.weight]
    if params.get("elect") == "frequency" and len(live) == 2:
        found.append(
            "'elect: frequency' counts LoRAs: where two differ in sign it is a draw, and plus wins;"
            " 'elect: total' lets the larger value win"
        )
    return tuple(found)


KIND = Kind(
    name="combine",
    version=1,
    materialise=Materialise.STORED,
    infer=_infer,
    work=_work,
    cost=_cost,
    warn=_warn,
)
