"""An adapter as a file in every layout: what was foretold, the same delta, the same bits where they fit."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file

from lorapipe.errors import BuildError, RecipeError
from lorapipe.formats.adapters.read import read_adapter, read_adapter_spec
from lorapipe.formats.containers.safetensors_writer import write_safetensors
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.tensor_folder import TensorFolder
from lorapipe.formats.layouts.writer import AdapterFile, Wanted, adapter_file, adapter_file_spec
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.each import serial
from lorapipe.weights.structures.delta import Delta

Matrix = npt.NDArray[np.float64]
Tensors = dict[str, torch.Tensor]

H = 8
KOHYA = {
    "lora_unet_double_blocks_0_img_attn_qkv": 3 * H,
    "lora_unet_double_blocks_0_img_attn_proj": H,
    "lora_unet_single_blocks_0_linear1": 7 * H,
    "lora_unet_final_layer_adaLN_modulation_1": 2 * H,
}
"""Modules of Flux: fused, whole, fused in four, permuted."""


def lora(
    names: Mapping[str, int], rank: int, alpha: float, seed: int, dtype: torch.dtype = torch.float16
) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    made: Tensors = {}
    for stem, height in names.items():
        made[f"{stem}.lora_up.weight"] = torch.randn(height, rank, generator=generator).to(dtype)
        made[f"{stem}.lora_down.weight"] = torch.randn(rank, H, generator=generator).to(dtype)
        made[f"{stem}.alpha"] = torch.tensor(alpha)
    return made


def read(path: Path) -> Adapter:
    source = TensorFolder.open(path) if path.is_dir() else open_tensors(path)
    return read_adapter(source, read_adapter_spec(source, "flux1"))


def written(
    adapter: Adapter, path: Path, layout: str, dtype: str | None = None, *, dense: bool = False
) -> AdapterFile:
    """The adapter as a file, or as PEFT's folder, held against what was foretold of it."""
    wanted = Wanted(layout, dtype, dense)
    file = adapter_file(adapter, wanted, serial)
    assert adapter_file_spec(adapter.spec, wanted).admits(file.spec.tensors)
    told = {**file.metadata, **file.hashes(file.metadata)}
    if file.spec.files:
        path.mkdir()
        for name, text in file.texts.items():
            (path / name).write_bytes(text)
        path /= "adapter_model.safetensors"
    with path.open("wb") as stream:
        write_safetensors(stream, file.spec.tensors, file.data(lambda count: None), told)
    return file


def again(adapter: Adapter, folder: Path, layout: str, name: str, dtype: str | None = None) -> Adapter:
    """The adapter saved in a layout and read from there."""
    path = folder / (name if layout == "peft" else f"{name}.safetensors")
    written(adapter, path, layout, dtype)
    return read(path)


def tensors_of(adapter: Adapter, layout: str, dtype: str | None = None, *, dense: bool = False) -> Tensors:
    stream = io.BytesIO()
    file = adapter_file(adapter, Wanted(layout, dtype, dense), serial)
    write_safetensors(stream, file.spec.tensors, file.data(lambda count: None), file.metadata)
    found: Tensors = load_bytes(stream.getvalue())
    return found


def deltas(tensors: Tensors) -> dict[str, Matrix]:
    """Each module of a kohya file, ``alpha / rank * up @ down`` in float64."""
    found = {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down, alpha = tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.alpha"]
            product = up.double().flatten(1) @ down.double().flatten(1)
            found[stem] = (product * (alpha.double() / down.shape[0])).numpy()
    return found


def same(one: Tensors, two: Tensors) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("alpha", [4.0, 3.0, 0.7])
def test_kohya_to_peft_to_kohya_is_the_same_file_bit_for_bit(tmp_path: Path, alpha: float) -> None:
    """PEFT's config holds any alpha, so that nothing is multiplied into anything."""
    before = lora(KOHYA, 4, alpha, seed=1)
    save_file(before, tmp_path / "a.safetensors")
    through = again(read(tmp_path / "a.safetensors"), tmp_path, "peft", "b")
    assert same(tensors_of(through, "kohya"), before)


@pytest.mark.parametrize(
    ("alpha", "dtype"), [(4.0, torch.float16), (3.0, torch.float16), (0.7, torch.bfloat16)]
)
def test_kohya_to_diffusers_to_kohya_keeps_the_bits_where_no_alpha_is_folded(
    tmp_path: Path, alpha: float, dtype: torch.dtype
) -> None:
    before = lora(KOHYA, 4, alpha, seed=1, dtype=dtype)
    save_file(before, tmp_path / "a.safetensors")
    through = again(read(tmp_path / "a.safetensors"), tmp_path, "diffusers", "b")
    assert same(tensors_of(through, "kohya"), before)


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 5),
    alpha=st.sampled_from([1.0, 2.0, 0.5, 3.0, 0.1, 16.0]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    order=st.permutations(["diffusers", "peft", "comfy", "kohya", "keep"]),
    modules=st.sets(st.sampled_from(sorted(KOHYA)), min_size=1),
)
def test_through_all_layouts_in_any_order_the_delta_stays_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory,
    rank: int,
    alpha: float,
    dtype: torch.dtype,
    order: list[str],
    modules: set[str],
) -> None:
    folder = tmp_path_factory.mktemp("round")
    before = lora({stem: KOHYA[stem] for stem in sorted(modules)}, rank, alpha, seed=rank, dtype=dtype)
    save_file(before, folder / "a.safetensors", {"ss_base_model_version": "flux1"})
    value = read(folder / "a.safetensors")
    for index, layout in enumerate(order):
        value = again(value, folder, layout, f"{index}")
    found, wanted = deltas(tensors_of(value, "kohya")), deltas(before)
    assert found.keys() == wanted.keys()
    for stem, matrix in wanted.items():
        np.testing.assert_array_equal(found[stem], matrix)


PARTS = {"q": (0, 1), "k": (1, 2), "v": (2, 3)}


def split(seed: int, rank: int = 2) -> Tensors:
    """A diffusers file of q, k and v, each trained on its own, without alphas."""
    generator = torch.Generator().manual_seed(seed)
    made: Tensors = {}
    for which in PARTS:
        stem = f"transformer.transformer_blocks.0.attn.to_{which}"
        made[f"{stem}.lora_A.weight"] = torch.randn(rank, H, generator=generator)
        made[f"{stem}.lora_B.weight"] = torch.randn(H, rank, generator=generator)
    return made


def test_separate_loras_are_fused_with_an_alpha_of_the_added_ranks(tmp_path: Path) -> None:
    """Keeping alpha would be two thirds wrong (sd-scripts#2204)."""
    before = split(seed=3)
    save_file(before, tmp_path / "a.safetensors")
    found = tensors_of(read(tmp_path / "a.safetensors"), "kohya")
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    assert found[f"{stem}.lora_down.weight"].shape == (6, H)
    assert float(found[f"{stem}.alpha"]) == 6.0
    wanted = [
        before[f"transformer.transformer_blocks.0.attn.to_{w}.lora_B.weight"].double()
        @ before[f"transformer.transformer_blocks.0.attn.to_{w}.lora_A.weight"].double()
        for w in PARTS
    ]
    np.testing.assert_array_equal(deltas(found)[stem], torch.cat(wanted).numpy())


def test_fused_and_split_again_each_part_has_its_own_delta(tmp_path: Path) -> None:
    save_file(split(seed=3), tmp_path / "a.safetensors")
    fused = again(read(tmp_path / "a.safetensors"), tmp_path, "kohya", "b")
    found = tensors_of(fused, "diffusers")
    for name, tensor in split(seed=3).items():
        if name.endswith(".lora_B.weight"):
            stem = name.removesuffix(".lora_B.weight")
            product = found[name].double() @ found[f"{stem}.lora_A.weight"].double()
            wanted = tensor.double() @ split(seed=3)[f"{stem}.lora_A.weight"].double()
            np.testing.assert_array_equal(product.numpy(), wanted.numpy())


def test_the_header_says_the_strength_that_no_factor_could_take(tmp_path: Path) -> None:
    save_file(lora(KOHYA, 4, 3.0, seed=1), tmp_path / "a.safetensors")
    value = read(tmp_path / "a.safetensors")
    told = json.loads(adapter_file(value, Wanted("diffusers"), serial).metadata["lora_adapter_metadata"])
    assert (told["transformer.lora_alpha"], told["transformer.r"]) == (3, 4)
    assert "lora_adapter_metadata" not in adapter_file(value, Wanted("kohya"), serial).metadata
    folded = read_of(lora(KOHYA, 4, 2.0, seed=1), tmp_path)
    assert "lora_adapter_metadata" not in adapter_file(folded, Wanted("diffusers"), serial).metadata


def test_where_one_module_cannot_take_its_strength_none_does(tmp_path: Path) -> None:
    """Else parts of a fused weight would differ in what they hold, and join inexactly."""
    tensors = lora(KOHYA, 4, 2.0, seed=1)
    name = next(name for name in tensors if name.endswith(".lora_up.weight"))
    down = name.replace("_up", "_down")
    tensors |= {part: torch.full_like(tensors[part], 2.0**-24).half() for part in (name, down)}
    value = read_of(tensors, tmp_path)
    written = adapter_file(value, Wanted("diffusers"), serial)
    told = json.loads(written.metadata["lora_adapter_metadata"])
    assert (told["transformer.lora_alpha"], told["transformer.alpha_pattern"]) == (2, {})


def read_of(tensors: Tensors, folder: Path, **metadata: str) -> Adapter:
    save_file(tensors, folder / "x.safetensors", metadata or None)
    return read(folder / "x.safetensors")


def test_in_a_file_without_alphas_the_product_alone_is_the_delta(tmp_path: Path) -> None:
    """What every reader of diffusers' names makes of it, whether it knows alphas or not."""
    before = lora({"lora_unet_double_blocks_0_img_attn_proj": H}, 4, 1.0, seed=1, dtype=torch.bfloat16)
    found = tensors_of(read_of(before, tmp_path), "diffusers")
    stem = "transformer.transformer_blocks.0.attn.to_out.0"
    assert set(found) == {f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"}
    product = found[f"{stem}.lora_B.weight"].double() @ found[f"{stem}.lora_A.weight"].double()
    np.testing.assert_array_equal(product.numpy(), next(iter(deltas(before).values())))


def test_peft_is_a_folder_whose_config_is_foretold_but_for_its_size(tmp_path: Path) -> None:
    value = read_of(lora(KOHYA, 4, 3.0, seed=1), tmp_path)
    foretold = adapter_file_spec(value.spec, Wanted("peft"))
    file = written(value, tmp_path / "p", "peft")
    assert foretold.files == file.spec.files == {"adapter_model.safetensors": tuple(foretold.tensors)}
    assert dict(foretold.others) == {"adapter_config.json": 0}
    assert dict(file.spec.others) == {"adapter_config.json": len(file.texts["adapter_config.json"])}
    assert all(name.startswith("base_model.model.") for name in file.spec.tensors)


def test_the_metadata_are_the_files_own_in_every_layout(tmp_path: Path) -> None:
    value = read_of(
        lora(KOHYA, 4, 2.0, seed=1), tmp_path, ss_output_name="ink", sshs_model_hash="stale", format="np"
    )
    for layout in ("keep", "kohya", "comfy", "diffusers", "peft"):
        file = adapter_file(value, Wanted(layout), serial)
        assert file.metadata["ss_output_name"] == "ink"
        assert file.metadata["format"] == "pt"
        assert file.metadata["ss_network_module"] == "networks.lora"
        assert file.metadata["ss_network_alpha"] == ("4" if layout == "diffusers" else "2")
        assert "sshs_model_hash" not in file.metadata
        diffusers = layout in ("diffusers", "peft")
        assert (file.metadata["modelspec.implementation"] == "diffusers") is diffusers
        assert file.hashes(file.metadata)["sshs_model_hash"] != "stale"


def test_the_hashes_are_of_the_tensors_after_the_cast(tmp_path: Path) -> None:
    value = read_of(lora(KOHYA, 4, 2.0, seed=1, dtype=torch.float32), tmp_path)
    path = tmp_path / "o.safetensors"
    file = written(value, path, "kohya", "BF16")
    raw = path.read_bytes()
    data = raw[8 + int.from_bytes(raw[:8], "little") :]
    assert file.hashes(file.metadata)["sshs_model_hash"] == hashlib.sha256(data).hexdigest()


def test_a_sum_of_formats_is_refused_or_written_dense(tmp_path: Path) -> None:
    stem = "lora_unet_double_blocks_0_img_attn_proj"
    generator = torch.Generator().manual_seed(5)
    loha = {f"{stem}.hada_w{n}_{side}": torch.randn(size, generator=generator)
            for n in (1, 2) for side, size in (("a", (H, 2)), ("b", (2, H)))}  # fmt: skip
    plain = lora({stem: H}, 4, 2.0, seed=1, dtype=torch.float32)
    save_file(loha, tmp_path / "loha.safetensors", {"ss_base_model_version": "flux1"})
    both = concat([("a", 0.5, read_of(plain, tmp_path)), ("b", -1.0, read(tmp_path / "loha.safetensors"))])
    with pytest.raises(RecipeError, match="1 module of a sum that no file can hold"):
        adapter_file_spec(both.spec, Wanted("kohya"))
    found = tensors_of(both, "kohya", "F64", dense=True)
    one = loha[f"{stem}.hada_w1_a"].double() @ loha[f"{stem}.hada_w1_b"].double()
    two = loha[f"{stem}.hada_w2_a"].double() @ loha[f"{stem}.hada_w2_b"].double()
    wanted = 0.5 * deltas(plain)[stem] - (one * two).numpy()
    assert set(found) == {f"{stem}.diff"}
    np.testing.assert_allclose(found[f"{stem}.diff"].numpy(), wanted, rtol=1e-12)


def test_nothing_is_read_twice_for_one_tensor_and_the_next_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = adapter_file(read_of(lora(KOHYA, 4, 2.0, seed=1), tmp_path), Wanted("kohya"), serial)
    folded: list[Delta] = []
    original = Delta.folded
    monkeypatch.setattr(Delta, "folded", lambda self, dtype: folded.append(self) or original(self, dtype))
    for _, pieces in file.data(lambda count: None):
        list(pieces)
    assert len(folded) == len(KOHYA)


@pytest.mark.parametrize("alpha", [4.0, float("inf")])
def test_an_alpha_that_counts_for_nothing_is_kept_for_the_loader_that_wants_one(
    tmp_path: Path, alpha: float
) -> None:
    """LyCORIS loads no LoKr of two whole halves without the alpha that it then ignores."""
    stem = "lora_unet_double_blocks_0_img_attn_proj"
    before = {f"{stem}.lokr_w1": torch.eye(2), f"{stem}.lokr_w2": torch.ones(H // 2, H // 2)}
    before[f"{stem}.alpha"] = torch.tensor(alpha)
    assert same(tensors_of(read_of(before, tmp_path), "keep"), before)


def test_a_file_of_nothing_is_refused(tmp_path: Path) -> None:
    save_file(lora(KOHYA, 4, 2.0, 0), tmp_path / "x.safetensors")
    value = read(tmp_path / "x.safetensors")
    none = {module: replace(known, rank=0) for module, known in value.spec.modules.items()}
    with pytest.raises(BuildError) as caught:
        adapter_file(Adapter(replace(value.spec, modules=none), value.modules), Wanted(), serial)
    assert caught.value.code == "nothing-left"
