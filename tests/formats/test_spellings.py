"""One LoRA in every spelling is one adapter: the same modules, the same deltas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import lorapipe
from lorapipe.formats.adapters.read import read_adapter, read_adapter_spec
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta

from .sources import MemorySource, seeded

Array = npt.NDArray[np.float64]
Values = dict[str, Tensor]

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
SGM = "input_blocks_4_1_transformer_blocks_0"
V = "text_model.encoder.layers.3.self_attn.v_proj"

# Module -> kohya's name, diffusers' path with the component, its size: an eighth of SDXL's.
MODULES: Mapping[str, tuple[str, str, tuple[int, int]]] = {
    "q": (f"lora_unet_{SGM}_attn1_to_q", f"unet.{BLOCK}.attn1.to_q", (80, 80)),
    "k": (f"lora_unet_{SGM}_attn2_to_k", f"unet.{BLOCK}.attn2.to_k", (80, 256)),
    "out": (f"lora_unet_{SGM}_attn1_to_out_0", f"unet.{BLOCK}.attn1.to_out.0", (80, 80)),
    "ff": (f"lora_unet_{SGM}_ff_net_2", f"unet.{BLOCK}.ff.net.2", (80, 320)),
    "te1": (f"lora_te1_{V}".replace(".", "_"), f"text_encoder.{V}", (96, 96)),
    "te2": (f"lora_te2_{V}".replace(".", "_"), f"text_encoder_2.{V}", (160, 160)),
}


def factors() -> dict[str, tuple[Tensor, Tensor]]:
    """Up and down of each module."""
    return {
        name: (seeded(out, 2, seed=2 * i), seeded(2, into, seed=2 * i + 1))
        for i, (name, (_, _, (out, into))) in enumerate(MODULES.items())
    }


def kohya() -> Values:
    named = {MODULES[name][0]: pair for name, pair in factors().items()}
    return written(named, ".lora_up.weight", ".lora_down.weight") | {
        f"{stem}.alpha": torch.tensor(2.0) for stem in named
    }


def written(named: Mapping[str, tuple[Tensor, Tensor]], up: str, down: str) -> Values:
    return {
        f"{stem}{suffix}": tensor
        for stem, pair in named.items()
        for suffix, tensor in zip((up, down), pair, strict=True)
    }


def dotted(up: str, down: str) -> Values:
    return written({MODULES[name][1]: pair for name, pair in factors().items()}, up, down)


def old_diffusers() -> Values:
    """Attention through processors, text encoders by ``lora_linear_layer``, the rest as PEFT does."""
    made: Values = {}
    for name, pair in factors().items():
        path = MODULES[name][1]
        if ".to_" in path:
            stem = path.replace(".to_", ".processor.to_").removesuffix(".0")
            made |= written({stem: pair}, "_lora.up.weight", "_lora.down.weight")
        elif path.startswith("text"):
            made |= written({path: pair}, ".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight")
        else:
            made |= written({path: pair}, ".lora_B.weight", ".lora_A.weight")
    return made


def block_paths() -> Values:
    """Kohya's words on diffusers' paths, as older kohya and OneTrainer write them."""
    named = {}
    for name, pair in factors().items():
        path = MODULES[name][1]
        before = "lora_unet_" if path.startswith("unet.") else f"lora_te{'2' if '_2' in path else '1'}_"
        named[before + path.partition(".")[2].replace(".", "_")] = pair
    return written(named, ".lora_up.weight", ".lora_down.weight")


SPELLINGS: Mapping[str, Callable[[], Values]] = {
    "kohya": kohya,
    "kohya on diffusers' paths": block_paths,
    "PEFT": lambda: dotted(".lora_B.weight", ".lora_A.weight"),
    "PEFT with an adapter's name": lambda: dotted(".lora_B.default.weight", ".lora_A.default.weight"),
    "PEFT without .weight": lambda: dotted(".lora_B", ".lora_A"),
    "diffusers": lambda: dotted(".lora.up.weight", ".lora.down.weight"),
    "old diffusers": old_diffusers,
    "kohya's words on dotted names": lambda: dotted(".lora_up.weight", ".lora_down.weight"),
    "bare": lambda: dotted(".up.weight", ".down.weight"),
}


def read(values: Values, family: str | None = "sdxl", metadata: Mapping[str, str] = {}) -> Adapter:
    source = MemorySource(values, metadata)
    adapter = read_adapter(source, read_adapter_spec(source, family))
    adapter.check(adapter.spec)
    return adapter


def dense(adapter: Adapter) -> dict[ModuleId, Array]:
    found = {}
    for module, value in adapter.modules.items():
        assert isinstance(value, Delta)
        found[module] = value.dense(torch.float64).numpy()
    return found


def expected() -> list[Array]:
    return [up.double().numpy() @ down.double().numpy() for up, down in factors().values()]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_means_the_same_modules_and_the_same_deltas(spelling: str) -> None:
    reference, found = dense(read(kohya())), dense(read(SPELLINGS[spelling]()))
    assert list(found) == list(reference)
    for module, wanted in zip(reference, expected(), strict=True):
        np.testing.assert_allclose(found[module], wanted, rtol=1e-12)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_family_is_recognised_in_every_spelling(spelling: str) -> None:
    assert read_adapter_spec(MemorySource(SPELLINGS[spelling]())).family == "sdxl"


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(SPELLINGS)), st.randoms(use_true_random=False))
def test_any_order_of_tensors_is_the_same_adapter(spelling: str, random: object) -> None:
    values = SPELLINGS[spelling]()
    names = list(values)
    random.shuffle(names)  # type: ignore[attr-defined]
    one, other = dense(read(values)), dense(read({name: values[name] for name in names}))
    assert set(one) == set(other)
    assert all(np.array_equal(one[module], other[module]) for module in one)


# ---- other formats -----------------------------------------------------------------------------------

LOHA = {"hada_w1_a": (80, 2), "hada_w1_b": (2, 80), "hada_w2_a": (80, 2), "hada_w2_b": (2, 80)}
GLORA = {"a1.weight": (80, 2), "a2.weight": (2, 80), "b1.weight": (80, 2), "b2.weight": (2, 80)}
HALF = torch.tensor(1.0)
FORMATS: Mapping[str, Values] = {
    "LoHa": {role: seeded(*shape, seed=i) for i, (role, shape) in enumerate(LOHA.items())},
    "LoKr": {
        "lokr_w1": seeded(8, 10, seed=1), "lokr_w2_a": seeded(10, 2, seed=2),
        "lokr_w2_b": seeded(2, 8, seed=3),
    },
    "full difference": {"diff": seeded(80, 80, seed=1)},
    "DoRA": {
        "lora_up.weight": seeded(80, 2, seed=1), "lora_down.weight": seeded(2, 80, seed=2),
        "dora_scale": seeded(80, 1, seed=3).abs(), "alpha": HALF,
    },
    "OFT": {"oft_blocks": seeded(20, 4, 4, seed=1) / 9, "alpha": torch.tensor(0.001)},
    "PEFT OFT": {"oft_R.weight": seeded(20, 6, seed=1) / 9},
    "PEFT IA3": {"ia3_l": seeded(80, 1, seed=1)},
    "GLoRA": {role: seeded(*shape, seed=i) for i, (role, shape) in enumerate(GLORA.items())},
    "full weight": {"set_weight": seeded(80, 80, seed=1)},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_under_every_name_of_its_module(name: str) -> None:
    kohyas, diffusers, _ = MODULES["q"]
    weight = seeded(80, 80, seed=9, dtype=torch.float64)
    found = []
    for stem in (kohyas, diffusers, f"lora_unet_{BLOCK}_attn1_to_q".replace(".", "_")):
        adapter = read({f"{stem}.{role}": tensor for role, tensor in FORMATS[name].items()})
        ((module, value),) = adapter.modules.items()
        form = adapter.spec.modules[module].form
        assert form is not None
        assert form.name == name
        after = value.read().apply(weight, 1.0) if isinstance(value, Operated) else value.dense(torch.float64)
        found.append((module, after))
    assert len({module for module, _ in found}) == 1
    assert all(torch.equal(after, found[0][1]) for _, after in found)


# ---- sums --------------------------------------------------------------------------------------------


def test_a_kohya_and_a_diffusers_file_meet_on_the_same_modules(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("kohya", "diffusers")]
    for path, values in zip(paths, (kohya(), SPELLINGS["old diffusers"]()), strict=True):
        save_file(values, path)
    one, two = (lorapipe.load(path, family="sdxl") for path in paths)
    out = lorapipe.save(lorapipe.concat([(one, 0.5), (two, -0.25)]), tmp_path / "sum.safetensors")
    saved = load_file(out)
    assert {name.partition(".")[0] for name in saved} == {kohyas for kohyas, _, _ in MODULES.values()}
    adapter = read(saved)
    found = {adapter.spec.modules[module].spelling.stem: delta for module, delta in dense(adapter).items()}
    for (kohyas, _, _), wanted in zip(MODULES.values(), expected(), strict=True):
        np.testing.assert_allclose(found[kohyas], 0.25 * wanted, atol=1e-5)


FUSED: Mapping[str, tuple[str, str, dict[str, tuple[str, int, int]]]] = {
    # family: the fused module's name, that of its parts, and their rows of it
    "flux1": (
        "lora_unet_double_blocks_0_img_attn_qkv", "transformer.transformer_blocks.0.attn.{}",
        {"q": ("to_q", 0, 4), "k": ("to_k", 4, 8), "v": ("to_v", 8, 12)},
    ),
    "lumina2": (
        "lora_unet_layers_0_attention_qkv", "transformer.layers.0.attn.{}",
        {"q": ("to_q", 0, 6), "k": ("to_k", 6, 8), "v": ("to_v", 8, 10)},
    ),
    "z-image": (
        "lora_unet_layers_0_attention_qkv", "transformer.layers.0.attention.{}",
        {"q": ("to_q", 0, 4), "k": ("to_k", 4, 8), "v": ("to_v", 8, 12)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FUSED)
def test_a_lora_on_q_k_v_and_one_on_their_fused_weight_add_up_exactly(family: str, tmp_path: Path) -> None:
    fused, pattern, parts = FUSED[family]
    height = max(last for _, _, last in parts.values())
    whole = {fused: (seeded(height, 3, seed=1), seeded(3, 5, seed=2))}
    apart = {
        pattern.format(name): (seeded(last - first, 2, seed=3 + first), seeded(2, 5, seed=4 + first))
        for name, first, last in parts.values()
    }
    files = {
        "fused": written(whole, ".lora_up.weight", ".lora_down.weight"),
        "apart": written(apart, ".lora_B.weight", ".lora_A.weight"),
    }
    loaded = []
    for name, values in files.items():
        save_file(values, tmp_path / f"{name}.safetensors")
        loaded.append(lorapipe.load(tmp_path / f"{name}.safetensors", family=family))
    both = lorapipe.concat([(loaded[0], 1.0), (loaded[1], -2.0)])

    total = product(*whole[fused])
    for name, first, last in parts.values():
        total[first:last] -= 2 * product(*apart[pattern.format(name)])
    found = np.zeros_like(total)
    for module, value in both.value.modules.items():
        start, stop = module.rows or (0, height)
        found[start:stop] += value.dense(torch.float64).numpy()
    np.testing.assert_allclose(found, total, rtol=1e-12)


def product(up: Tensor, down: Tensor) -> Array:
    return up.double().numpy() @ down.double().numpy()
