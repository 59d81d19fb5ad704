"""Each module finds its weight in a checkpoint, or a reason is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.binding import Bound, bind, report
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    ModuleId,
    ModuleSpec,
    Place,
    Spelling,
    TensorSpec,
)

TITLES = {"sd1": "SD 1.x", "sdxl": "SDXL"}


def lora(*modules: tuple[ModuleId, tuple[int, ...]], family: str | None = "sd1") -> AdapterSpec:
    return AdapterSpec(family, {m: ModuleSpec(s, 4, Spelling(str(m))) for m, s in modules}, "F16")


def model(
    tensors: dict[str, tuple[int, ...]], dtype: str = "F16", family: str | None = "sd1", prefix: str = ""
) -> CheckpointSpec:
    specs = {prefix + key: TensorSpec(dtype, shape) for key, shape in tensors.items()}
    return CheckpointSpec(family, specs, {key: (Place(prefix + key),) for key in tensors})


Q = ModuleId("unet", "attn.to_q.weight")


@pytest.mark.parametrize(
    ("delta", "weight"),
    [
        ((8, 6), (8, 6)),
        ((8, 6, 1, 1), (8, 6, 1, 1)),
        ((8, 6), (8, 6, 1, 1)),
        ((8, 6, 1, 1), (8, 6)),
        ((8, 6, 3, 3), (8, 6, 3, 3)),
    ],
)
def test_a_delta_fits_its_weight_and_2d_fits_1x1_both_ways(
    delta: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    binding = bind(lora((Q, delta)), model({Q.key: weight}))
    assert (binding.bound, binding.problems) == ((Bound(Q, Q.key),), ())


def test_the_files_own_key_is_bound() -> None:
    binding = bind(lora((Q, (8, 6))), model({Q.key: (8, 6)}, prefix="model.diffusion_model."))
    assert binding.bound[0].key == "model.diffusion_model.attn.to_q.weight"


def test_rows_of_a_fused_weight_are_bound() -> None:
    k = ModuleId("te2", "in_proj_weight", (4, 8))
    assert bind(lora((k, (4, 6))), model({k.key: (12, 6)})).bound == (Bound(k, k.key, (4, 8)),)


@pytest.mark.parametrize(
    ("module", "delta", "weight", "reason"),
    [
        (Q, (8, 6), (8, 7), "a delta [8, 6] does not fit the checkpoint's weight [8, 7]"),
        (
            Q,
            (8, 6),
            (6, 8),
            "a delta [8, 6] does not fit the checkpoint's weight [6, 8] (as many values, another shape)",
        ),
        (Q, (8, 6, 3, 3), (8, 6), "a delta [8, 6, 3, 3] does not fit the checkpoint's weight [8, 6]"),
        (ModuleId("te2", "w", (8, 12)), (4, 6), (10, 6), "the checkpoint's weight [10, 6] has no rows 8:12"),
        (
            ModuleId("te2", "w", (0, 4)),
            (5, 6),
            (10, 6),
            "a delta [5, 6] does not fit the checkpoint's rows [4, 6]",
        ),
        (ModuleId("te2", "w", (0, 4)), (4, 6), (), "the checkpoint's weight [] has no rows 0:4"),
    ],
)
def test_a_shape_that_does_not_fit_is_a_problem(
    module: ModuleId, delta: tuple[int, ...], weight: tuple[int, ...], reason: str
) -> None:
    (problem,) = bind(lora((module, delta)), model({module.key: weight})).problems
    assert (problem.module, problem.reason) == (module, reason)


def test_an_integer_weight_takes_no_delta() -> None:
    (problem,) = bind(lora((Q, (8, 6))), model({Q.key: (8, 6)}, dtype="I64")).problems
    assert problem.reason == "the checkpoint's weight is I64, not a floating type"


def test_a_missing_key_comes_with_the_nearest() -> None:
    (problem,) = bind(lora((Q, (8, 6))), model({"attn.to_k.weight": (8, 6), "vae.x": (1,)})).problems
    assert problem.reason == "the checkpoint has no such weight"
    assert problem.nearest == ("attn.to_k.weight",)


def test_two_families_are_named_for_people() -> None:
    with pytest.raises(RecipeError) as caught:
        bind(lora((Q, (8, 6))), model({Q.key: (8, 6)}, family="sdxl"), TITLES)
    assert (caught.value.code, caught.value.exit_status) == ("family-mismatch", 3)
    assert str(caught.value) == (
        "error: this LoRA is for SD 1.x, the checkpoint is SDXL"
        " - a LoRA fits only the model family that it was trained on"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (None, "sdxl", "the checkpoint is for SDXL, the family of the LoRA is not known"),
        ("sd1", None, "the LoRA is for SD 1.x, the family of the checkpoint is not known"),
    ],
)
def test_an_unknown_family_is_asked_for(ours: str | None, theirs: str | None, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        bind(lora((Q, (8, 6)), family=ours), model({Q.key: (8, 6)}, family=theirs), TITLES)
    assert (caught.value.code, caught.value.message) == ("family-unknown", message)
    assert "`family: " in str(caught.value.hint)


def test_two_unknown_families_bind_by_name() -> None:
    assert bind(lora((Q, (8, 6)), family=None), model({Q.key: (8, 6)}, family=None)).bound


def test_the_report_counts_and_names_the_first() -> None:
    modules = [(ModuleId("unet", f"block.{i}.weight"), (8, 6)) for i in range(5)]
    binding = bind(lora(*modules), model({"block.0.weight": (8, 6)}))
    assert report(binding, "char") == (
        "4 of 5 modules of 'char' have no place in the checkpoint\n"
        "  block.1.weight: the checkpoint has no such weight (nearest: block.0.weight)\n"
        "  block.2.weight: the checkpoint has no such weight (nearest: block.0.weight)\n"
        "  block.3.weight: the checkpoint has no such weight (nearest: block.0.weight)\n"
        "  and 1 more"
    )


def test_the_report_says_when_nothing_fits() -> None:
    binding = bind(lora((Q, (8, 6))), model({"x": (8, 6)}))
    assert report(binding) == (
        "1 of 1 modules has no place in the checkpoint\n"
        "  attn.to_q.weight: the checkpoint has no such weight\n"
        "  nothing fits: is this the model that the LoRA was trained on?"
    )


def test_the_report_of_a_quantised_checkpoint_asks_for_the_plain_one() -> None:
    plain = model({})
    frozen = CheckpointSpec(plain.family, plain.tensors, plain.keys, frozen={Q.key: "GPTQ or AWQ"})
    assert report(bind(lora((Q, (8, 6))), frozen)) == (
        "1 of 1 modules has no place in the checkpoint\n"
        "  attn.to_q.weight: the weight is quantised as GPTQ or AWQ, into which nothing can be merged\n"
        "  merge into the model as it was before it was quantised (fp16, bf16 or fp8)"
    )


def test_a_quantised_checkpoint_that_renames_its_weights_is_named() -> None:
    plain = model({})
    frozen = CheckpointSpec(
        plain.family, plain.tensors, plain.keys, frozen={"attn.qkv_proj": "SVDQuant (Nunchaku)"}
    )
    _, *details = report(bind(lora((Q, (8, 6))), frozen)).splitlines()
    assert details == [
        "  attn.to_q.weight: the checkpoint has no such weight, it is quantised as SVDQuant (Nunchaku)",
        "  merge into the model as it was before it was quantised (fp16, bf16 or fp8)",
    ]


# ---- unknown families --------------------------------------------------------------------------------

WRAPPED = model({"net.blocks.0.q.weight": (8, 6), "net.blocks.0.q.bias": (8,)}, family=None)


@pytest.mark.parametrize(
    "name", ["lora_unet_blocks_0_q", "blocks.0.q.weight", "transformer.blocks.0.q.weight"]
)
def test_names_of_an_unknown_family_are_read_as_paths_of_the_checkpoint(name: str) -> None:
    module = ModuleId("", name)
    binding = bind(lora((module, (8, 6)), family=None), WRAPPED)
    assert binding.bound == (Bound(module, "net.blocks.0.q.weight"),)


def test_a_bias_of_an_unknown_family_finds_the_bias() -> None:
    module = ModuleId("", "lora_unet_blocks_0_q.bias")
    assert bind(lora((module, (8,)), family=None), WRAPPED).bound == (Bound(module, "net.blocks.0.q.bias"),)


def test_a_name_that_could_mean_two_weights_has_no_place() -> None:
    two = model({"a.b_c.weight": (8, 6), "a_b.c.weight": (8, 6)}, family=None)
    (problem,) = bind(lora((ModuleId("", "lora_unet_a_b_c"), (8, 6)), family=None), two).problems
    assert problem.reason == "its name could mean a.b_c.weight and a_b.c.weight"


def test_two_names_of_one_weight_are_not_both_bound() -> None:
    one, two = ModuleId("", "lora_unet_blocks_0_q"), ModuleId("", "blocks.0.q.weight")
    binding = bind(lora((one, (8, 6)), (two, (8, 6)), family=None), WRAPPED)
    assert [bound.module for bound in binding.bound] == [one]
    (problem,) = binding.problems
    assert problem.reason == "its name means net.blocks.0.q.weight, as that of lora_unet_blocks_0_q does"


def test_names_of_a_known_family_are_never_read_another_way() -> None:
    module = ModuleId("unet", "blocks.0.q.weight")
    binding = bind(lora((module, (8, 6))), model({"net.blocks.0.q.weight": (8, 6)}))
    assert binding.bound == ()


def test_a_lora_that_fits_a_family_and_its_variant_binds_to_either_and_to_no_third() -> None:
    open_one = replace(lora((Q, (8, 6)), family="flux1"), also=("chroma",))
    for family in ("flux1", "chroma"):
        assert bind(open_one, model({Q.key: (8, 6)}, family=family)).bound == (Bound(Q, Q.key),)
    with pytest.raises(RecipeError) as caught:
        bind(open_one, model({Q.key: (8, 6)}, family="sd1"))
    assert caught.value.code == "family-mismatch"


def test_names_of_no_family_are_counted_and_their_nearest_are_named() -> None:
    strange = [(ModuleId("", f"attn.to_q{n}.weight"), (8, 6)) for n in range(5)]
    with pytest.raises(RecipeError) as caught:
        bind(lora(*strange, family=None), model({Q.key: (8, 6)}))
    assert caught.value.details == (
        "5 modules have names that no known family has",
        *(f"attn.to_q{n}.weight (nearest: attn.to_q.weight)" for n in range(3)),
        "and 2 more",
    )
