"""Hashes of a file, held against hashlib over its bytes and against kohya's own."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from lorapipe.formats.files import open_tensors
from lorapipe.formats.hashes import FileHashes, file_hashes, short_hashes


def hashes(path: Path) -> FileHashes:
    sha256 = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    with open_tensors(path) as source:
        return file_hashes(source, path, sha256)


def kohya(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> tuple[str, str]:
    """The two hashes as ``precalculate_safetensors_hashes`` makes them: over a save with ``ss_`` keys alone.

    One key at most: the library writes several in any order.
    """
    whole = save(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    start = 8 + int.from_bytes(whole[:8], "little")
    legacy = hashlib.sha256(whole[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    return hashlib.sha256(whole[start:]).hexdigest(), legacy


@pytest.mark.parametrize("rows", [3, 700])
def test_hashes_are_those_of_the_programs_that_made_them_up(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "b.lora_up.weight": torch.randn(rows, 512),
        "a.lora_down.weight": torch.randn(4, rows).half(),
        "c.alpha": torch.tensor(4.0),
        "d": torch.empty(0, 3),
    }
    metadata = {"ss_network_dim": "4", "modelspec.title": "x"}
    save_file(tensors, path, metadata)
    data = path.read_bytes()
    found = hashes(path)
    start = 8 + int.from_bytes(data[:8], "little")
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.autov1 == hashlib.sha256(data[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    assert found.autov2 == found.sha256[:10]
    assert found.autov3 == hashlib.sha256(data[start:]).hexdigest()[:12]
    assert found.data.startswith(found.autov3)
    assert (found.sshs, found.sshs_legacy) == kohya(tensors, metadata)


def test_of_a_file_in_another_order_kohyas_hash_is_that_of_its_own_order(tmp_path: Path) -> None:
    one, two = torch.arange(3.0), torch.arange(4).half()
    header = (
        b'{"h":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},'
        b'"f":{"dtype":"F32","shape":[3],"data_offsets":[8,20]}}'
    )
    body = two.numpy().tobytes() + one.numpy().tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    found = hashes(path)
    assert found.data == hashlib.sha256(body).hexdigest()
    assert found.sshs == kohya({"h": two, "f": one}, {})[0]
    assert found.sshs != found.data


def test_kohyas_merged_files_tell_the_hash_that_is_found(shared: Callable[[str], Path]) -> None:
    for path in sorted(shared("golden").glob("merge_sd15/expected.safetensors")):
        with open_tensors(path) as source:
            told = source.metadata.get("sshs_model_hash")
        assert told is not None
        assert hashes(path).sshs == told


def test_a_pickle_has_the_hashes_of_a_file_and_a_folder_but_one(tmp_path: Path) -> None:
    pickle = tmp_path / "a.pt"
    stream = io.BytesIO()
    torch.save({"x.weight": torch.ones(2, 2)}, stream)
    pickle.write_bytes(stream.getvalue())
    found = hashes(pickle)
    assert found.autov2 == hashlib.sha256(stream.getvalue()).hexdigest()[:10]
    assert (found.data, found.autov3, found.sshs, found.sshs_legacy) == ("", "", "", "")
    folder = tmp_path / "m"
    folder.mkdir()
    save_file({"x.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    with open_tensors(folder) as source:
        assert file_hashes(source, folder, "ab" * 32) == FileHashes("ab" * 32)
    assert FileHashes("ab" * 32).autov2 == ""


def test_where_the_sha256_is_known_short_hashes_need_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.randn(600_000)}, path)
    whole = hashes(path)
    assert short_hashes(path, whole.sha256) == FileHashes(whole.sha256, whole.autov1)
    assert load_file(path)["x"].shape == (600_000,)
