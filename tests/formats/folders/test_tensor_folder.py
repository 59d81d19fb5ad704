"""A folder is read as one file would be."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.tensor_folder import TensorFolder
from lorapipe.weights.specs import TensorSpec

from ..model_folders import diffusers_folder, hf_folder, hf_tensors, index_of, peft_folder, shards
from ..sources import seeded


def values(source: TensorFolder) -> dict[str, torch.Tensor]:
    found = {}
    for name, spec in source.tensors.items():
        raw = torch.frombuffer(source.read(name), dtype=torch.float32)
        found[name] = raw.reshape(spec.shape)
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_hold_what_one_file_would(tmp_path: Path, count: int, suffix: str) -> None:
    tensors = hf_tensors(5)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    shards(tmp_path, tensors, count, stem=stem, suffix=suffix)

    with open_tensors(tmp_path) as source:
        assert isinstance(source, TensorFolder)
        found = values(source)
        specs = dict(source.tensors)

    assert specs == {name: TensorSpec("F32", tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_tensors_stand_in_the_order_of_files_and_then_of_the_data(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m", hf_tensors(5), 2)
    names = list(hf_tensors(5))
    with open_tensors(folder) as source:
        assert list(source.tensors) == [*names[0::2], *names[1::2]]


def test_components_give_their_names_to_their_tensors(tmp_path: Path) -> None:
    parts = {"unet": {"a": seeded(2, 3, seed=1)}, "text_encoder": {"a": seeded(4, seed=2)}}
    with open_tensors(diffusers_folder(tmp_path / "p", parts)) as source:
        assert isinstance(source, TensorFolder)
        found = values(source)
        stems = source.folder.stems
    assert list(found) == ["text_encoder/a", "unet/a"]
    torch.testing.assert_close(found["unet/a"], parts["unet"]["a"], rtol=0, atol=0)
    torch.testing.assert_close(found["text_encoder/a"], parts["text_encoder"]["a"], rtol=0, atol=0)
    assert stems == {"text_encoder": "model", "unet": "diffusion_pytorch_model"}


def test_rows_are_read_by_several_threads_from_several_files(tmp_path: Path) -> None:
    tensors = hf_tensors(5)
    with open_tensors(hf_folder(tmp_path / "m", tensors, 3)) as source, ThreadPoolExecutor(4) as pool:
        errands = [(name, row) for name in tensors for row in range(4)] * 5
        read = pool.map(lambda errand: bytes(source.read(errand[0], errand[1], errand[1] + 1)), errands)
        for (name, row), data in zip(errands, read, strict=True):
            assert data == tensors[name][row].numpy().tobytes()


def test_metadata_is_that_of_the_first_file_and_what_only_others_have(tmp_path: Path) -> None:
    save_file({"a": seeded(2, seed=1)}, tmp_path / "m-00001-of-00002.safetensors", {"format": "pt", "x": "1"})
    save_file({"b": seeded(2, seed=1)}, tmp_path / "m-00002-of-00002.safetensors", {"x": "2", "y": "3"})
    index_of(tmp_path, {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"})
    with open_tensors(tmp_path) as source:
        assert dict(source.metadata) == {"format": "pt", "x": "1", "y": "3"}


def test_pefts_config_is_there_for_who_reads_the_adapter(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a", {"x": seeded(2, seed=1)}, {"r": 8})
    with open_tensors(folder) as source:
        assert isinstance(source, TensorFolder)
        assert source.config == {"r": 8}
        assert source.path == folder


def test_the_size_is_that_of_all_that_counts(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    whole = sum(path.stat().st_size for path in folder.iterdir())
    (folder / "pytorch_model.bin").write_bytes(bytes(100))
    with open_tensors(folder) as source:
        assert source.size == whole


def test_a_variant_is_of_folders_only(tmp_path: Path) -> None:
    save_file(hf_tensors(), tmp_path / "model.fp16.safetensors")
    with open_tensors(tmp_path, "fp16") as source:
        assert len(source.tensors) == 5
    with pytest.raises(RecipeError) as caught:
        open_tensors(tmp_path / "model.fp16.safetensors", "fp16")
    assert (caught.value.code, caught.value.option) == ("variant-of-a-file", "variant")


def test_a_damaged_shard_is_named_in_the_message_and_the_folder_as_the_place(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"abc")
    with pytest.raises(InputError) as caught:
        open_tensors(folder)
    assert caught.value.where == str(folder)
    assert caught.value.message.startswith("model-00002-of-00002.safetensors: has 3 bytes")
    assert caught.value.code == "safetensors-too-short"


def test_shards_are_held_against_their_index(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    weight_map = dict.fromkeys(hf_tensors(5), "model-00001-of-00002.safetensors")
    index_of(folder, {**weight_map, "lost": "model-00002-of-00002.safetensors"})
    with pytest.raises(ManyErrors) as caught:
        open_tensors(folder)
    assert [error.code for error in caught.value.errors] == ["tensors-not-in-shard", "tensors-not-in-index"]
    assert "3 tensors that the index puts" in str(caught.value.errors[0])


def test_what_was_opened_before_a_fault_is_closed(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m", hf_tensors(5), 4)
    (folder / "model-00004-of-00004.safetensors").write_bytes(b"abc")
    before = lowest_free()
    with pytest.raises(InputError):
        open_tensors(folder)
    assert lowest_free() == before


def lowest_free() -> int:
    """The descriptor that the next file will have."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def test_a_closed_folder_cannot_be_read(tmp_path: Path) -> None:
    source = open_tensors(hf_folder(tmp_path / "m"))
    name = next(iter(source.tensors))
    source.close()
    source.close()
    with pytest.raises(ValueError, match="is closed"):
        source.read(name)


def test_a_shard_that_changes_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    with open_tensors(folder) as source:
        path = folder / "model-00001-of-00002.safetensors"
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(InputError) as caught:
            source.read(next(iter(source.tensors)))
    assert caught.value.code == "input-changed"
