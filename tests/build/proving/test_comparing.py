"""Two files of weights, tensor by tensor, whatever holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorapipe.build.proving.comparing import compare
from lorapipe.errors import InputError
from lorapipe.weights import blocks
from lorapipe.weights.specs import TensorSpec

ONE = {"a.weight": torch.arange(12.0).reshape(4, 3), "b.bias": torch.ones(2).half(), "n": torch.tensor(7)}


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


def test_files_of_the_same_tensors_have_the_same_numbers_whatever_the_order_and_header(
    tmp_path: Path,
) -> None:
    old = write(tmp_path / "old.safetensors", ONE, {"kept": "1", "torch": "2.12", "gone": "x"})
    new = write(tmp_path / "new.safetensors", dict(reversed(ONE.items())), {"kept": "1", "torch": "2.13"})

    found = compare(old, new)

    assert found.same_numbers
    assert (found.tensors, found.differing, found.structure) == (3, (), ())
    assert found.besides == ("metadata gone", "metadata torch")


def test_each_tensor_that_differs_is_measured(tmp_path: Path) -> None:
    other = {**ONE, "a.weight": ONE["a.weight"].clone(), "n": torch.tensor(9)}
    other["a.weight"][3, 2] = 11 + 2.0**-18
    old, new = write(tmp_path / "o.safetensors", ONE), write(tmp_path / "n.safetensors", other)

    found = compare(old, new)

    assert not found.same_numbers
    first, second = sorted(found.differing, key=lambda each: each.name)
    assert (first.name, first.spec) == ("a.weight", TensorSpec("F32", (4, 3)))
    assert (first.closeness.differing, first.closeness.values) == (1, 12)
    assert first.closeness.max_abs == 2.0**-18
    assert first.closeness.max_ulps == 4
    assert (second.name, second.closeness.max_abs) == ("n", 2)


def test_tensors_that_came_went_or_are_of_another_type_are_named(tmp_path: Path) -> None:
    other = {"a.weight": ONE["a.weight"].half(), "b.bias": ONE["b.bias"], "m": torch.zeros(1)}
    found = compare(write(tmp_path / "o.safetensors", ONE), write(tmp_path / "n.safetensors", other))

    assert found.structure == ("a.weight: F32 4x3 -> F16 4x3", "m: new", "n: gone")
    assert (found.tensors, found.same_numbers) == (1, False)


def test_a_tensor_is_read_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorapipe.build.proving.comparing.BLOCK_ELEMENTS", 10)
    assert blocks.BLOCK_ELEMENTS > 10
    big = torch.randn(33, 4, generator=torch.Generator().manual_seed(0))
    other = big.clone()
    other[::5] += 1
    empty = torch.zeros(0, 4)
    old = write(tmp_path / "o.safetensors", {"w": big, "e": empty})
    found = compare(old, write(tmp_path / "n.safetensors", {"w": other, "e": empty}))

    (only,) = found.differing
    assert (only.closeness.values, only.closeness.differing) == (132, 28)


def test_a_pickle_is_compared_as_a_safetensors_file_is(tmp_path: Path) -> None:
    torch.save(ONE, tmp_path / "x.ckpt")
    found = compare(tmp_path / "x.ckpt", write(tmp_path / "n.safetensors", ONE))
    assert found.same_numbers


def folder(path: Path, tensors: dict[str, torch.Tensor], text: str) -> Path:
    path.mkdir()
    write(path / "model.safetensors", tensors)
    (path / "config.json").write_text(text)
    return path


def test_of_folders_the_other_files_count_too(tmp_path: Path) -> None:
    old = folder(tmp_path / "old", ONE, '{"a": 1}')
    new = folder(tmp_path / "new", ONE, '{"a": 2}')
    (new / "more.txt").write_text("")

    found = compare(old, new)

    assert found.same_numbers
    assert found.besides == ("file config.json", "file more.txt")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "b.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(InputError):
        compare(broken, write(tmp_path / "n.safetensors", ONE))
