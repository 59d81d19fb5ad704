"""``extract-lora``: the difference of two checkpoints as a LoRA, held against dense float64 differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorapipe.errors import BuildError, LorapipeError, ManyErrors, RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Inputs, Materialise, Weighted
from lorapipe.weights.specs import CheckpointSpec, Place, TensorSpec

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("extract-lora")

Matrix = npt.NDArray[np.float64]
Change = Callable[[dict[str, Tensor]], None]

BIAS = "model.diffusion_model.input_blocks.1.1.proj_in.bias"
NORM = "model.diffusion_model.input_blocks.1.1.norm"
VAE = "first_stage_model.decoder.conv_in.bias"
SD1 = {"ss_base_model_version": "sd_v1", "ss_v2": "False"}


def extracted(
    tuned: Any,
    base: Any,
    context: Context | None = None,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    **said: Any,
) -> Any:
    """What the kind makes, held against the bounds that it infers from headers."""
    sides = {"extract-lora": (("tuned", weights[0], tuned),), "base": (("base", weights[1], base),)}
    told = {"rank": 16, **said}
    specs = {p: tuple(Weighted(s, w, v.spec) for s, w, v in terms) for p, terms in sides.items()}
    foretold = infer("extract-lora", Inputs(specs), **told)
    values = {p: tuple(Weighted(*term) for term in terms) for p, terms in sides.items()}
    made = KIND.work(Inputs(values), options("extract-lora", **told), context or Context())
    made.check(foretold)
    assert foretold.bounded
    assert not made.spec.bounded
    return made


def merged(bench: Bench, path: Path, weight: float = 1.0) -> tuple[Any, Any]:
    """A LoRA in a checkpoint, not saved, and the checkpoint."""
    base = load(bench.checkpoint())
    inputs = given(merge_into_checkpoint=base, loras=[("lora", weight, load(path))])
    return work("merge-into-checkpoint", inputs), base


def saved(bench: Bench, value: Any, dtype: str = "keep") -> Any:
    """A checkpoint by way of a file."""
    path = bench.folder / f"saved-{dtype}.safetensors"
    save_file(written(value, dtype=dtype), path)
    return load(path)


def changed(bench: Bench, change: Change, dtype: str = "float32", **others: Tensor) -> tuple[Any, Any]:
    """Two checkpoints in files, the first after ``change``; both have the ``others`` too."""
    tensors = {
        **load_file(bench.checkpoint(dtype=dtype)),
        **{k.replace("__", "."): t for k, t in others.items()},
    }
    for name in ("base", "tuned"):
        save_file(tensors, bench.folder / f"{name}.safetensors")
        if name == "base":
            change(tensors)
    return load(bench.folder / "tuned.safetensors"), load(bench.folder / "base.safetensors")


def nudged(key: str, by: float = 0.5) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        noise = torch.randn(tensors[key].shape, generator=torch.Generator().manual_seed(3))
        tensors[key] = tensors[key] + (by * noise).to(tensors[key].dtype)

    return change


def ranks(value: Any) -> dict[str, int]:
    return {module.key: known.rank for module, known in value.spec.modules.items()}


def flat(tensor: Tensor) -> Matrix:
    found: Matrix = tensor.double().reshape(tensor.shape[0], -1).numpy()
    return found


def best(matrix: Matrix, rank: int) -> float:
    """The least error of a rank, relative to the matrix."""
    s = np.linalg.svd(matrix, compute_uv=False)
    return float(np.linalg.norm(s[rank:]) / np.linalg.norm(s))


def away(found: Matrix, exact: Matrix) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def refused(call: Callable[[], object], code: str) -> LorapipeError:
    with pytest.raises(LorapipeError) as caught:
        call()
    assert caught.value.code == code
    return caught.value


# --- what a plan knows ------------------------------------------------------------------


def sides(tuned: object = None, base: object = None) -> Inputs[Any]:
    return given(extract_lora=tuned or model(), base=base or model())


def test_its_result_is_kept_in_the_store_by_all_options_but_the_policy() -> None:
    assert (KIND.version, KIND.materialise, KIND.keyless) == (1, Materialise.STORED, {"unmatched"})


def test_a_plan_tells_the_most_that_ranks_can_be() -> None:
    spec = infer("extract-lora", sides(), rank=4, conv_rank=2, conv1x1_rank=3)
    assert spec.bounded
    assert (spec.family, spec.dtype) == ("sd1", "F32")
    assert {m: known.rank for m, known in spec.modules.items()} == {Q: 4, TEXT: 4, POINT: 3, CONV: 2}
    high = infer("extract-lora", sides(), rank=1000)
    assert {m: known.rank for m, known in high.modules.items()} == {Q: 20, TEXT: 16, POINT: 20, CONV: 20}


def test_modules_go_by_the_names_that_trainers_give_them() -> None:
    spec = infer("extract-lora", sides(), rank=4)
    assert {m: known.spelling.stem for m, known in spec.modules.items()} == {
        Q: TO_Q, POINT: PROJ_IN, CONV: CONV1, TEXT: TE,
    }  # fmt: skip


def test_what_a_hidden_lora_went_into_hides_what_is_extracted_from_it() -> None:
    hidden = CheckpointSpec("sd1", model().tensors, model().keys, hidden=True)
    assert infer("extract-lora", sides(hidden), rank=4).hidden
    assert not infer("extract-lora", sides(), rank=4).hidden


@pytest.mark.parametrize("wrong", [lora(), FILE])
def test_only_checkpoints_have_a_difference(wrong: object) -> None:
    for inputs, option in ((sides(tuned=wrong), "extract-lora"), (sides(base=wrong), "base")):
        with pytest.raises(RecipeError) as caught:
            infer("extract-lora", inputs, rank=4)
        assert (caught.value.code, caught.value.option) == ("wrong-type", option)


def test_families_must_agree() -> None:
    error = refused(
        lambda: infer("extract-lora", sides(base=model(family="sdxl")), rank=4), "family-mismatch"
    )
    assert "'in' is SD1.x, 'in' is SDXL" in str(error)
    error = refused(lambda: infer("extract-lora", sides(base=model(family=None)), rank=4), "family-unknown")
    assert error.hint == "say `family:` on the step that loads it"


def without(*modules: object) -> CheckpointSpec:
    whole = model()
    lost = {module.key for module in modules}  # type: ignore[attr-defined]
    tensors = {key: tensor for key, tensor in whole.tensors.items() if key not in lost}
    return CheckpointSpec("sd1", tensors, {key: (Place(key),) for key in tensors})


def test_a_weight_that_one_lacks_is_an_error_unless_the_recipe_says_otherwise() -> None:
    inputs = sides(base=without(Q, TEXT))
    error = refused(lambda: infer("extract-lora", inputs, rank=4), "unmatched-modules")
    assert str(error).startswith("error: 2 weights that not all checkpoints have")
    assert f"{Q.key}: not in 'in'" in error.details
    for policy in ("warn", "ignore"):
        assert set(infer("extract-lora", inputs, rank=4, unmatched=policy).modules) == {POINT, CONV}
    told = {
        p: KIND.warn(inputs, options("extract-lora", rank=4, unmatched=p), model())
        for p in ("warn", "ignore")
    }
    assert told["ignore"] == ()
    assert told["warn"][0].startswith("left out: 2 weights that not all checkpoints have\n  ")


def test_a_weight_of_another_shape_is_an_error_at_once() -> None:
    whole = model()
    tensors = {**whole.tensors, CONV.key: TensorSpec("F16", (20, 9, 3, 3))}
    inputs = sides(CheckpointSpec("sd1", tensors, whole.keys))
    error = refused(lambda: infer("extract-lora", inputs, rank=4), "shapes-disagree")
    assert error.details == (f"{CONV.key}: [20, 9, 3, 3] in 'in', [20, 12, 3, 3] in 'in'",)
    assert CONV not in infer("extract-lora", inputs, rank=4, unmatched="ignore").modules


def test_all_that_is_wrong_is_said_in_one_pass() -> None:
    whole = without(Q)
    tensors = {
        **whole.tensors,
        CONV.key: TensorSpec("F16", (20, 9, 3, 3)),
        TEXT.key: TensorSpec("I8", (24, 16)),
    }
    with pytest.raises(ManyErrors) as caught:
        infer("extract-lora", sides(CheckpointSpec("sd1", tensors, whole.keys)), rank=4)
    assert {error.code for error in caught.value.errors} == {
        "unmatched-modules",
        "shapes-disagree",
        "quantised",
    }


def test_other_tensors_that_one_lacks_are_told_before_a_build() -> None:
    whole = model()
    more = CheckpointSpec(
        "sd1", {**whole.tensors, VAE: TensorSpec("F32", (5,))}, {**whole.keys, VAE: (Place(VAE),)}
    )
    (told,) = KIND.warn(sides(more), options("extract-lora", rank=4), more)
    assert told == (
        f"not compared, since not all checkpoints have them in one shape: 1 that no LoRA holds, such as {VAE}"
    )


def test_a_format_that_cannot_be_read_is_refused_by_its_name() -> None:
    whole = model()
    frozen = CheckpointSpec("sd1", whole.tensors, whole.keys, frozen={Q.key: "GPTQ or AWQ"})
    error = refused(lambda: infer("extract-lora", sides(frozen), rank=4, unmatched="ignore"), "quantised")
    assert error.details == (f"{Q.key}: GPTQ or AWQ in 'in'",)


def test_a_component_of_another_model_is_refused_with_those_that_there_are() -> None:
    error = refused(lambda: infer("extract-lora", sides(), rank=4, components=["te2"]), "unknown-component")
    assert (error.option, error.hint) == ("components", "it has unet, te")


def test_a_rule_that_needs_all_values_cannot_have_the_largest_only() -> None:
    for rule in ("sv-cumulative", "quantile"):
        with pytest.raises(RecipeError) as caught:
            infer("extract-lora", sides(), rank=4, method="randomized", dynamic={rule: 0.5})
        assert (caught.value.code, caught.value.option) == ("rule-needs-all-values", "method")


def test_weights_of_zero_leave_nothing() -> None:
    ports = {"extract-lora": (Weighted("a", 0.0, model()),), "base": (Weighted("b", 0.0, model()),)}
    refused(lambda: infer("extract-lora", Inputs(ports), rank=4), "nothing-left")


def test_a_checkpoint_of_weight_zero_is_as_if_it_were_not_there(bench: Bench) -> None:
    """Whatever it is."""
    base, tuned = load(bench.checkpoint()), load(bench.checkpoint("a", seed=1))
    hidden = CheckpointSpec("sdxl", {VAE: TensorSpec("F32", (5,))}, {VAE: (Place(VAE),)}, hidden=True)
    terms = (Weighted("tuned", 1.0, tuned.spec), Weighted("other", 0.0, hidden))
    spec = infer(
        "extract-lora", Inputs({"extract-lora": terms, "base": (Weighted("b", 1.0, base.spec),)}), rank=4
    )
    assert len(spec.modules) == 4
    assert not spec.hidden
    made = extracted(tuned, base, weights=(1.0, 0.0), rank=64)
    exact = bench.weights["a"][KEYS[TO_Q]]
    assert away(deltas(made)[TO_Q], exact) < 1e-6


def test_checkpoints_with_nothing_in_common_are_refused() -> None:
    other = CheckpointSpec("sd1", {VAE: TensorSpec("F32", (5,))}, {VAE: (Place(VAE),)})
    refused(lambda: infer("extract-lora", sides(base=other), rank=4, unmatched="ignore"), "nothing-left")


def test_its_cost_is_both_checkpoints_weights_and_the_largest_module() -> None:
    inputs = sides()
    made = infer("extract-lora", inputs, rank=4)
    cost = KIND.cost(inputs, options("extract-lora", rank=4), made)
    weights = [model().tensors[module.key].nbytes for module in (Q, POINT, CONV, TEXT)]
    assert cost.read == 2 * sum(weights)
    assert (cost.written, cost.kept) == (8 * made.elements, 8 * made.elements)
    assert cost.each >= 8 * (20 * 108 + 4 * (20 + 108))


def test_the_fast_way_is_foretold_to_be_fast() -> None:
    whole = model()
    tensors = {Q.key: TensorSpec("F16", (1280, 1280)), CONV.key: TensorSpec("F16", (640, 320, 3, 3))}
    big = CheckpointSpec("sd1", tensors, {key: whole.keys[key] for key in tensors})
    inputs = sides(big, big)
    made = infer("extract-lora", inputs, rank=32)
    exact, fast = (
        KIND.cost(inputs, options("extract-lora", rank=32, method=method), made)
        for method in ("exact", "randomized")
    )
    assert 5 * fast.flops < exact.flops
    assert fast.each < exact.each


# --- what comes of it -------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, -0.3])
def test_of_a_lora_in_its_base_the_lora_comes_back_with_its_own_rank(bench: Bench, weight: float) -> None:
    tuned, base = merged(bench, bench.lora("a", rank=4), weight)
    found = extracted(tuned, base)
    assert set(ranks(found).values()) == {4}
    for stem, delta in deltas(found).items():
        assert away(delta, weight * bench.deltas["a"][stem]) < 1e-6


@pytest.mark.parametrize(("dtype", "bits"), [("fp32", 24), ("fp16", 11), ("bf16", 8)])
def test_of_a_saved_merge_the_rank_ends_where_the_files_rounding_begins(
    bench: Bench, dtype: str, bits: int
) -> None:
    tuned, base = merged(bench, bench.lora("a", rank=3, alpha=3.0))
    value = saved(bench, tuned, dtype)
    found = extracted(value, base)
    assert set(ranks(found).values()) == {3}
    for stem, delta in deltas(found).items():
        exact = bench.deltas["a"][stem]
        weight = np.abs(exact) + np.abs(bench.weights["base"][KEYS[stem]].reshape(exact.shape))
        assert away(delta, exact) < 2.0**-bits * np.linalg.norm(weight) / np.linalg.norm(exact) + 1e-7


def test_other_formats_become_loras_by_it(bench: Bench) -> None:
    tuned, base = merged(bench, bench.lycoris("a"), 0.7)
    found = deltas(extracted(tuned, base, rank=64, conv_rank=64))
    assert found.keys() == KEYS.keys()
    for stem, delta in found.items():
        assert away(delta, 0.7 * bench.deltas["a"][stem]) < 1e-6


def test_what_is_a_function_of_the_weight_becomes_a_lora_by_it(bench: Bench) -> None:
    rng = np.random.default_rng(5)
    up, down = (rng.standard_normal(shape).astype("float32") for shape in ((20, 2), (2, 20)))
    magnitude = np.abs(rng.standard_normal((20, 1))).astype("float32") + 1
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": magnitude}
    path = bench.folder / "dora.safetensors"
    held = {f"{TO_Q}.{role}": torch.from_numpy(a) for role, a in tensors.items()}
    save_file({**held, f"{TO_Q}.alpha": torch.tensor(2.0)}, path, SD1)
    tuned, base = merged(bench, path, 0.5)

    weight = bench.weights["base"][KEYS[TO_Q]]
    added = weight + up.astype(float) @ down.astype(float)
    whole = added * magnitude / np.linalg.norm(added, axis=1, keepdims=True)
    exact = 0.5 * (whole - weight)

    found = extracted(tuned, base, rank=5)
    assert {k: r for k, r in ranks(found).items() if r} == {KEYS[TO_Q]: 5}
    assert away(deltas(found)[TO_Q], exact) == pytest.approx(best(exact, 5), rel=1e-5)


def test_either_may_have_a_weight_and_there_may_be_several(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    other = load(bench.checkpoint("c", seed=3))
    terms = {"extract-lora": [("a", 0.5, a), ("c", 0.25, other)], "base": [("base", 2.0, base)]}
    inputs = Inputs({port: tuple(Weighted(*term) for term in held) for port, held in terms.items()})
    made = KIND.work(inputs, options("extract-lora", rank=64, conv_rank=64), Context())
    held = bench.weights
    for stem, delta in deltas(made).items():
        key, shape = KEYS[stem], delta.shape
        exact = (0.5 * held["a"][key] + 0.25 * held["c"][key] - 2.0 * held["base"][key]).reshape(shape)
        assert away(delta, exact) < 1e-6


def test_the_best_of_a_rank_is_what_dense_svd_gives_and_its_energy_is_told(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    told: dict[str, Any] = {}
    found = extracted(a, base, Context(note=told.__setitem__), rank=6, conv_rank=3)
    for stem, delta in deltas(found).items():
        exact = (bench.weights["a"][KEYS[stem]] - bench.weights["base"][KEYS[stem]]).reshape(delta.shape)
        least = best(exact, 3 if stem == CONV1 else 6)
        assert away(delta, exact) == pytest.approx(least, rel=1e-6)
        assert told["energy"][KEYS[stem]] == pytest.approx(1 - least**2, rel=1e-9)
    assert set(told["ranks"].values()) == {3, 6}
    assert "error" not in told


def test_the_fast_way_comes_close_and_tells_what_it_misses(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    told: dict[str, Any] = {}
    fast = extracted(a, base, Context(note=told.__setitem__), rank=6, method="randomized")
    for stem, delta in deltas(fast).items():
        exact = (bench.weights["a"][KEYS[stem]] - bench.weights["base"][KEYS[stem]]).reshape(delta.shape)
        assert away(delta, exact) < 1.01 * best(exact, 6)
        assert told["error"][KEYS[stem]] == pytest.approx(away(delta, exact), rel=1e-5)
        assert told["energy"][KEYS[stem]] == pytest.approx(1 - away(delta, exact) ** 2, rel=1e-5)
    again = extracted(a, base, rank=6, method="randomized")
    assert all(torch.equal(t, written(again)[name]) for name, t in written(fast).items())


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ({"threshold": 5.0}, lambda s: sum(s > 5.0)),
        ({"sv-ratio": 1.6}, lambda s: sum(s > s[0] / 1.6)),
        ({"quantile": 0.5}, lambda s: sum(np.cumsum(s) < 0.5 * sum(s))),
        ({"sv-cumulative": 0.5}, lambda s: 1 + sum(np.cumsum(s) < 0.5 * sum(s))),
        ({"sv-fro": 0.8}, lambda s: 1 + sum(np.cumsum(s * s) < 0.64 * sum(s * s))),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["exact", "randomized"])
def test_a_rule_gives_the_rank_that_the_dense_values_give(
    bench: Bench, rule: dict[str, float], count: Callable[[Matrix], int], method: str
) -> None:
    if method == "randomized" and {"quantile", "sv-cumulative"} & rule.keys():
        return
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    found = ranks(extracted(a, base, rank=12, dynamic=rule, method=method))
    for stem, key in KEYS.items():
        exact = (bench.weights["a"][key] - bench.weights["base"][key]).reshape(SHAPES[stem][0], -1)
        assert found[key] == min(12, max(1, count(np.linalg.svd(exact, compute_uv=False)))), stem
    assert len(set(found.values())) > 1


# --- what is left out -------------------------------------------------------------------


def test_a_module_that_does_not_differ_is_not_in_the_file(bench: Bench) -> None:
    told: dict[str, Any] = {}
    tuned, base = changed(bench, nudged(KEYS[TO_Q]))
    found = extracted(tuned, base, Context(note=told.__setitem__))
    assert {key: rank > 0 for key, rank in ranks(found).items()} == {k: s == TO_Q for s, k in KEYS.items()}
    assert set(deltas(found)) == {TO_Q}
    assert told["left out"] == {"modules that do not differ": 3}
    assert list(told["energy"]) == list(told["ranks"]) == [KEYS[TO_Q]]


def test_a_difference_below_the_least_is_left_out_and_counted(bench: Bench) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[KEYS[TE]][0, 0] += 0.25
        tensors[KEYS[TO_Q]][3, 4] += 0.5

    told: dict[str, Any] = {}
    tuned, base = changed(bench, change)
    found = extracted(tuned, base, Context(note=told.__setitem__), min_diff=0.3)
    assert set(deltas(found)) == {TO_Q}
    assert told["left out"] == {
        "modules that do not differ": 2, "modules that differ by less than 'min-diff'": 1,
    }  # fmt: skip
    assert set(deltas(extracted(tuned, base, min_diff=0.1))) == {TO_Q, TE}


def test_what_differs_by_rounding_only_is_left_out(bench: Bench) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[KEYS[TE]] = tensors[KEYS[TE]].half().float()
        nudged(KEYS[TO_Q])(tensors)

    tuned, base = changed(bench, change)
    told: dict[str, Any] = {}
    half = saved(bench, tuned, "fp16")
    found = extracted(half, base, Context(note=told.__setitem__))
    assert set(deltas(found)) == {TO_Q}
    assert told["left out"] == {"modules that differ by rounding only": 3}


def test_components_are_looked_at_alone(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    told: dict[str, Any] = {}
    assert set(deltas(extracted(a, base, components=["te"]))) == {TE}
    found = extracted(a, base, Context(note=told.__setitem__), components=["unet"])
    assert set(deltas(found)) == {TO_Q, PROJ_IN, CONV1}
    # The encoder's weights differ, too, but that is what was asked for.
    assert not [key for key in told["ranks"] if "cond_stage" in key]
    assert sum(told["differs too, and is not in the LoRA"].values()) == 2  # the bias, and the VAE's


def test_nothing_but_what_a_lora_cannot_hold_is_an_error_that_says_so(bench: Bench) -> None:
    tuned, base = changed(bench, nudged(VAE))
    with pytest.raises(BuildError) as caught:
        extracted(tuned, base)
    assert caught.value.code == "nothing-left"
    assert caught.value.hint == f"what differs is none of its modules: 1 in all, such as {VAE}"
    tuned, base = changed(bench, lambda tensors: None)
    refused(lambda: extracted(tuned, base), "nothing-left")


def test_what_no_lora_holds_is_counted_if_it_differs(bench: Bench) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in (KEYS[TO_Q], BIAS, VAE, "other.thing"):
            nudged(key)(tensors)

    told: dict[str, Any] = {}
    tuned, base = changed(bench, change, other__thing=torch.ones(3, 4), same__thing=torch.ones(2))
    extracted(tuned, base, Context(note=told.__setitem__))
    assert told["differs too, and is not in the LoRA"] == {
        "tensors of one axis ('bias: diff' keeps biases and norms)": 2,
        "others, such as other.thing": 1,
    }


def test_biases_and_norms_that_differ_are_kept_where_that_is_asked_for(bench: Bench) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in (KEYS[TO_Q], BIAS, f"{NORM}.weight"):
            nudged(key)(tensors)

    norm = {f"{NORM}.{part}".replace(".", "__"): torch.ones(20) for part in ("weight", "bias")}
    told: dict[str, Any] = {}
    tuned, base = changed(bench, change, **norm)
    found = written(extracted(tuned, base, Context(note=told.__setitem__), bias="diff"))
    stem = PROJ_IN.replace("proj_in", "norm")
    assert {name for name in found if not name.startswith(TO_Q)} == {f"{PROJ_IN}.diff_b", f"{stem}.w_norm"}
    old, new = (load_file(bench.folder / f"{name}.safetensors") for name in ("base", "tuned"))
    for name, key in ((f"{PROJ_IN}.diff_b", BIAS), (f"{stem}.w_norm", f"{NORM}.weight")):
        np.testing.assert_array_equal(
            found[name].numpy(), (new[key].double() - old[key].double()).float().numpy()
        )
    assert "differs too, and is not in the LoRA" not in told

    # And the file is read and merged as what it is.
    path = bench.folder / "x.safetensors"
    save_file(found, path, SD1)
    again = work("merge-into-checkpoint", given(merge_into_checkpoint=base, loras=[("x", 1.0, load(path))]))
    bias = written(again)[BIAS]
    np.testing.assert_allclose(bias.numpy(), new[BIAS].numpy(), atol=1e-6)


# --- full differences -------------------------------------------------------------------


def test_a_module_is_kept_whole_where_factors_would_be_no_smaller(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    made = extracted(a, base, rank=12, conv_rank=8, full=True)
    found = written(made)
    # 12 (20 + 20) > 20 * 20; 12 (24 + 16) > 24 * 16; but 8 (20 + 108) < 20 * 108.
    assert {name for name in found if name.endswith(".diff")} == {f"{s}.diff" for s in (TO_Q, PROJ_IN, TE)}
    for stem in (TO_Q, PROJ_IN, TE):
        key = KEYS[stem]
        exact = (bench.weights["a"][key] - bench.weights["base"][key]).astype("float32")
        np.testing.assert_array_equal(found[f"{stem}.diff"].numpy(), exact)
        assert f"{stem}.lora_up.weight" not in found
    assert found[f"{CONV1}.lora_down.weight"].shape == (8, 12, 3, 3)


def test_only_the_data_tell_what_is_kept_whole(bench: Bench) -> None:
    tuned, base = merged(bench, bench.lora("a", rank=4))
    made = extracted(tuned, base, rank=64, full=True)
    assert set(ranks(made).values()) == {4}
    assert not [name for name in written(made) if name.endswith(".diff")]
    foretold = infer("extract-lora", given(extract_lora=tuned.spec, base=base.spec), rank=64, full=True)
    forms = {known.form.name for known in foretold.modules.values() if known.form}
    assert forms == {"LoRA or full difference"}


def test_without_it_a_module_is_a_lora_of_its_whole_rank(bench: Bench) -> None:
    a, base = load(bench.checkpoint("a", seed=1)), load(bench.checkpoint("base", seed=2))
    assert ranks(extracted(a, base, rank=64))[KEYS[TO_Q]] == 20


# --- what is wrong with the data --------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_an_error_with_the_module_and_the_checkpoint(
    bench: Bench, value: float
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[KEYS[CONV1]][1, 2, 0, 1] = value

    tuned, base = changed(bench, change)
    with pytest.raises(BuildError) as caught:
        extracted(tuned, base)
    assert str(caught.value) == (
        f"error: {KEYS[CONV1]}: the weight of 'tuned' holds NaN or Inf - the checkpoint is damaged"
    )


def test_a_number_that_is_none_elsewhere_is_nobodys_difference(bench: Bench) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[VAE][2] = float("nan")
        nudged(KEYS[TO_Q])(tensors)

    told: dict[str, Any] = {}
    tuned, base = changed(bench, change)
    extracted(tuned, base, Context(note=told.__setitem__))
    assert "differs too, and is not in the LoRA" not in told


def test_scaled_fp8_is_multiplied_out_and_its_steps_are_rounding(bench: Bench) -> None:
    base = load_file(bench.checkpoint(dtype="float32"))
    rng = np.random.default_rng(0)
    delta = torch.from_numpy(2.0 * rng.standard_normal((20, 2)) @ rng.standard_normal((2, 20)))
    scale = torch.tensor(0.05)
    stored = ((base[KEYS[TO_Q]].double() + delta) / float(scale)).to(torch.float8_e4m3fn)
    tuned = {**base, KEYS[TO_Q]: stored, KEYS[TO_Q].replace(".weight", ".scale_weight"): scale}
    save_file(tuned, bench.folder / "fp8.safetensors")
    found = extracted(load(bench.folder / "fp8.safetensors"), load(bench.folder / "base.safetensors"))
    assert ranks(found)[KEYS[TO_Q]] == 2
    assert away(deltas(found)[TO_Q], delta.numpy()) < 2.0**-4
