"""``svd-resize`` with ``score``: what it reads of a recipe, where the base's weights are, what it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lorapipe
from lorapipe.errors import LorapipeError, RecipeError
from lorapipe.recipe.parsing import parse
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context
from lorapipe.weights.specs import Form, ModuleId, ModuleSpec, Spelling, TensorSpec

from ..bench import CONV1, KEYS, SHAPES, TE, TO_Q, Bench
from .kit import CONV, FILE, TEXT, Q, deltas, given, infer, load, lora, model, options, work

KIND = find_kind("svd-resize")
NAMES, MAP = (
    "spectral, frobenius, subspace, lora-spectral, lora-frobenius",
    "a map such as {frobenius: 0.8, params: 0.2}",
)
SPECTRAL = {"by": "spectral", "threshold": -1.0}


def against(base: object, source: object | None = None) -> Any:
    return given(svd_resize=source or lora(10), **{"score.against": [("base", 1.0, base)]})


def refused(inputs: Any, **said: Any) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        infer("svd-resize", inputs, **said)
    return caught.value


def complaints(options: str) -> list[str]:
    loads = "  a: {load: a.pt}\n  base: {load: b.pt}\n"
    text = f"lorapipe: 1\nsteps:\n{loads}  s: {{svd-resize: a, {options}}}\n"
    try:
        parse(text)
    except LorapipeError as error:
        return [str(one).partition("error: ")[2] for one in error.parts]
    return []


# --- what a recipe says -------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "score: {against: base, by: spectral, threshold: -1.2}",
        "score: {against: base, by: [spectral, params], threshold: -1}",
        "score: {against: base, by: {frobenius: 0.8, params: 0.2}}, max-size: 50MiB",
        "score: {by: lora-spectral, threshold: -0.7}, rank: {default: 8, blocks: {MID: 16}}, conv-rank: 4",
    ],
)
def test_names_lists_and_maps_say_what_counts(said: str) -> None:
    assert complaints(said) == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("dynamic: {sv-fro: 0.9}", "svd-resize needs 'rank' or 'score' - such as rank: 32"),
        (
            "score: spectral",
            "'score' takes braces, such as {against: base, by: spectral, threshold: -1.2}, not 'spectral'",
        ),
        ("score: {against: base, threshold: -1}", "'score' needs 'by'"),
        ("score: {by: [spectral], thr: -1}", "'score' has no 'thr' - did you mean 'threshold'?"),
        ("score: {against: bose, by: spectral}", "no step 'bose' - did you mean 'base'?"),
        ("score: {by: {spn_ckpt: 1}}", "'by' has no 'spn_ckpt' - did you mean 'spectral'?"),
        (
            "score: {by: spektral}",
            f"'by' takes {NAMES} or params, a list of them, or {MAP}, not 'spektral' - did you mean",
        ),
        (
            "score: {by: [fro_ckpt]}",
            f"'by' lists {NAMES}, params, not 'fro_ckpt' - did you mean 'frobenius'?",
        ),
        ("score: {by: []}", "'by' takes"),
        ("score: {by: {}}", "'by' takes"),
        ("score: {by: {params: much}}", "'params' takes a number, its weight, or $(name), not 'much'"),
        (
            "score: {by: params, threshold: low}",
            "'threshold' takes a number, such as -1.2, or $(name), not 'low'",
        ),
        ("score: {by: params, threshold: .nan}", "'threshold' takes a number, such as -1.2, or $(name), not"),
    ],
)
def test_what_it_does_not_say_is_named(said: str, complaint: str) -> None:
    (found,) = complaints(said)
    assert found.startswith(complaint)


def test_a_score_and_a_rule_do_not_go_together_and_a_score_alone_leaves_nothing_out() -> None:
    both = refused(against(model()), rank=8, dynamic={"sv-fro": 0.9}, score=SPECTRAL)
    assert (both.code, both.option) == ("two-rules", "dynamic")
    alone = refused(against(model()), score={"by": "spectral"})
    assert (alone.code, alone.option) == ("no-threshold", "score")
    none = refused(against(model()), score={"by": {"spectral": 1, "params": -1}, "threshold": -1})
    assert (none.code, none.option) == ("weights-cancel", "score")
    twice = refused(against(model()), score={"by": ["params", "spectral", "params"], "threshold": -1})
    assert (twice.code, twice.option) == ("named-twice", "score")


# --- the base -----------------------------------------------------------------------------


def test_a_base_is_named_where_scores_are_by_it_and_only_there() -> None:
    error = refused(given(svd_resize=lora(10)), score=SPECTRAL)
    assert (error.code, error.option) == ("needs-base", "score")
    free = {"by": {"lora-spectral": 1, "params": 0.1}, "threshold": -1}
    assert infer("svd-resize", given(svd_resize=lora(10)), score=free).bounded
    smaller = replace(model(), keys={})
    assert infer("svd-resize", against(smaller), score=free).bounded


@pytest.mark.parametrize("wrong", [lora(), FILE])
def test_a_base_is_a_checkpoint(wrong: object) -> None:
    error = refused(against(wrong), score=SPECTRAL)
    assert (error.code, error.option) == ("wrong-type", "score")


def test_a_base_of_another_family_is_refused() -> None:
    error = refused(against(model("sdxl")), score=SPECTRAL)
    assert (error.code, error.option) == ("family-mismatch", "score")
    assert "'in' is for SD1.x, the checkpoint is SDXL" in str(error)


def test_modules_that_the_base_lacks_or_has_in_another_shape_are_named() -> None:
    whole = model()
    keys = {key: places for key, places in whole.keys.items() if key != Q.key}
    tensors = {**whole.tensors, TEXT.key: TensorSpec("F16", (24, 17))}
    error = refused(against(replace(whole, keys=keys, tensors=tensors)), score=SPECTRAL)
    assert (error.code, error.option) == ("unmatched-modules", "score")
    assert "2 of 4 modules of 'in' have no place in the checkpoint" in str(error)
    assert any(Q.key in line for line in error.details)
    assert any("[24, 16] does not fit the checkpoint's weight [24, 17]" in line for line in error.details)
    assert "filter" in str(error.hint)


def test_a_bias_is_not_scored_and_needs_no_place() -> None:
    form = Form("full difference", ((".diff_b", TensorSpec("F32", (20,))),))
    bias = ModuleId("unet", "no.bias")
    modules = {**lora(10).modules, bias: ModuleSpec((20,), 1, Spelling("no"), form)}
    found = infer("svd-resize", against(model(), replace(lora(10), modules=modules)), score=SPECTRAL)
    assert found.modules[bias] == modules[bias]


def test_a_base_that_hides_its_sources_hides_them_in_the_result() -> None:
    told = replace(lora(10), metadata={"ss_output_name": "secret", "format": "pt"})
    hidden = infer("svd-resize", against(replace(model(), hidden=True), told), score=SPECTRAL)
    assert (hidden.hidden, hidden.metadata) == (True, {"format": "pt"})
    assert not infer("svd-resize", against(model(), told), score=SPECTRAL).hidden


# --- what it costs ------------------------------------------------------------------------


def test_ranks_are_caps_that_a_plan_tells() -> None:
    capped = infer("svd-resize", against(model()), score=SPECTRAL, rank=4, conv_rank=2)
    assert (capped.bounded, capped.modules[Q].rank, capped.modules[CONV].rank) == (True, 4, 2)
    free = infer("svd-resize", against(model()), score=SPECTRAL)
    assert {known.rank for known in free.modules.values()} == {10}


def test_a_plan_counts_what_is_read_of_the_base() -> None:
    base, inputs = model(), against(model())
    plain = KIND.cost(inputs, options("svd-resize", rank=4), infer("svd-resize", inputs, rank=4))
    read = sum(base.tensors[module.key].nbytes for module in lora().modules)
    for by in ("spectral", "frobenius", "subspace"):
        said = {"score": {"by": by, "threshold": -1}}
        cost = KIND.cost(inputs, options("svd-resize", **said), infer("svd-resize", inputs, **said))
        assert cost.read == read
        assert cost.flops > 0
        assert cost.each > plain.each
    said = {"score": {"by": "params", "threshold": -1}}
    assert KIND.cost(inputs, options("svd-resize", **said), infer("svd-resize", inputs, **said)).read == 0


# --- at work ------------------------------------------------------------------------------


def test_a_sum_of_loras_is_scored_beside_the_weights_that_it_is_added_to(bench: Bench) -> None:
    """A negative weight, kernels and all, against numpy: and the facts that are told."""
    both = [("a", 0.7, load(bench.lora("a", 4))), ("b", -0.4, load(bench.lora("b", 3, seed=1)))]
    source, base = work("concat", given(concat=both)), load(bench.checkpoint())
    told: dict[str, Any] = {}
    inputs = given(svd_resize=source, **{"score.against": [("base", 1.0, base)]})
    by, threshold = {"spectral": 2, "frobenius": 1, "params": 1}, -0.5
    context = Context(note=lambda fact, value, *_: told.__setitem__(fact, value))
    small = _worked(inputs, context, by, threshold)

    found, scores = deltas(small), {}
    for stem, shape in SHAPES.items():
        exact = 0.7 * bench.deltas["a"][stem] - 0.4 * bench.deltas["b"][stem]
        u, s, vt = np.linalg.svd(exact, full_matrices=False)
        weight = bench.weights["base"][KEYS[stem]].reshape(shape[0], -1)
        norms = 0.5 * np.log10(np.linalg.norm(weight, 2)) + 0.25 * np.log10(np.linalg.norm(weight))
        scores[stem] = np.log10(s[:7]) - norms - 0.25 * np.log10(sum(weight.shape))
        rank = int((scores[stem] >= threshold).sum())
        part = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(found.get(stem, 0 * exact), part, atol=1e-5)
        assert told["energy"][KEYS[stem]] == pytest.approx((s[:rank] ** 2).sum() / (s**2).sum(), rel=1e-5)
        assert told["ranks"][KEYS[stem]] == rank
    every = np.concatenate(list(scores.values()))
    kept = every[every >= threshold]
    assert 0 < len(kept) < len(every)
    assert told["lowest score kept"] == pytest.approx(kept.min(), abs=2e-6)
    assert told["lowest score kept"] <= kept.min() + 1e-9


def test_modules_of_which_nothing_is_kept_are_counted(bench: Bench) -> None:
    inputs = given(
        svd_resize=work("scale", given(scale=load(bench.lora("a"))), modules=[{"*text_model*": 1e-6}]),
        **{"score.against": [("base", 1.0, load(bench.checkpoint()))]},
    )
    told: dict[str, Any] = {}
    context = Context(note=lambda fact, value, *_: told.__setitem__(fact, value))
    small = _worked(inputs, context, {"spectral": 1}, -3.0)
    assert small.spec.modules[TEXT].empty
    assert set(deltas(small)) == {*SHAPES} - {TE}
    assert told["left out"] == {"modules of which no component scores more": 1}


def test_a_merged_base_and_a_call_are_as_good(bench: Bench) -> None:
    """The same bytes by a call as by the algebra; a base with a LoRA in it gives other scores."""
    a, base = lorapipe.load(bench.lora("a")), lorapipe.load(bench.checkpoint())
    merged = lorapipe.merge_into_checkpoint(base, [(lorapipe.load(bench.lora("b", seed=2)), 3.0)])
    found = {}
    for name, one in (("base", base), ("merged", merged)):
        score = {"against": one, "by": "frobenius", "threshold": -0.8}
        path = lorapipe.save(lorapipe.svd_resize(a, score=score), bench.folder / f"{name}-small.safetensors")
        ranks = {}
        for module, known in load(path).spec.modules.items():
            ranks[module.key] = known.rank
        found[name] = ranks
    weights = bench.weights["base"]
    for name, extra in (("base", 0.0), ("merged", 3.0)):
        for stem in (TO_Q, CONV1, TE):
            weight = weights[KEYS[stem]].reshape(SHAPES[stem][0], -1) + extra * bench.deltas["b"][stem]
            s = np.linalg.svd(bench.deltas["a"][stem], compute_uv=False)[:4]
            expected = int((np.log10(s / np.linalg.norm(weight)) >= -0.8).sum())
            assert found[name].get(KEYS[stem], 0) == expected
    assert found["base"] != found["merged"]


def _worked(inputs: Any, context: Context, by: dict[str, float], threshold: float) -> Any:
    """What the kind makes; the data decide, so that it is only within what was inferred."""
    params = options("svd-resize", score={"by": by, "threshold": threshold})
    return KIND.work(inputs, params, context)
