"""The tensors of a saved file, foretold from specs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.filing.saving import saved_tensors
from lorapipe.weights.inference.output import saved_checkpoint_specs, saved_specs
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling, TensorSpec
from tests.weights.samples import LINEAR, SHAPES, Memory, adapter, adapter_of, checkpoint_spec, delta


def spec(shape: tuple[int, ...], *, transposed: bool = False) -> AdapterSpec:
    return AdapterSpec("sd1", {LINEAR: ModuleSpec(shape, 4, Spelling("m", transposed))}, "F16")


@pytest.mark.parametrize(
    ("shape", "up", "down"),
    [
        ((12, 10), (12, 4), (4, 10)),
        ((12, 10, 1, 1), (12, 4, 1, 1), (4, 10, 1, 1)),
        ((12, 10, 3, 5), (12, 4, 1, 1), (4, 10, 3, 5)),
    ],
)
def test_factors_have_the_shapes_of_the_field(
    shape: tuple[int, ...], up: tuple[int, ...], down: tuple[int, ...]
) -> None:
    assert saved_specs(spec(shape)) == {
        "m.alpha": TensorSpec("F32", ()),
        "m.lora_down.weight": TensorSpec("F16", down),
        "m.lora_up.weight": TensorSpec("F16", up),
    }


def test_a_transposed_spelling_swaps_the_sides() -> None:
    saved = saved_specs(spec((12, 10), transposed=True))
    assert saved["m.lora_up.weight"].shape == (10, 4)
    assert saved["m.lora_down.weight"].shape == (4, 12)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_alpha_is_float32_whatever_the_dtype(dtype: str) -> None:
    saved = saved_specs(spec((12, 10)), dtype)
    assert saved["m.alpha"].dtype == "F32"
    assert saved["m.lora_up.weight"].dtype == dtype


@pytest.mark.parametrize("dtype", [None, "F32", "BF16"])
def test_what_is_written_is_what_was_foretold(dtype: str | None) -> None:
    modules = {module: delta(shape, (1.0, 2), (0.5, 3)) for module, shape in SHAPES.items()}
    value = adapter_of(
        modules,
        dtype="F16",
        extras={"e": torch.zeros(3, dtype=torch.float16)},
        transposed=frozenset({LINEAR}),
    )
    written = {t.name: t for t in saved_tensors(value, dtype)}
    assert {name: t.spec for name, t in written.items()} == saved_specs(value.spec, dtype)
    source = Memory({name: t.make().tensor for name, t in written.items()})
    assert source.tensors == saved_specs(value.spec, dtype)


def test_keep_keeps_an_extras_own_dtype_and_a_named_dtype_casts_it() -> None:
    value = adapter(dtype=torch.float16, extras={"e": torch.zeros(3)}).spec
    assert saved_specs(value)["e"].dtype == "F32"
    assert saved_specs(value, "BF16")["e"].dtype == "BF16"


def test_rows_without_a_name_cannot_be_saved() -> None:
    rows = ModuleId("te2", "in_proj_weight", (4, 12))
    nameless = AdapterSpec("sdxl", {rows: ModuleSpec((8, 6), 4, Spelling(""))}, "F16")
    with pytest.raises(RecipeError) as caught:
        saved_specs(nameless)
    assert str(caught.value) == (
        "error: in_proj_weight[4:12]: no LoRA has a name for exactly these rows of a fused weight"
        " - join LoRAs that split the weight alike, or merge into a checkpoint"
    )


def test_two_modules_of_one_name_clash() -> None:
    one = spec((12, 10))
    other = ModuleId("unet", "other.weight")
    with pytest.raises(RecipeError, match=r"two tensors would be saved as 'm\.alpha'"):
        saved_specs(replace(one, modules={**one.modules, other: one.modules[LINEAR]}))


def test_a_checkpoint_keeps_order_and_integers() -> None:
    tensors = {"b": torch.zeros(2, dtype=torch.float16), "a": torch.zeros(2, dtype=torch.int64)}
    spec_ = checkpoint_spec(Memory(tensors))
    assert list(saved_checkpoint_specs(spec_).items()) == list(spec_.tensors.items())
    assert [t.dtype for t in saved_checkpoint_specs(spec_, "F32").values()] == ["F32", "I64"]
