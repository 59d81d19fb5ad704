"""Two files held against each other: modules, blocks, ranks, metadata; what is the same is said to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.build.looking.diffing import WeightsDiff, diff_weights
from lorapipe.errors import LorapipeError, UsageError
from lorapipe.store.digest import sha256_file
from lorapipe.weights.distances import total

from ...bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from ...formats.model_folders import hf_folder


def norms(diff: WeightsDiff, name: str) -> list[float]:
    found = diff.distances[name]
    return [found.old, found.new, found.apart]


def expected(a: np.ndarray, b: np.ndarray) -> list[float]:
    return [float(np.linalg.norm(x)) for x in (a, b, a - b)]


def test_loras_are_compared_by_their_deltas_module_by_module_and_block_by_block(bench: Bench) -> None:
    a, b = bench.lora("a", rank=4, seed=1), bench.lora("b", rank=3, alpha=1.0, seed=2)
    diff = diff_weights(a, b)
    for stem in SHAPES:
        assert norms(diff, stem) == pytest.approx(
            expected(bench.deltas["a"][stem], bench.deltas["b"][stem]), rel=1e-11
        )
    assert diff.blocks == {("unet", "IN01"): (CONV1, PROJ_IN, TO_Q), ("te", "BASE"): (TE,)}
    whole = [np.concatenate([bench.deltas[n][s].ravel() for s in (CONV1, PROJ_IN, TO_Q)]) for n in "ab"]
    unet = total(diff.distances[name] for name in diff.blocks["unet", "IN01"])
    assert [unet.old, unet.new, unet.apart] == pytest.approx(expected(*whole), rel=1e-11)
    assert diff.altered == {"rank 4 -> 3": 4}
    assert (diff.added, diff.removed, diff.unequal, diff.metadata) == ((), (), (), {})
    assert diff.differs
    assert not diff.same_numbers


def test_modules_that_came_or_went_are_named(bench: Bench) -> None:
    a = bench.lora("a", modules={stem: SHAPES[stem] for stem in (TO_Q, CONV1)})
    b = bench.lora("b", modules={stem: SHAPES[stem] for stem in (TO_Q, TE)})
    diff = diff_weights(a, b)
    assert (diff.added, diff.removed) == ((TE,), (CONV1,))
    size = float(np.linalg.norm(bench.deltas["a"][CONV1]))
    assert norms(diff, CONV1) == pytest.approx([size, 0.0, size])


def test_the_same_file_is_told_by_its_sha256_and_not_read_further(bench: Bench) -> None:
    a = bench.lora("a")
    copy = a.with_name("b.safetensors")
    copy.write_bytes(a.read_bytes())
    link = a.with_name("c.safetensors")
    link.symlink_to(a.name)
    for other in (a, copy, link):
        diff = diff_weights(a, other)
        assert (diff.sha256, diff.distances, diff.differs) == (sha256_file(a), {}, False)


def test_the_same_numbers_in_another_file_are_told_to_be_that(bench: Bench) -> None:
    a = bench.lora("a", dtype="float16")
    tensors = load_file(a)
    b = bench.folder / "b.safetensors"
    save_file(
        {key: value.float() for key, value in tensors.items()},
        b,
        {"ss_base_model_version": "sd_v1", "x": "y"},
    )
    diff = diff_weights(a, b)
    assert diff.sha256 is None
    assert diff.same_numbers
    assert diff.differs
    assert diff.altered == {"dtype F16 -> F32": 4}
    assert diff.metadata == {"ss_v2": "False -> unset", "x": "unset -> y"}


def test_loras_in_other_names_are_compared_all_the_same(bench: Bench) -> None:
    import lorapipe

    a = bench.lora("a", rank=4)
    b = lorapipe.save(lorapipe.load(a), bench.folder / "b.safetensors", layout="diffusers")
    diff = diff_weights(a, b)
    assert len(diff.distances) == len(SHAPES)
    assert all(one.relative < 1e-6 for one in diff.distances.values())
    assert (diff.added, diff.removed) == ((), ())


def test_formats_that_changed_are_told(bench: Bench) -> None:
    a, b = bench.lora("a", rank=4), bench.lycoris("b")
    diff = diff_weights(a, b)
    assert diff.altered["format LoRA -> LoHa"] == 1
    assert diff.altered["format LoRA -> full difference"] == 1
    for stem in SHAPES:
        assert norms(diff, stem) == pytest.approx(
            expected(bench.deltas["a"][stem], bench.deltas["b"][stem]), rel=1e-9
        )


def test_checkpoints_are_compared_weight_by_weight(bench: Bench) -> None:
    a, b = bench.checkpoint("a", seed=1), bench.checkpoint("b", seed=2, dtype="bfloat16")
    diff = diff_weights(a, b)
    for key, values in bench.weights["a"].items():
        if "position_ids" not in key:
            assert norms(diff, key) == pytest.approx(expected(values, bench.weights["b"][key]), rel=1e-12), (
                key
            )
    assert diff.blocks["unet", "IN01"][0] == KEYS[CONV1]
    assert diff.blocks["", "first_stage_model"] == ("first_stage_model.decoder.conv_in.bias",)
    assert diff.altered == {"dtype F16 -> BF16": 5}
    assert diff.unequal == ()


def test_tensors_that_came_went_or_are_others(bench: Bench) -> None:
    a, b = bench.checkpoint("a"), bench.folder / "b.safetensors"
    tensors = load_file(a)
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    tensors[ids] += 1
    del tensors[KEYS[TO_Q]]
    tensors["new.weight"] = torch.ones(3)
    tensors[KEYS[CONV1]] = torch.ones(20, 12, 1, 3)
    save_file(tensors, b, {"format": "pt"})
    diff = diff_weights(a, b)
    assert (diff.added, diff.removed, diff.unequal) == (("new.weight",), (KEYS[TO_Q],), (ids,))
    assert diff.altered == {"dtype F16 -> F32": 1, "shape 20x12x3x3 -> 20x12x1x3": 1}
    assert not diff.same_numbers


def test_a_merge_changed_what_its_lora_has(bench: Bench) -> None:
    import lorapipe

    base, lora = bench.checkpoint("base", dtype="float32"), bench.lora("a", rank=4)
    merged = lorapipe.merge_into_checkpoint(lorapipe.load(base), [(lorapipe.load(lora), 0.5)])
    out = lorapipe.save(merged, bench.folder / "m.safetensors")
    diff = diff_weights(base, out)
    moved = {key: one for key, one in diff.distances.items() if one.apart}
    assert moved.keys() == {KEYS[stem] for stem in SHAPES}
    for stem in SHAPES:
        assert moved[KEYS[stem]].apart == pytest.approx(
            0.5 * np.linalg.norm(bench.deltas["a"][stem]), rel=1e-5
        )


def test_a_folder_and_its_file_hold_the_same(bench: Bench) -> None:
    file = bench.checkpoint("a")
    folder = bench.folder / "m"
    hf_folder(folder, load_file(file), 2)
    diff = diff_weights(file, folder)
    assert diff.same_numbers
    assert len(diff.distances) == 6


def test_a_lora_and_a_checkpoint_are_no_pair(bench: Bench) -> None:
    a, base = bench.lora("a"), bench.checkpoint("base")
    with pytest.raises(UsageError) as caught:
        diff_weights(a, base)
    assert str(caught.value) == (
        "error: 'a.safetensors' is a LoRA, 'base.safetensors' is a checkpoint"
        " - merge the LoRA (lorapipe merge), or extract one from the checkpoint (lorapipe extract), first"
    )


def test_loras_of_two_families_are_no_pair(bench: Bench) -> None:
    a = bench.lora("a")
    b = bench.lora(
        "b",
        modules={"lora_te2_text_model_encoder_layers_0_mlp_fc1": (8, 8)},
        metadata={"ss_base_model_version": "sdxl_base_v1-0"},
    )
    with pytest.raises(LorapipeError) as caught:
        diff_weights(a, b)
    assert caught.value.code == "family-mismatch"


def test_real_files_are_compared(shared: Callable[[str], Path]) -> None:
    a, b = (shared(f"real/{name}.safetensors") for name in ("analog_svd_rank4", "lora_disney"))
    diff = diff_weights(a, b)
    assert len(diff.distances) == 192
    assert diff.altered == {"rank 4 -> 1": 192, "dtype F16 -> F32": 192}
    assert next(iter(diff.blocks)) == ("unet", "IN01")
