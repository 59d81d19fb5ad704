"""``extract-lora``: what one checkpoint has more than another, as a LoRA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import RecipeError, gathered
from lorapipe.formats.checkpoints.extractable import find_sites
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, checkpoint_spec, factor_bytes
from lorapipe.weights.inference.extraction import Extraction, Site, Sites, extract_spec
from lorapipe.weights.inference.ranks import Dynamic, Ranks
from lorapipe.weights.inference.reference import takes, whole_shape
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints.difference import Taker
    from lorapipe.weights.checkpoints.extract import Extracted

__all__ = ["KIND"]

_TUNED, _BASE = "extract-lora", "base"

_REASONS: Mapping[str, str] = {
    "same": "modules that do not differ",
    "rounding": "modules that differ by rounding only",
    "small": "modules that differ by less than 'min-diff'",
}

_BIASES = "tensors of one axis ('bias: diff' keeps biases and norms)"

_SHOWN = 3
"""Names in a message; the others are counted."""


def _wanted(params: Params) -> Extraction:
    rule = list(cast("dict[str, float]", params.get("dynamic") or {}).items())
    return Extraction(
        Ranks(
            cast("int", params["rank"]),
            conv=cast("int | None", params.get("conv-rank")),
            conv1x1=cast("int | None", params.get("conv1x1-rank")),
            dynamic=Dynamic(*rule[0]) if rule else None,
        ),
        biases=params["bias"] == "diff",
        full=bool(params["full"]),
        least=float(cast("float", params.get("min-diff", 0.0))),
        sketched=params["method"] == "randomized",
    )


def _sides(inputs: Inputs[Spec]) -> list[tuple[str, CheckpointSpec]]:
    """The checkpoints by their steps, less those of weight 0."""
    found = [
        (term.weight, term.step, checkpoint_spec(term.value, port, term.step))
        for port in (_TUNED, _BASE)
        for term in inputs.terms(port)
    ]
    sides = [(step, spec) for weight, step, spec in found if weight]
    if not sides:
        raise RecipeError("nothing-left", "every checkpoint has weight 0: nothing is left")
    return sides


def _sites(inputs: Inputs[Spec], params: Params) -> Sites:
    components = cast("Sequence[str]", params.get("components") or ())
    return find_sites(_sides(inputs), components, biases=_wanted(params).biases)


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    sides, sites = _sides(inputs), _sites(inputs, params)
    errors = list(_problems(sites, strict=params["unmatched"] == "error"))
    if errors:
        raise gathered(errors)
    hidden = any(spec.hidden for _, spec in sides)
    return extract_spec(sites.found, sides[0][1].family, _wanted(params), hidden=hidden)


def _problems(sites: Sites, *, strict: bool) -> Iterator[RecipeError]:
    """Weights from which no difference can be taken."""
    if sites.frozen:
        hint = "take the difference of checkpoints that are not quantised so"
        yield _problem("quantised", "whose numbers cannot be read", sites.frozen, hint)
    if strict and sites.misfits:
        hint = "are both checkpoints of one model? with 'unmatched: warn' the others are taken"
        yield _problem("shapes-disagree", "of different shapes", sites.misfits, hint)
    if strict and sites.alone:
        hint = "'components' chooses parts of the model; with 'unmatched: warn' the others are taken"
        yield _problem("unmatched-modules", "that not all checkpoints have", sites.alone, hint)


def _problem(code: str, which: str, found: Mapping[str, str], hint: str) -> RecipeError:
    details = [" ".join(f"{key}: {why}".splitlines()) for key, why in list(found.items())[:_SHOWN]]
    if len(found) > _SHOWN:
        details.append(f"and {len(found) - _SHOWN} more")
    count = "1 weight" if len(found) == 1 else f"{len(found)} weights"
    return RecipeError(code, f"{count} {which}", hint=hint, details=details, option=_BASE)


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    sites = _sites(inputs, params)
    found = []
    if params["unmatched"] == "warn":
        problems = _problems(sites, strict=True)
        found += ["\n  ".join([f"left out: {problem.message}", *problem.details]) for problem in problems]
    if sites.strangers:
        shown = " ".join(sites.strangers[0].split())
        count = f"{len(sites.strangers)} that no LoRA holds, such as {shown}"
        found.append(f"not compared, since not all checkpoints have them in one shape: {count}")
    return tuple(found)


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.checkpoints.extract import extract

    specs = _specs(inputs)
    sites = _sites(specs, params)
    extracted = extract(
        _taker(inputs, context),
        sites,
        _sides(specs)[0][1].family,
        _wanted(params),
        each=context.each,
        put_away=context.put_away,
    )
    _tell(extracted, specs, context)
    return extracted.adapter


def _tell(extracted: Extracted, specs: Inputs[Spec], context: Context) -> None:
    """What a user should know of the result: how much is in it, and what is not."""
    modules = extracted.adapter.spec.modules
    if extracted.energy:
        context.note("energy", {str(module): energy for module, energy in extracted.energy.items()})
    context.note("ranks", {str(module): known.rank for module, known in modules.items() if known.rank})
    if extracted.error:
        context.note("error", {str(module): error for module, error in extracted.error.items()})
    if extracted.left_out:
        context.note("left out", {_REASONS[why]: count for why, count in extracted.left_out.items()})
    if extracted.lost:
        _, first = _sides(specs)[0]
        shapes = {key: whole_shape(first, key) or () for key in extracted.lost}
        lines = [key for key, shape in shapes.items() if len(shape) == 1]
        others = [key for key in shapes if key not in lines]
        told = {_BIASES: len(lines), f"others, such as {' '.join(others[:1])}": len(others)}
        context.note("differs too, and is not in the LoRA", {what: n for what, n in told.items() if n})


def _specs(inputs: Inputs[Any]) -> Inputs[Spec]:
    """The specs of values."""
    ports = inputs.ports.items()
    return Inputs({port: tuple(replace(t, value=t.value.spec) for t in terms) for port, terms in ports})


def _taker(inputs: Inputs[Any], context: Context) -> Taker:
    """What is added and taken off: the base first, so that its numbers are gone where nothing differs."""
    from lorapipe.weights.checkpoints.difference import Side, Taker

    base = (Side(t.step, -t.weight, t.value, rounded=False) for t in inputs.terms(_BASE))
    tuned = (Side(t.step, t.weight, t.value, rounded=True) for t in inputs.terms(_TUNED))
    sides = tuple(side for side in (*base, *tuned) if side.weight)
    return Taker(sides, context.compute, context.device)


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:
    out, wanted, sides = adapter_spec(result, KIND.name), _wanted(params), _sides(inputs)
    found = _sites(inputs, params).found
    items = tuple(_flops(site, wanted) for site in found)
    return Cost(
        read=sum(_bytes(spec, site) for _, spec in sides for site in found),
        written=factor_bytes(out),
        flops=sum(items),
        each=max(_memory(site, wanted) for site in found) + max(8 * 4 * spec.held for _, spec in sides),
        kept=factor_bytes(out),
        items=items,
    )


def _bytes(spec: CheckpointSpec, site: Site) -> int:
    """What is read of a checkpoint for one site."""
    return sum(
        spec.tensors[take.key].nbytes * (take.stop - take.start) // max(1, site.shape[0])
        for start, stop in site.ranges
        for take in takes(spec, site.key, start, stop)
    )


def _flops(site: Site, wanted: Extraction) -> int:
    short, size = min(site.shape[0], site.columns), site.shape[0] * site.columns
    if wanted.sketched:  # four iterations, each of two products and two bases
        return 20 * size * min(short, wanted.most(site) + 16)
    # A triangle where the matrix is not square, the SVD of that, the factors.
    return (2 * size * short if size > short * short else 0) + 20 * short**3 + 2 * size * wanted.most(site)


def _memory(site: Site, wanted: Extraction) -> int:
    """The difference, the matrices of a triangle's step and of the SVD, or bases, and the factors."""
    sides, rank = site.shape[0] + site.columns, wanted.most(site)
    work = 4 * sides * (rank + 16) if wanted.sketched else 12 * min(site.shape[0], site.columns) ** 2
    return DTYPES["F64"] * (site.shape[0] * site.columns + work + rank * sides)


KIND = Kind(
    name="extract-lora",
    version=1,
    materialise=Materialise.STORED,
    infer=_infer,
    work=_work,
    cost=_cost,
    keyless=frozenset({"unmatched"}),
    warn=_warn,
)
