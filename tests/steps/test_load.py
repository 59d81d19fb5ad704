"""``load``: what a file is, and what reading it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

from ..bench import SHAPES, TO_Q, Bench
from ..formats.model_folders import hf_folder
from .kit import Q, deltas, given, infer, load, options

KIND = find_kind("load")


def test_it_is_free_until_something_uses_it_and_what_only_names_its_input_is_not_in_its_key() -> None:
    assert KIND.materialise is Materialise.LAZY
    assert KIND.keyless == {"load", "sha256", "variant"}


def test_a_lora_and_a_checkpoint_are_told_apart_by_their_names(bench: Bench) -> None:
    spec = infer("load", given({"load": bench.lora("a", rank=8)}))
    assert isinstance(spec, AdapterSpec)
    assert (spec.family, {module.rank for module in spec.modules.values()}) == ("sd1", {8})

    spec = infer("load", given({"load": bench.checkpoint()}))
    assert isinstance(spec, CheckpointSpec)
    assert (spec.family, len(spec.tensors)) == ("sd1", 7)


def test_as_checkpoint_takes_a_file_for_what_its_names_deny(bench: Bench) -> None:
    spec = infer("load", given({"load": bench.lora("a", modules={"x_y": (4, 4)})}), as_="checkpoint")
    assert isinstance(spec, CheckpointSpec)


def test_as_lora_of_a_checkpoint_is_refused(bench: Bench) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("load", given({"load": bench.checkpoint()}), as_="lora")
    assert (caught.value.code, caught.value.option) == ("not-a-lora", "as")


def test_family_settles_what_the_names_leave_open(bench: Bench) -> None:
    path = bench.lora("a", modules={TO_Q: SHAPES[TO_Q]}, metadata={})
    spec = infer("load", given({"load": path}), family="sd2")
    assert spec.family == "sd2"
    assert list(spec.modules) == [Q]


def test_the_numbers_are_the_files(bench: Bench) -> None:
    found = deltas(load(bench.lora("a", rank=4, alpha=3.0)))
    assert set(found) == set(SHAPES)
    for stem, delta in found.items():
        np.testing.assert_allclose(delta, bench.deltas["a"][stem], rtol=1e-6)


def test_a_ckpt_gives_what_its_safetensors_twin_gives(bench: Bench) -> None:
    path = bench.lora("a", metadata={})
    torch.save(load_file(path), path.with_suffix(".pt"))
    one, other = load(path, family="sd1"), load(path.with_suffix(".pt"), family="sd1")
    assert all((delta == deltas(other)[stem]).all() for stem, delta in deltas(one).items())


def test_what_is_loaded_is_read_and_takes_no_memory(bench: Bench) -> None:
    for file in (bench.lora("a"), bench.checkpoint()):
        inputs = given({"load": file})
        cost = KIND.cost(inputs, options("load"), infer("load", inputs))
        assert (cost.read, cost.written, cost.peak) == (file.stat().st_size, 0, 0)


def test_nan_is_found_when_the_numbers_are_read_not_before(bench: Bench) -> None:
    path = bench.lora("a")
    tensors = load_file(path)
    tensors[f"{TO_Q}.lora_up.weight"].fill_(torch.nan)
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})

    infer("load", given({"load": path}))
    with pytest.raises((InputError, ManyErrors), match="NaN or Inf"):
        deltas(load(path))


@pytest.mark.parametrize("name", ["a.txt", "a", "a.safetensors.bak"])
def test_an_ending_that_is_no_files_of_weights_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(RecipeError, match="does not end like a file of weights"):
        infer("load", given({"load": tmp_path / name}))


# ---- PEFT's alpha ------------------------------------------------------------------------------------

PATH = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def peft(tmp_path: Path) -> Path:
    """An adapter of PEFT's without the config that belongs to it."""
    path = tmp_path / "adapter_model.safetensors"
    up, down = torch.arange(8.0).reshape(4, 2), torch.arange(6.0).reshape(2, 3)
    save_file({f"{PATH}.lora_B.weight": up, f"{PATH}.lora_A.weight": down}, path)
    return path


def only(adapter: Any) -> Any:
    """The delta of a LoRA of one module."""
    (delta,) = adapter.modules.values()
    return delta.dense(torch.float64).numpy()


def warned(path: Path, **said: Any) -> tuple[str, ...]:
    inputs = given({"load": path})
    return KIND.warn(inputs, options("load", **said), infer("load", inputs, **said))


def test_peft_without_its_config_is_taken_at_scale_1_and_says_so(peft: Path) -> None:
    np.testing.assert_array_equal(
        only(load(peft)), np.arange(8.0).reshape(4, 2) @ np.arange(6.0).reshape(2, 3)
    )
    assert warned(peft) == (
        "it is PEFT's without its adapter_config.json, so scale 1: load its folder, or say 'alpha'",
    )


def test_the_alpha_that_the_recipe_says_is_lora_alpha(peft: Path) -> None:
    np.testing.assert_array_equal(only(load(peft, alpha=16)), 8.0 * only(load(peft)))
    assert warned(peft, alpha=16) == ()


def test_with_its_config_the_folder_says_alpha_and_is_not_told_another(peft: Path) -> None:
    plain = only(load(peft))
    config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 5, "target_modules": ["q_proj"]}'
    (peft.parent / "adapter_config.json").write_text(config)
    np.testing.assert_array_equal(only(load(peft.parent)), 2.5 * plain)
    assert warned(peft.parent) == ()
    with pytest.raises(RecipeError) as caught:
        infer("load", given({"load": peft.parent}), alpha=5)
    assert (caught.value.code, caught.value.option) == ("alpha-known", "alpha")


def test_a_file_with_alphas_is_not_told_another(bench: Bench) -> None:
    path = bench.lora("a", alpha=3.0)
    assert warned(path) == ()
    with pytest.raises(RecipeError) as caught:
        infer("load", given({"load": path}), alpha=5)
    assert str(caught.value) == (
        f"{path}: error: the alpha of this LoRA is known: its file says it - leave 'alpha' out; "
        "'scale' changes how strong it is"
    )


def test_alpha_is_no_matter_of_checkpoints_and_no_infinity(bench: Bench, peft: Path) -> None:
    with pytest.raises(RecipeError, match="a checkpoint has no alpha"):
        infer("load", given({"load": bench.checkpoint()}), alpha=5)
    with pytest.raises(RecipeError, match="cannot have the alpha inf"):
        infer("load", given({"load": peft}), alpha=float("inf"))


def test_a_folder_is_loaded_as_a_file_is_and_read_as_far_as_it_counts(bench: Bench) -> None:
    checkpoint = load_file(bench.checkpoint())
    folder = hf_folder(bench.folder / "m", checkpoint, 3)
    save_file({"other": torch.zeros(1)}, folder / "model.fp16.safetensors")
    inputs = given({"load": folder})

    spec = infer("load", inputs)
    cost = KIND.cost(inputs, options("load"), spec)

    assert isinstance(spec, CheckpointSpec)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.items()}
    assert {name: tensor.shape for name, tensor in spec.tensors.items()} == shapes
    assert spec.folder is not None
    assert set(spec.folder.carried) == {"config.json", "tokenizer.json"}
    counted = [p for p in folder.iterdir() if p.name != "model.fp16.safetensors"]
    assert cost.read == sum(path.stat().st_size for path in counted)


def test_a_shard_that_the_index_does_not_name_is_told_before_the_build(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "llm")
    assert warned(folder) == ()
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"never opened")
    assert warned(folder) == ("its index does not name model-00003-of-00003.safetensors: not read",)
    (index,) = folder.glob("*.index.json")
    assert warned(index) == warned(folder)


def test_the_variant_chooses_among_the_weights_of_a_folder(bench: Bench) -> None:
    folder = hf_folder(bench.folder / "m", load_file(bench.checkpoint()), 3)
    save_file({"other": torch.zeros(1)}, folder / "model.fp16.safetensors")

    spec = infer("load", given({"load": folder}), variant="fp16")

    assert list(spec.tensors) == ["other"]
    with pytest.raises(InputError, match="has no weights of the variant 'fp8'"):
        infer("load", given({"load": folder}), variant="fp8")


def test_values_of_a_folder_are_read_from_the_file_that_has_them(bench: Bench) -> None:
    tensors = load_file(bench.checkpoint())
    value = load(hf_folder(bench.folder / "m", tensors, 3))
    for name, tensor in tensors.items():
        assert b"".join(map(bytes, value.chunks(name))) == tensor.numpy().tobytes()
