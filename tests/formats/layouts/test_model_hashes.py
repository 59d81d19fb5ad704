"""The hashes of a LoRA file against kohya's recipe, done with the safetensors library."""

from __future__ import annotations

import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lorapipe.formats.containers.safetensors_writer import library_order
from lorapipe.formats.layouts.model_hashes import model_hashes
from lorapipe.weights.specs import TensorSpec
from lorapipe.weights.tensors import to_bytes

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def as_kohya_does(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> dict[str, str]:
    """A save with the ``ss_`` keys only; a sha256 from the data on; one of 64 KiB at 1 MiB."""
    file = io.BytesIO(save(tensors, {k: v for k, v in metadata.items() if k.startswith("ss_")}))
    file.seek(8 + int.from_bytes(file.read(8), "little"))
    model = hashlib.sha256(file.read()).hexdigest()
    file.seek(0x100000)
    return {"sshs_model_hash": model, "sshs_legacy_hash": hashlib.sha256(file.read(0x10000)).hexdigest()[:8]}


def ours(tensors: dict[str, torch.Tensor], metadata: dict[str, str], piece: int = 1 << 20) -> dict[str, str]:
    specs = library_order({n: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for n, t in tensors.items()})

    def pieces(tensor: torch.Tensor) -> list[memoryview]:
        data = to_bytes(tensor)
        return [data[at : at + piece] for at in range(0, len(data), piece)]

    return model_hashes(specs, ((name, pieces(tensors[name])) for name in specs), metadata)


def lora(*sizes: int, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made: dict[str, torch.Tensor] = {}
    for index, size in enumerate(sizes):
        made[f"m{index}.lora_up.weight"] = torch.randn(size, generator=generator).to(dtype)
        made[f"m{index}.alpha"] = torch.tensor(float(index))
    return made


METADATA = {"ss_network_dim": "4", "ss_tag_frequency": '{"é": 1}', "modelspec.title": "x", "format": "pt"}


@pytest.mark.parametrize("piece", [1000, 1 << 16, 1 << 20])
@pytest.mark.parametrize("sizes", [(10,), (400_000, 300_000), (523_000, 40_000), (600_000,)])
def test_both_hashes_are_kohyas(sizes: tuple[int, ...], piece: int) -> None:
    """Files that end before the first MiB, just in it, and after the window."""
    tensors = lora(*sizes)
    assert ours(tensors, METADATA, piece) == as_kohya_does(tensors, METADATA)


def test_a_header_that_reaches_into_the_window_counts() -> None:
    metadata = {"ss_tag_frequency": "x" * 0x108000}
    tensors = lora(1000, dtype=torch.bfloat16)
    assert ours(tensors, metadata) == as_kohya_does(tensors, metadata)


def test_metadata_that_are_not_the_trainers_do_not_count() -> None:
    tensors = lora(600_000)
    assert ours(tensors, METADATA) == ours(tensors, {**METADATA, "lorapipe.provenance": "{}"})
    assert ours(tensors, METADATA) != ours(tensors, {**METADATA, "ss_more_text": "x" * 64})


def test_a_file_shorter_than_the_window_has_the_hash_of_nothing() -> None:
    assert ours(lora(10), {})["sshs_legacy_hash"] == "e3b0c442"


@settings(max_examples=30, deadline=None)
@given(st.integers(0x7F000, 0x89000), st.integers(1000, 0x30000))
def test_wherever_the_window_falls_and_however_the_data_come(numbers: int, piece: int) -> None:
    tensors = {"t": torch.arange(numbers).to(torch.float32).to(torch.bfloat16)}
    assert ours(tensors, METADATA, piece) == as_kohya_does(tensors, METADATA)
