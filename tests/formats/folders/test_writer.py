"""A checkpoint is written as the folder that its programs load."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from lorapipe.errors import InputError, LorapipeError
from lorapipe.formats.containers.output import TensorData
from lorapipe.formats.folders.writer import FolderSource, folder_spec, index_texts, write_folder
from lorapipe.store.contents import listing_digest
from lorapipe.weights.specs import CheckpointSpec, FileSpec, FolderSpec, TensorSpec

from ..model_folders import hf_tensors
from ..sources import seeded

PIPELINE = {
    "text_encoder/a.weight": seeded(4, 5, seed=1),
    "unet/a.weight": seeded(6, 7, seed=2),
    "unet/b.weight": seeded(8, 9, seed=3),
    "unet/c.weight": seeded(2, 3, seed=4),
}


def specs(tensors: dict[str, torch.Tensor]) -> dict[str, TensorSpec]:
    return {name: TensorSpec("F32", tuple(tensor.shape)) for name, tensor in tensors.items()}


def checkpoint(tensors: dict[str, torch.Tensor], folder: FolderSpec | None = None) -> CheckpointSpec:
    return CheckpointSpec(None, specs(tensors), {}, folder=folder)


def pipeline(path: Path, **more: object) -> CheckpointSpec:
    """A spec of the pipeline, with a config, a licence and a README in its folder."""
    files = {"model_index.json": "{}", "unet/config.json": "{}", "LICENSE": "MIT", "README.md": "# by me"}
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    carried = {name: len(text) for name, text in files.items()}
    stems = {"text_encoder": "model", "unet": "diffusion_pytorch_model"}
    folder = FolderSpec(path, stems, carried)
    return CheckpointSpec(None, specs(PIPELINE), {}, folder=folder, **more)  # type: ignore[arg-type]


class Target:
    """A folder in which files are made one after the other, as a staged one does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int | None] = {}
        self._open: BinaryIO = io.BytesIO()

    def create(self, name: str, size: int | None = None) -> BinaryIO:
        self._open.close()
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        self._open = (self.path / name).open("xb")
        self.sizes[name] = size
        return self._open

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    made = Target(tmp_path / "out")
    yield made
    made.close()


def data(tensors: dict[str, torch.Tensor]) -> TensorData:
    for name, tensor in tensors.items():
        yield name, (tensor.numpy().tobytes(),)


# --- which files ------------------------------------------------------------------------


def test_a_checkpoint_of_one_file_becomes_model_safetensors_or_its_shards() -> None:
    tensors = hf_tensors(3)  # of 48, 60 and 72 bytes
    one = folder_spec(checkpoint(tensors), specs(tensors), 10_000)
    two = folder_spec(checkpoint(tensors), specs(tensors), 110)

    assert one.files == {"model.safetensors": tuple(tensors)}
    assert one.others == {}
    assert list(two.files) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert list(two.others) == ["model.safetensors.index.json"]


def test_each_component_has_its_own_files_under_the_names_it_came_with(tmp_path: Path) -> None:
    spec = folder_spec(pipeline(tmp_path), specs(PIPELINE), 350)

    assert spec.files == {
        "text_encoder/model.safetensors": ("text_encoder/a.weight",),
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors": ("unet/a.weight",),
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors": ("unet/b.weight", "unet/c.weight"),
    }
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in spec.others


def test_the_plan_knows_the_bytes_of_all_files_but_their_headers(tmp_path: Path) -> None:
    spec = folder_spec(pipeline(tmp_path), specs(PIPELINE), 350)
    weights = sum(tensor.nbytes for tensor in PIPELINE.values())
    carried = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    (text,) = index_texts(spec).values()
    assert spec.nbytes == weights + carried + len(text)


def test_after_a_shuffle_what_only_describes_the_model_stays_behind(tmp_path: Path) -> None:
    spec = folder_spec(pipeline(tmp_path, hidden=True), specs(PIPELINE), 10_000)
    assert set(spec.others) == {"model_index.json", "unet/config.json", "LICENSE"}


def test_the_index_of_a_component_has_the_names_within_it(tmp_path: Path) -> None:
    spec = folder_spec(pipeline(tmp_path), specs(PIPELINE), 350)
    (text,) = index_texts(spec).values()
    assert json.loads(text) == {
        "metadata": {"total_size": 4 * (42 + 72 + 6)},
        "weight_map": {
            "a.weight": "diffusion_pytorch_model-00001-of-00002.safetensors",
            "b.weight": "diffusion_pytorch_model-00002-of-00002.safetensors",
            "c.weight": "diffusion_pytorch_model-00002-of-00002.safetensors",
        },
    }


# --- what is in them --------------------------------------------------------------------


def test_what_is_written_is_what_the_library_reads_and_what_came_along_is_unchanged(
    tmp_path: Path, target: Target
) -> None:
    given = pipeline(tmp_path / "in")
    spec = folder_spec(given, specs(PIPELINE), 350)
    told: list[int] = []

    write_folder(
        target.create, spec, data(PIPELINE), {"x": "1"}, FolderSource.of(spec, given.folder), told.append
    )
    target.close()

    found = {
        f"{path.parent.name}/{name}": tensor
        for path in target.path.rglob("*.safetensors")
        for name, tensor in load_file(path).items()
    }
    assert found.keys() == PIPELINE.keys()
    for name, tensor in PIPELINE.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    for name in ("model_index.json", "unet/config.json", "LICENSE", "README.md"):
        assert (target.path / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert sum(told) == spec.nbytes


def test_size_and_digests_are_those_of_the_files_on_the_disk(tmp_path: Path, target: Target) -> None:
    given = pipeline(tmp_path / "in")
    spec = folder_spec(given, specs(PIPELINE), 350)
    written = write_folder(target.create, spec, data(PIPELINE), {}, FolderSource.of(spec, given.folder))
    target.close()

    files = {
        path.relative_to(target.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.path.rglob("*")
        if path.is_file()
    }
    assert written.files == files
    assert written.sha256 == listing_digest(files)
    assert written.size == sum(path.stat().st_size for path in target.path.rglob("*") if path.is_file())
    assert set(files) == {*spec.files, *spec.others}


def test_the_first_file_has_all_metadata_and_each_other_its_format(tmp_path: Path, target: Target) -> None:
    tensors = hf_tensors(3)
    spec = folder_spec(checkpoint(tensors), specs(tensors), 1)
    write_folder(target.create, spec, data(tensors), {"x": "1"}, FolderSource.of(spec, None))
    target.close()

    told = []
    for name in spec.files:
        with safe_open(target.path / name, "pt") as file:
            told.append(file.metadata())
    assert told == [{"format": "pt", "x": "1"}, {"format": "pt"}, {"format": "pt"}]


def test_a_folder_of_one_file_has_the_bytes_that_the_library_writes(tmp_path: Path, target: Target) -> None:
    tensors = hf_tensors(3)
    spec = folder_spec(checkpoint(tensors), specs(tensors), 10_000)
    write_folder(target.create, spec, data(tensors), {"format": "pt"}, FolderSource.of(spec, None))
    target.close()
    assert (target.path / "model.safetensors").read_bytes() == save(tensors, {"format": "pt"})


def test_each_file_is_opened_with_about_its_size(target: Target) -> None:
    tensors = hf_tensors(2)
    spec = folder_spec(checkpoint(tensors), specs(tensors), 1)
    write_folder(target.create, spec, data(tensors), {}, FolderSource.of(spec, None))
    sizes = [target.sizes[name] for name in spec.files]
    assert sizes == [tensor.nbytes for tensor in tensors.values()]


def test_texts_are_written_beside_the_weights(target: Target) -> None:
    spec = FileSpec(specs({"a": seeded(2, seed=1)}), files={"adapter_model.safetensors": ("a",)})
    besides = FolderSource({"adapter_config.json": b'{"r": 8}'})
    written = write_folder(target.create, spec, data({"a": seeded(2, seed=1)}), {}, besides)
    target.close()
    assert (target.path / "adapter_config.json").read_bytes() == b'{"r": 8}'
    assert set(written.files) == {"adapter_model.safetensors", "adapter_config.json"}


@pytest.mark.parametrize("wrong", ["order", "too few", "too many"])
def test_data_in_another_order_or_number_are_a_fault_of_ours(target: Target, wrong: str) -> None:
    tensors = hf_tensors(3)
    spec = folder_spec(checkpoint(tensors), specs(tensors), 110)
    names = list(tensors)
    given = {
        "order": [names[1], names[0], names[2]],
        "too few": names[:2],
        "too many": [*names, names[0]],
    }[wrong]
    with pytest.raises(LorapipeError) as caught:
        write_folder(
            target.create,
            spec,
            ((name, (tensors[name].numpy().tobytes(),)) for name in given),
            {},
            FolderSource.of(spec, None),
        )
    assert caught.value.code == "internal-wrong-order"


def test_a_file_that_became_a_link_since_the_plan_is_not_followed(tmp_path: Path, target: Target) -> None:
    given = pipeline(tmp_path / "in")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in" / "LICENSE").unlink()
    (tmp_path / "in" / "LICENSE").symlink_to("../secret")
    spec = folder_spec(given, specs(PIPELINE), 10_000)
    with pytest.raises(InputError) as caught:
        write_folder(target.create, spec, data(PIPELINE), {}, FolderSource.of(spec, given.folder))
    assert caught.value.code == "folder-link"
