"""The specs that steps foretell, and that they are those of the values they make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat, scale
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.inference import binding
from lorapipe.weights.inference.binding import Binding, Bound
from lorapipe.weights.inference.ranks import Rank, Ranks
from lorapipe.weights.inference.steps import (
    Factors,
    concat_spec,
    filter_spec,
    merge_spec,
    module_factors,
    resize_spec,
    scale_spec,
    shuffle_spec,
)
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from tests.weights.samples import CONV, LINEAR, POINT, TEXT, Memory, adapter, checkpoint_spec

SDXL = {ModuleId(c, f"{c}.weight"): (4, 4) for c in ("unet", "te1", "te2")}


def test_one_factor_is_every_modules_and_those_at_zero_are_left_out() -> None:
    spec = adapter(shapes=SDXL).spec
    unet, te1, te2 = spec.modules
    assert module_factors(spec, -2.0) == dict.fromkeys(spec.modules, -2.0)
    assert module_factors(spec, {unet: 0.5, te1: 0.0, te2: 3.0}) == {unet: 0.5, te2: 3.0}
    assert list(scale_spec(spec, {unet: 0.5, te1: 0.0, te2: 3.0}).modules) == [unet, te2]


@pytest.mark.parametrize("factors", [0.0, dict.fromkeys(SDXL, 0.0)])
def test_scaling_everything_to_zero_leaves_nothing(factors: Factors) -> None:
    with pytest.raises(RecipeError) as caught:
        scale_spec(adapter(shapes=SDXL).spec, factors)
    assert str(caught.value) == "error: every module is scaled to 0: nothing is left"


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_scaling_by_no_number_is_an_error(value: float) -> None:
    with pytest.raises(RecipeError, match="cannot be scaled by"):
        scale_spec(adapter().spec, value)
    with pytest.raises(RecipeError, match="cannot be scaled by"):
        scale_spec(adapter(shapes=SDXL).spec, {**dict.fromkeys(SDXL, 1.0), next(iter(SDXL)): value})


def test_a_filter_keeps_modules_in_their_order_and_one_at_least() -> None:
    spec = adapter(shapes=SDXL).spec
    unet, te1, te2 = spec.modules
    assert list(filter_spec(spec, {te2, unet}).modules) == [unet, te2]
    assert filter_spec(spec, {te1, te2, unet}) is spec
    with pytest.raises(RecipeError) as caught:
        filter_spec(spec, set())
    assert str(caught.value) == "error: no module is kept: nothing is left - keep more, or drop less"


@pytest.mark.parametrize(
    ("shape", "rank", "target"),
    [
        ((12, 10), 4, 4),
        ((12, 10), 99, 10),
        ((12, 10, 1, 1), 4, 3),
        ((12, 10, 3, 3), 4, 2),
        ((2, 10, 3, 3), 9, 2),
    ],
)
def test_targets_go_by_kernel_and_are_capped(shape: tuple[int, ...], rank: int, target: int) -> None:
    module = ModuleSpec(shape, 64, Spelling("x"))
    assert Ranks(rank, conv=2, conv1x1=3).target(module) == target


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 1, 1), (12, 10, 3, 3)])
def test_rank_serves_every_kernel_by_default(shape: tuple[int, ...]) -> None:
    assert Ranks(5).target(ModuleSpec(shape, 64, Spelling("x"))) == 5


def test_modules_may_have_ranks_of_their_own() -> None:
    spec = adapter(rank=9).spec
    own = {module: 1 + number for number, module in enumerate(spec.modules)}
    found = [known.rank for known in resize_spec(spec, Ranks(own, conv=2)).modules.values()]
    assert found == [2 if module == CONV else own[module] for module in spec.modules]


@pytest.mark.parametrize("ranks", [(0,), (4, 0), (4, 4, -1), ({CONV: 0},), (4, {CONV: 3, LINEAR: 0})])
def test_ranks_begin_at_one(ranks: tuple[Rank, ...]) -> None:
    with pytest.raises(RecipeError, match="whole number from 1"):
        Ranks(*ranks)


def test_resize_never_raises_a_rank() -> None:
    spec = adapter(rank=4).spec
    assert resize_spec(spec, Ranks(6)) == spec


def test_rotation_caps_ranks_and_permutation_does_not() -> None:
    spec = adapter(rank=20).spec
    assert [m.rank for m in shuffle_spec(spec).modules.values()] == [10, 9, 6, 7]
    assert [m.rank for m in shuffle_spec(spec, "permute").modules.values()] == [20] * 4


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_shuffle_hides_the_sources(mode: str) -> None:
    spec = adapter(metadata={"ss_v2": "True", "x": "y"}, extras={"e": torch.zeros(1)}).spec
    shuffled = shuffle_spec(spec, mode)
    assert (shuffled.hidden, shuffled.metadata, shuffled.extras) == (True, {"ss_v2": "True"}, {})


def halves(value: Adapter) -> dict[ModuleId, float]:
    """Nothing of the text encoder, half of the rest."""
    return {module: 0.0 if module.component == "te" else 0.5 for module in value.spec.modules}


def made(name: str, a: Adapter, b: Adapter) -> tuple[Adapter, AdapterSpec]:
    terms = [("a", 0.5, a), ("b", -1.0, b)]
    specs = [(n, w, v.spec) for n, w, v in terms]
    return {
        "scale": lambda: (scale(a, halves(a)), scale_spec(a.spec, halves(a))),
        "concat": lambda: (concat(terms), concat_spec(specs)),
        "shuffle": lambda: (shuffle(a, 7), shuffle_spec(a.spec)),
        "permute": lambda: (shuffle(a, 7, "permute"), shuffle_spec(a.spec, "permute")),
        "resize": lambda: (resize(a, Ranks(3, 2)).adapter, resize_spec(a.spec, Ranks(3, 2))),
    }[name]()


@pytest.mark.parametrize("name", ["scale", "concat", "shuffle", "permute", "resize"])
def test_what_is_made_has_the_spec_that_was_foretold(name: str) -> None:
    a = adapter(rank=8, extras={"e": torch.zeros(2)})
    b = adapter(rank=12, seed=5, dtype=torch.float16, shapes={LINEAR: (12, 10), TEXT: (7, 11)})
    value, foretold = made(name, a, b)
    value.check(foretold)


def test_a_merge_touches_the_bound_keys_of_terms_with_a_weight() -> None:
    base = checkpoint_spec(Memory({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}))
    spec = adapter().spec
    merged = merge_spec(
        base,
        [
            (1.0, spec, Binding((Bound(LINEAR, "a"),))),
            (0.0, shuffle_spec(spec), Binding((Bound(LINEAR, "b"),))),
        ],
    )
    assert (merged.touched, merged.hidden) == ({"a"}, False)


def test_merging_a_shuffled_lora_hides() -> None:
    base = checkpoint_spec(Memory({"a": torch.zeros(2, 2)}))
    assert merge_spec(base, [(1.0, shuffle_spec(adapter().spec), Binding((Bound(LINEAR, "a"),)))]).hidden


@pytest.mark.parametrize(("weight", "bound"), [(0.0, (Bound(LINEAR, "a"),)), (1.0, ())])
def test_a_merge_that_adds_nothing_is_an_error(weight: float, bound: tuple[Bound, ...]) -> None:
    base = checkpoint_spec(Memory({"a": torch.zeros(2, 2)}))
    with pytest.raises(RecipeError) as caught:
        merge_spec(base, [(weight, adapter().spec, Binding(bound))])
    assert (caught.value.code, caught.value.option) == ("nothing-left", "loras")


def test_a_merge_weight_is_a_finite_number() -> None:
    base = checkpoint_spec(Memory({"a": torch.zeros(2, 2)}))
    with pytest.raises(RecipeError, match="cannot have the weight inf"):
        merge_spec(base, [(float("inf"), adapter().spec, Binding(()))])


def test_inference_needs_no_torch() -> None:
    inference = Path(binding.__file__).parent
    modules = [
        "specs",
        "sources",
        "each",
        *(f"inference.{path.stem}" for path in inference.glob("[a-z]*.py")),
    ]
    imports = "; ".join(f"import lorapipe.weights.{module}" for module in modules)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_sample_modules_cover_every_kernel() -> None:
    assert {len(adapter().spec.modules[m].shape) for m in (LINEAR, CONV, POINT, TEXT)} == {2, 4}


def formed(name: str, shape: tuple[int, ...], rank: int, *, additive: bool = True) -> ModuleSpec:
    return ModuleSpec(shape, rank, Spelling("x"), Form(name, additive=additive))


def test_resize_and_shuffle_make_plain_factors_of_every_format() -> None:
    loha, bias = formed("LoHa", (12, 10), 9), formed("full difference", (12,), 1)
    spec = AdapterSpec("sd1", {LINEAR: loha, TEXT: bias}, "F16")
    assert dict(resize_spec(spec, Ranks(4)).modules) == {
        LINEAR: ModuleSpec((12, 10), 4, Spelling("x")),
        TEXT: bias,
    }
    assert resize_spec(spec, Ranks(99)).modules[LINEAR] == ModuleSpec((12, 10), 9, Spelling("x"))
    for mode in ("rotate", "permute"):
        assert dict(shuffle_spec(spec, mode).modules) == {
            LINEAR: ModuleSpec((12, 10), 9, Spelling("x")),
            TEXT: bias,
        }


@pytest.mark.parametrize(
    "infer", [lambda s: resize_spec(s, Ranks(4)), shuffle_spec, lambda s: shuffle_spec(s, "permute")]
)
def test_factoring_what_is_no_delta_is_refused(infer: Callable[[AdapterSpec], AdapterSpec]) -> None:
    spec = AdapterSpec("sd1", {LINEAR: formed("DoRA", (12, 10), 0, additive=False)}, "F16")
    with pytest.raises(RecipeError, match="1 module of this one is DoRA") as caught:
        infer(spec)
    assert caught.value.code == "not-additive"


def test_scaling_changes_no_format() -> None:
    spec = AdapterSpec("sd1", {LINEAR: formed("DoRA", (12, 10), 0, additive=False)}, "F16")
    assert scale_spec(spec, 0.5) is spec
