from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.data import Checkpoint, Lora, make_checkpoint, make_headers, make_lora
from benchmarks.layouts import tensors

LORA = Lora("sd15", 4, 1, divide=32)


def test_a_checkpoint_reads_as_the_layout_says(tmp_path: Path) -> None:
    found = load_file(make_checkpoint(tmp_path, Checkpoint("sd15", 32)))
    wanted = tensors("sd15", divide=32)
    kinds = {"F16": np.float16, "I64": np.int64}
    assert {key: (a.shape, a.dtype) for key, a in found.items()} == {
        key: (t.shape, np.dtype(kinds[t.dtype])) for key, t in wanted.items()
    }
    assert all(np.isfinite(array).all() for array in found.values())


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (make_lora(tmp_path / name, LORA).read_bytes() for name in "ab")
    assert first == second
    other = make_lora(tmp_path / "a", Lora("sd15", 4, 2, divide=32)).read_bytes()
    assert other != first


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = make_lora(tmp_path, LORA)
    path.write_bytes(b"kept")
    assert make_lora(tmp_path, LORA).read_bytes() == b"kept"


def test_a_lora_has_the_spectrum_of_training(tmp_path: Path) -> None:
    found = load_file(make_lora(tmp_path, LORA))
    for module in LORA.modules()[::40]:
        up = found[f"{module.stem}.lora_up.weight"].reshape(module.shape[0], 4).astype(np.float64)
        down = found[f"{module.stem}.lora_down.weight"].reshape(4, -1).astype(np.float64)
        values = np.linalg.svd(up @ down, compute_uv=False)[:4]
        # Random directions in few dimensions are not orthogonal; the fall is there all the same.
        assert values[0] > 1.5 * values[3] > 0
        assert found[f"{module.stem}.alpha"] == 2


def test_a_taken_lora_is_part_of_the_whole(tmp_path: Path) -> None:
    whole = load_file(make_lora(tmp_path, LORA))
    taken = load_file(make_lora(tmp_path, Lora("sd15", 4, 1, divide=32, take=5)))
    assert len(taken) == 15
    for key, array in taken.items():
        np.testing.assert_array_equal(array, whole[key])


@pytest.mark.parametrize("take", [1, 5, 263, 264, 1000])
def test_modules_taken_are_different_and_as_many_as_asked(take: int) -> None:
    found = Lora("sd15", 4, 1, take=take).modules()
    assert len({module.stem for module in found}) == len(found) == min(take, 264)


@pytest.mark.parametrize("power", [1, 2])
def test_the_modules_that_stand_for_all_have_their_share_of_the_work(power: int) -> None:
    def operations(lora: Lora) -> float:
        sizes = [(m.shape[0], int(np.prod(m.shape[1:]))) for m in lora.modules()]
        return sum(min(size) ** (3 - power) * max(size) ** power for size in sizes)

    # The thin SVD of an O x I matrix takes about O * I * min(O, I), the full one max(O, I)^2 * min(O, I).
    share = operations(Lora("sdxl", 32, 1)) / operations(Lora("sdxl", 32, 1, take=36))
    assert share == pytest.approx(986 / 36, rel=0.01)


def test_headers_are_readable_and_take_no_room(tmp_path: Path) -> None:
    (path,) = make_headers(tmp_path, [Lora("sdxl", 32, 1)])
    with safe_open(path, "numpy") as file:
        assert len(list(file.keys())) == 3 * 986
    assert path.stat().st_size > 100e6
    assert path.stat().st_blocks * 512 < 2e6
