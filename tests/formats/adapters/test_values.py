"""A file's numbers: scales from alphas and configs, parts, transposes, operators, and what is no number."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.adapters.read import read_adapter, read_adapter_spec
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.structures.delta import Delta

from ..sources import MemorySource, seeded

STEM = "transformer.blocks.7.proj"
PATH = "blocks.7.proj"


def pair(stem: str = STEM, out: int = 6, into: int = 5, rank: int = 2) -> dict[str, Tensor]:
    made = {"B": seeded(out, rank, seed=1), "A": seeded(rank, into, seed=2)}
    return {f"{stem}.lora_{letter}.weight": tensor for letter, tensor in made.items()}


def read(
    values: dict[str, Tensor], config: Any = None, header: Any = None, family: str | None = None, **said: Any
) -> Adapter:
    source = MemorySource(values, {} if header is None else {"lora_adapter_metadata": json.dumps(header)})
    source.config = config  # type: ignore[attr-defined]
    adapter = read_adapter(source, read_adapter_spec(source, family), **said)
    adapter.check(adapter.spec)
    return adapter


def product(values: dict[str, Tensor], stem: str = STEM) -> Any:
    up, down = (values[f"{stem}.lora_{letter}.weight"].double().numpy() for letter in "BA")
    return up @ down


def only(adapter: Adapter) -> Any:
    (delta,) = adapter.modules.values()
    assert isinstance(delta, Delta)
    return delta.dense(torch.float64).numpy()


PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}


@pytest.mark.parametrize(
    ("more", "config", "header", "scale"),
    [
        ({}, None, None, 1.0),
        ({"alpha": torch.tensor(5.0)}, None, None, 2.5),
        ({"alpha": torch.tensor(5)}, None, None, 2.5),
        ({"scale": torch.tensor(0.25)}, None, None, 0.25),
        ({"alpha": torch.tensor(5.0), "scale": torch.tensor([0.25])}, None, None, 0.25),
        ({}, PEFT, None, 1.5),
        ({}, {**PEFT, "use_rslora": True}, None, 3 / math.sqrt(2)),
        ({}, {**PEFT, "alpha_pattern": {"proj": 7}}, None, 3.5),
        ({}, None, {"transformer.r": 2, "transformer.lora_alpha": 1}, 0.5),
        ({}, None, {"unet.r": 2, "unet.lora_alpha": 1}, 1.0),
        ({"alpha": torch.tensor(3.0)}, PEFT, None, 1.5),
        ({"alpha": torch.tensor(3.0).bfloat16()}, PEFT, None, 1.5),
    ],
)
def test_the_delta_is_scaled_by_what_the_file_or_its_config_says(
    more: Any, config: Any, header: Any, scale: float
) -> None:
    values = pair() | {f"{STEM}.{name}": tensor for name, tensor in more.items()}
    np.testing.assert_allclose(only(read(values, config, header)), scale * product(values), rtol=1e-14)


def test_alphas_that_the_config_contradicts_are_refused() -> None:
    values = pair() | {f"{STEM}.alpha": torch.tensor(4.0)}
    with pytest.raises(InputError) as caught:
        read(values, PEFT)
    assert str(caught.value) == (
        f"error: 1 module that the adapter's config contradicts: {STEM}.alpha (4, the config says 3) "
        "- the config belongs to another file"
    )


@pytest.mark.parametrize("name", ["alpha", "scale"])
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_strength_of_nothing_is_refused(name: str, bad: float) -> None:
    with pytest.raises(InputError, match=rf"1 alpha of 0, NaN or Inf: {STEM}\.{name}"):
        read(pair() | {f"{STEM}.{name}": torch.tensor(bad)})


def test_fan_in_fan_out_gives_the_transpose() -> None:
    values = pair()
    adapter = read(values, {**PEFT, "fan_in_fan_out": True})
    ((module, known),) = adapter.spec.modules.items()
    assert (module.key, known.shape, known.spelling.transposed) == (f"{STEM}.weight", (5, 6), True)
    np.testing.assert_allclose(only(adapter), 1.5 * product(values).T, rtol=1e-14)


def test_an_embedding_gives_the_transpose() -> None:
    values = {
        f"{STEM}.lora_embedding_A": seeded(2, 11, seed=1),
        f"{STEM}.lora_embedding_B": seeded(5, 2, seed=2),
    }
    a, b = (values[f"{STEM}.lora_embedding_{letter}"].double().numpy() for letter in "AB")
    np.testing.assert_allclose(only(read(values, PEFT)), 1.5 * (b @ a).T, rtol=1e-14)


def test_a_lora_bias_is_scaled_as_its_lora_and_other_biases_are_not() -> None:
    values = pair() | {f"{STEM}.lora_B.bias": seeded(6, seed=3), "x.diff_b": seeded(4, seed=4)}
    values[f"{STEM}.alpha"] = torch.tensor(5.0)
    found = {
        m.key: d.dense(torch.float64).numpy()[:, 0]
        for m, d in read(values).modules.items()
        if m.key[-4:] == "bias"
    }
    np.testing.assert_allclose(found[f"{STEM}.bias"], 2.5 * values[f"{STEM}.lora_B.bias"].double().numpy())
    np.testing.assert_array_equal(found["x.bias"], values["x.diff_b"].double().numpy())


def test_parts_are_rows_of_the_one_delta() -> None:
    stem = "transformer.norm_out.linear"
    values = pair(stem, out=12)
    adapter = read(values, family="flux1")
    found = {module.rows: delta.dense(torch.float64).numpy() for module, delta in adapter.modules.items()}
    whole = product(values, stem)
    np.testing.assert_array_equal(found[6, 12], whole[:6])
    np.testing.assert_array_equal(found[0, 6], whole[6:])


def test_a_lokr_of_whole_halves_counts_its_config_and_not_its_alpha() -> None:
    values = {f"{STEM}.lokr_w1": seeded(2, 3, seed=1), f"{STEM}.lokr_w2": seeded(4, 2, seed=2)}
    product = np.kron(values[f"{STEM}.lokr_w1"].double().numpy(), values[f"{STEM}.lokr_w2"].double().numpy())
    huge = values | {f"{STEM}.alpha": torch.tensor(math.inf)}
    np.testing.assert_allclose(only(read(huge)), product, rtol=1e-14)
    np.testing.assert_allclose(
        only(read(values, {"peft_type": "LOKR", "r": 8, "alpha": 2})), product / 4, rtol=1e-14
    )


def test_an_operator_is_of_strength_1_and_gets_the_alpha_of_its_delta() -> None:
    values = pair() | {f"{STEM}.lora_magnitude_vector": seeded(6, seed=3).abs()}
    adapter = read(values, {**PEFT, "use_dora": True})
    ((module, operated),) = adapter.modules.items()
    known = adapter.spec.modules[module]
    assert isinstance(operated, Operated)
    assert (operated.strength, operated.shape, known.form and known.form.name) == (1.0, (6, 5), "PEFT DoRA")
    weight = seeded(6, 5, seed=4, dtype=torch.float64)
    sum_ = weight.numpy() + 1.5 * product(values)
    magnitude = values[f"{STEM}.lora_magnitude_vector"].double().numpy()
    expected = sum_ * (magnitude / np.linalg.norm(sum_, axis=1))[:, None]
    np.testing.assert_allclose(operated.read().apply(weight, 1.0).numpy(), expected, rtol=1e-6)


def test_on_a_device_numbers_are_read_once() -> None:
    values = pair()
    adapter = read(values, device="meta")
    (delta,) = adapter.modules.values()
    assert isinstance(delta, Delta)
    assert delta.terms[0].structure.load().up.device.type == "meta"  # type: ignore[attr-defined]


def test_nan_is_told_of_tensors_of_every_format_and_of_flags_not_asked() -> None:
    values: dict[str, Tensor] = {f"{STEM}.weight": seeded(6, seed=1), f"{STEM}.on_input": torch.tensor(1)}
    values["x.diff"] = torch.full((2, 2), math.nan)
    with pytest.raises(InputError, match=r"1 tensor with NaN or Inf: x\.diff"):
        read(values)


def test_a_module_on_a_saved_weight_is_that_weight_and_its_delta() -> None:
    """PEFT saves the weight of an embedding beside its LoRA, and adds to that."""
    path = "base_model.model.model.embed_tokens"
    values = {
        f"{path}.lora_embedding_A": seeded(2, 11, seed=1),
        f"{path}.lora_embedding_B": seeded(5, 2, seed=2),
        f"{path}.base_layer.weight": seeded(11, 5, seed=3),
    }
    adapter = read(values, PEFT)
    ((module, operated),) = adapter.modules.items()
    known = adapter.spec.modules[module]
    assert isinstance(operated, Operated)
    assert (module.key, known.shape, known.rank) == ("model.embed_tokens.weight", (11, 5), 0)
    assert known.form is not None
    assert known.form.name == "LoRA of an embedding on a saved weight"
    a, b, base = (tensor.double().numpy() for tensor in values.values())
    found = operated.read().apply(seeded(11, 5, seed=4, dtype=torch.float64), 1.0)
    np.testing.assert_allclose(found.numpy(), base + 1.5 * (b @ a).T, rtol=1e-12)
    assert list(operated.read().written()) == [suffix for suffix, _ in known.form.tensors]
