"""Files of the first LoRA trainer, as people have them: numbered modules, embeddings, no alpha."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lorapipe.build.run import Options, build
from lorapipe.errors import ManyErrors
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench
from .numbers import factors, product, relative

Shared = Callable[[str], Path]

LOADS = "analog: {{load: {0}}}\ndisney: {{load: {1}}}\n"


def run(bench: Bench, shared: Shared, steps: str) -> list[Path]:
    heads = LOADS.format(shared("real/analog_svd_rank4.safetensors"), shared("real/lora_disney.safetensors"))
    built = build(load_recipe(bench.recipe(heads + steps)), Options(workers=2))
    return [output.path for output in built.outputs]


def numbered(path: Path, model: str, number: int) -> np.ndarray:
    """The delta of the i-th numbered module: scale 1."""
    tensors = load_file(path)
    up, down = (tensors[f"{model}:{number}:{part}"].double() for part in ("up", "down"))
    return (up @ down).numpy()


def test_numbers_become_kohya_names_in_the_trainers_order(bench: Bench, shared: Shared) -> None:
    (out,) = run(bench, shared, "o: {save: analog, to: o.safetensors}")

    found = factors(out)
    assert len(found) == 144 + 48
    source = shared("real/analog_svd_rank4.safetensors")
    # The text encoder's attention declares k, v, q, out; the first block of the U-Net q, k, v, out.
    layer = "lora_te_text_model_encoder_layers_0_self_attn_"
    for number, name in enumerate(("k_proj", "v_proj", "q_proj", "out_proj")):
        assert relative(product(found[layer + name]), numbered(source, "text_encoder", number)) < 1e-6
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    for number, name in enumerate(("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0")):
        assert relative(product(found[block + name]), numbered(source, "unet", number)) < 1e-6


def test_embeddings_pass_through_a_concat_and_are_saved_as_bundled_ones(bench: Bench, shared: Shared) -> None:
    (out,) = run(bench, shared, "s: {concat: [analog, disney]}\no: {save: s, to: o.safetensors}")

    found, source = load_file(out), load_file(shared("real/lora_disney.safetensors"))
    bundled = {name: tensor for name, tensor in found.items() if name.startswith("bundle_emb.")}
    assert len(bundled) == 2
    for token in ("<s1>", "<s2>"):
        (tensor,) = (t for name, t in bundled.items() if f"bundle_emb.{token}" in name)
        assert torch.equal(tensor.reshape(-1), source[token])


def test_a_concat_is_the_exact_sum_and_a_resize_the_best_of_its_rank(bench: Bench, shared: Shared) -> None:
    both, small = run(
        bench,
        shared,
        "s: {concat: {analog: 0.8, disney: -0.5}}\nr: {svd-resize: s, rank: 3}\n"
        "o1: {save: s, to: both.safetensors}\no2: {save: r, to: small.safetensors, dtype: fp32}",
    )

    alone = run(bench, shared, "a: {save: analog, to: a.safetensors}\nd: {save: disney, to: d.safetensors}")
    analog, disney = (factors(path) for path in alone)
    summed, cut = factors(both), factors(small)
    # A dense SVD of the widest modules takes seconds; these show the same.
    narrow = [stem for stem, (up, down, _) in summed.items() if max(len(up), down.shape[1]) <= 768]
    for stem in narrow[::12]:
        exact = 0.8 * product(analog[stem]) - 0.5 * product(disney[stem])
        assert relative(product(summed[stem]), exact) < 1e-6
        best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[3:])
        assert np.linalg.norm(product(cut[stem]) - exact) <= 1.0001 * best + 1e-6 * np.linalg.norm(exact)


def test_both_merge_into_a_checkpoint(bench: Bench, shared: Shared) -> None:
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    from safetensors.torch import save_file

    weight = torch.randn(320, 320, generator=torch.Generator().manual_seed(0))
    save_file({key: weight}, bench.folder / "base.safetensors")

    (out,) = run(
        bench,
        shared,
        "base: {load: base.safetensors, family: sd1}\n"
        "m: {merge-into-checkpoint: base, loras: {analog: 0.5, disney: 1.0}, unmatched: ignore}\n"
        "o: {save: m, to: o.safetensors}",
    )

    exact = weight.double().numpy()
    exact = exact + 0.5 * numbered(shared("real/analog_svd_rank4.safetensors"), "unet", 0)
    exact = exact + numbered(shared("real/lora_disney.safetensors"), "unet", 0)
    np.testing.assert_array_equal(load_file(out)[key].numpy(), exact.astype(np.float32))


def test_a_file_whose_shapes_do_not_fit_the_numbers_is_refused(bench: Bench, shared: Shared) -> None:
    from safetensors.torch import save_file

    tensors = load_file(shared("real/lora_disney.safetensors"))
    tensors["unet:0:up"], tensors["unet:5:up"] = tensors["unet:5:up"], tensors["unet:0:up"]
    tensors["unet:5:up"] = tensors["unet:5:up"][:100].clone()
    save_file(tensors, bench.folder / "x.safetensors", {"unet": '["CrossAttention"]'})

    with pytest.raises(ManyErrors):
        build(load_recipe(bench.recipe("x: {load: x.safetensors}\no: {save: x, to: o.safetensors}")))
