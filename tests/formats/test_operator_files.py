"""Files of adapters that do not add: read, merged, carried through steps, written again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lorapipe
from lorapipe.errors import InputError, LorapipeError, ManyErrors, RecipeError

from ..bench import CONV1, KEYS, TO_Q, Bench
from .sources import seeded

BIAS = KEYS[TO_Q].removesuffix("weight") + "bias"


def dora() -> dict[str, Tensor]:
    return {
        "lora_up.weight": seeded(20, 4, seed=1),
        "lora_down.weight": seeded(4, 20, seed=2),
        "alpha": torch.tensor(2.0),
        "dora_scale": seeded(20, 1, seed=3).abs(),
    }


MODULES: Mapping[str, Mapping[str, Tensor]] = {
    "DoRA": dora(),
    "DoRA around a LoHa": {
        **{f"hada_w{i}_a": seeded(20, 2, seed=i) for i in (1, 2)},
        **{f"hada_w{i}_b": seeded(2, 20, seed=i + 2) for i in (1, 2)},
        "alpha": torch.tensor(1.0),
        "dora_scale": seeded(1, 20, seed=3).abs(),
    },
    "OFT": {
        "oft_blocks": seeded(5, 4, 4, seed=1), "alpha": torch.tensor(0.001), "rescale": seeded(20, 1, seed=2),
    },
    "BOFT": {"oft_blocks": seeded(1, 5, 4, 4, seed=1), "alpha": torch.tensor(0.0)},
    "old OFT": {"oft_diag": torch.linalg.qr(seeded(5, 4, 4, seed=1)).Q.contiguous()},
    "PEFT OFT": {"oft_R.weight": seeded(5, 6, seed=1) / 10},
    "PEFT BOFT": {"boft_R": seeded(1, 5, 4, 4, seed=1), "boft_s": seeded(20, 1, seed=2)},
    "IA3": {"weight": seeded(20, seed=1), "on_input": torch.tensor(1)},
    "PEFT IA3": {"ia3_l": seeded(20, 1, seed=1)},
    "GLoRA": {
        **{f"{name}.weight": seeded(*shape, seed=i) for i, (name, shape) in enumerate(
            (("a1", (20, 3)), ("a2", (3, 20)), ("b1", (20, 3)), ("b2", (3, 20)))
        )},
        "alpha": torch.tensor(1.5),
    },
    "full weight": {"set_weight": seeded(20, 20, seed=1)},
}  # fmt: skip


def lora(folder: Path, tensors: Mapping[str, Tensor], name: str = "x", stem: str = TO_Q) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({f"{stem}.{role}": t.contiguous() for role, t in tensors.items()}, path)
    return path


def base(bench: Bench) -> lorapipe.Weights:
    return lorapipe.load(bench.checkpoint(dtype="float32"), family="sd1")


def weight(bench: Bench) -> Tensor:
    """The first module's weight in float64."""
    if "base" not in bench.weights:
        bench.checkpoint(dtype="float32")
    return torch.from_numpy(np.asarray(bench.weights["base"][KEYS[TO_Q]]))


def merged(bench: Bench, *loras: tuple[lorapipe.Weights, float], **said: str) -> Tensor:
    """The first module's weight after a merge."""
    made = lorapipe.merge_into_checkpoint(base(bench), list(loras), **said)  # type: ignore[arg-type]
    path = lorapipe.save(made, bench.folder / "merged.safetensors")
    found = load_file(path)[KEYS[TO_Q]].double()
    path.unlink()
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_file_is_read_and_written_bit_for_bit(name: str, bench: Bench) -> None:
    path = lora(bench.folder, MODULES[name])
    again = lorapipe.save(lorapipe.load(path, family="sd1"), bench.folder / "again.safetensors")
    before, after = load_file(path), load_file(again)
    assert after.keys() == before.keys()
    for key, tensor in before.items():
        assert after[key].shape == tensor.shape
        assert torch.equal(after[key], tensor), key


@pytest.mark.parametrize("name", MODULES)
def test_strength_goes_from_the_weight_to_what_the_file_makes_of_it(name: str, bench: Bench) -> None:
    loaded = lorapipe.load(lora(bench.folder, MODULES[name]), family="sd1")
    full, half = merged(bench, (loaded, 1.0)), merged(bench, (loaded, 0.5))
    assert not torch.allclose(full, weight(bench))
    torch.testing.assert_close(half, (weight(bench) + full) / 2, rtol=1e-5, atol=1e-5)
    scaled = merged(bench, (lorapipe.scale(loaded, by=0.5), 1.0))
    assert torch.equal(scaled, half)


def test_a_dora_is_what_its_definition_says(bench: Bench) -> None:
    tensors = dora()
    v = weight(bench) + 0.5 * tensors["lora_up.weight"].double() @ tensors["lora_down.weight"].double()
    expected = v * tensors["dora_scale"].double() / v.norm(dim=1, keepdim=True)
    loaded = lorapipe.load(lora(bench.folder, tensors), family="sd1")
    torch.testing.assert_close(merged(bench, (loaded, 1.0)), expected, rtol=1e-6, atol=1e-6)


def test_concat_carries_it_beside_modules_of_other_weights_and_no_others(bench: Bench) -> None:
    one = lorapipe.load(lora(bench.folder, dora()), family="sd1")
    factors = {"lora_up.weight": seeded(20, 2, 1, 1, seed=4), "lora_down.weight": seeded(2, 12, 3, 3, seed=5)}
    other = lorapipe.load(lora(bench.folder, factors, "other", CONV1), family="sd1")
    joined = lorapipe.concat([(one, 0.5), (other, 1.0)])
    assert torch.equal(merged(bench, (joined, 1.0)), merged(bench, (one, 0.5)))
    plain = lorapipe.load(bench.lora("plain"))
    with pytest.raises(RecipeError, match=r"DoRA here and .* LoRA, which cannot be joined"):
        lorapipe.concat([(one, 1.0), (plain, 1.0)])


def test_a_delta_in_the_same_merge_is_added_first(bench: Bench) -> None:
    gains = lorapipe.load(lora(bench.folder, MODULES["IA3"]), family="sd1")
    plain = lorapipe.load(bench.lora("plain"))
    delta = torch.from_numpy(bench.deltas["plain"][TO_Q])
    g = 1.0 + MODULES["IA3"]["weight"].double()
    for loras in ([(gains, 1.0), (plain, 0.7)], [(plain, 0.7), (gains, 1.0)]):
        found = merged(bench, *loras)
        torch.testing.assert_close(found, (weight(bench) + 0.7 * delta) * g, rtol=1e-5, atol=1e-5)


def test_two_in_one_merge_are_refused_and_chained_ones_are_not(bench: Bench) -> None:
    one = lorapipe.load(lora(bench.folder, dora()), family="sd1")
    two = lorapipe.load(lora(bench.folder, MODULES["IA3"], "two"), family="sd1")
    with pytest.raises(LorapipeError, match="both functions of a weight"):
        lorapipe.merge_into_checkpoint(base(bench), [one, two])
    first = lorapipe.merge_into_checkpoint(base(bench), one)
    path = lorapipe.save(lorapipe.merge_into_checkpoint(first, two), bench.folder / "both.safetensors")
    expected = merged(bench, (one, 1.0)) * (1.0 + MODULES["IA3"]["weight"].double())
    torch.testing.assert_close(load_file(path)[KEYS[TO_Q]].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["IA3", "GLoRA", "PEFT IA3"])
@pytest.mark.parametrize("by", [0.5, -2.0])
def test_a_strength_that_the_format_can_hold_is_written(name: str, by: float, bench: Bench) -> None:
    loaded = lorapipe.load(lora(bench.folder, MODULES[name]), family="sd1")
    path = lorapipe.save(lorapipe.scale(loaded, by=by), bench.folder / "scaled.safetensors")
    again = lorapipe.load(path, family="sd1")
    torch.testing.assert_close(merged(bench, (again, 1.0)), merged(bench, (loaded, by)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["DoRA", "OFT", "BOFT", "old OFT", "PEFT OFT", "PEFT BOFT", "full weight"])
def test_any_other_strength_is_refused_with_the_way_out(name: str, bench: Bench) -> None:
    loaded = lorapipe.load(lora(bench.folder, MODULES[name]), family="sd1")
    with pytest.raises(LorapipeError) as caught:
        lorapipe.save(lorapipe.scale(loaded, by=0.5), bench.folder / "scaled.safetensors")
    assert caught.value.code == "strength-not-kept"
    assert caught.value.hint == "merge it into its checkpoint at that strength and extract a LoRA"
    assert not (bench.folder / "scaled.safetensors").exists()


@pytest.mark.parametrize("call", [lambda one: lorapipe.svd_resize(one, rank=2), lorapipe.shuffle])
def test_steps_about_deltas_refuse_it_by_name(call: object, bench: Bench) -> None:
    one = lorapipe.load(lora(bench.folder, dora()), family="sd1")
    with pytest.raises(RecipeError, match="1 module of this one is DoRA, a function of the weight"):
        call(one)  # type: ignore[operator]


@pytest.mark.parametrize("rule", ["comfy", "lycoris"])
def test_other_programs_rules_are_other_numbers(rule: str, bench: Bench) -> None:
    loaded = lorapipe.load(lora(bench.folder, dora()), family="sd1")
    assert not torch.allclose(merged(bench, (loaded, 0.5), strength_rule=rule), merged(bench, (loaded, 0.5)))


def test_pefts_gains_change_the_bias_that_the_checkpoint_has(bench: Bench) -> None:
    path = bench.checkpoint(dtype="float32")
    bias = seeded(20, seed=9)
    save_file({**load_file(path), BIAS: bias}, path)
    loaded = lorapipe.load(lora(bench.folder, MODULES["PEFT IA3"]), family="sd1")
    made = lorapipe.merge_into_checkpoint(lorapipe.load(path, family="sd1"), loaded)
    found = load_file(lorapipe.save(made, bench.folder / "m.safetensors"))
    gain = MODULES["PEFT IA3"]["ia3_l"][:, 0]
    torch.testing.assert_close(found[BIAS], bias * gain)
    torch.testing.assert_close(
        found[KEYS[TO_Q]].double(), weight(bench) * gain.double()[:, None], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "role"),
    [("DoRA", "dora_scale"), ("OFT", "oft_blocks"), ("IA3", "weight"), ("GLoRA", "a2.weight")],
)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_found_in_every_tensor(
    name: str, role: str, number: float, bench: Bench
) -> None:
    tensors = {key: tensor.clone() for key, tensor in MODULES[name].items()}
    tensors[role].view(-1)[1] = number
    with pytest.raises(InputError) as caught:
        lorapipe.load(lora(bench.folder, tensors), family="sd1")
    assert caught.value.code == "not-finite"
    assert f"{TO_Q}.{role}" in caught.value.message


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_an_oft_whose_limit_is_none_is_refused(alpha: float, bench: Bench) -> None:
    path = lora(bench.folder, {**MODULES["OFT"], "alpha": torch.tensor(alpha)})
    with pytest.raises(InputError) as caught:
        merged(bench, (lorapipe.load(path, family="sd1"), 1.0))
    assert caught.value.code == "bad-alpha"


def test_a_dora_with_an_alpha_of_0_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="1 alpha of 0, NaN or Inf"):
        lorapipe.load(lora(bench.folder, {**dora(), "alpha": torch.tensor(0.0)}), family="sd1")


def test_gains_of_a_part_of_a_fused_weight_need_a_height(bench: Bench) -> None:
    stems = [f"lora_te2_text_model_encoder_layers_0_self_attn_{name}_proj" for name in "kq"]
    tensors = {f"{stem}.oft_R.weight": seeded(5, 6, seed=1) for stem in stems}
    save_file(tensors, bench.folder / "te2.safetensors")
    with pytest.raises(InputError) as caught:
        lorapipe.load(bench.folder / "te2.safetensors", family="sdxl")
    assert caught.value.code == "rows-unknown"
    assert caught.value.message.startswith(
        "2 modules for some rows of a fused weight, whose height the format does not tell: "
        f"{stems[0]} (PEFT OFT), {stems[1]} (PEFT OFT)"
    )


def test_blocks_for_another_width_have_no_place(bench: Bench) -> None:
    loaded = lorapipe.load(lora(bench.folder, {"oft_blocks": seeded(6, 4, 4, seed=1)}), family="sd1")
    with pytest.raises((LorapipeError, ManyErrors)) as caught:
        lorapipe.merge_into_checkpoint(base(bench), loaded)
    assert "OFT for [24, ?] does not fit the checkpoint's weight [20, 20]" in str(caught.value)
