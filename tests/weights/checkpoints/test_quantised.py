"""Scaled fp8 is multiplied out, added to in full precision, and scaled so that its largest value fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.quantised import Rescaled, dequantised, largest, new_scales, unscaled
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.inference.output import saved_checkpoint_specs
from lorapipe.weights.specs import CheckpointSpec, Place, Scales, TensorSpec
from lorapipe.weights.tensors import from_bytes
from tests.weights.samples import LINEAR, Matrix, Memory, adapter, dense, to_numpy

SHAPE = (12, 10)  # of LINEAR
GRIDS = {
    "tensor": ((), (12, 10)),
    "rows": ((12, 1), (1, 10)),
    "blocks": ((12, 5, 1), (1, 2)),
    "grid": ((3, 2), (4, 8)),
}
LARGEST = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0}
TORCH = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def spread(scales: Matrix, block: tuple[int, int]) -> Matrix:
    """The scale of each value, one by one."""
    out = np.empty(SHAPE)
    grid = scales.reshape(-(-SHAPE[0] // block[0]), -(-SHAPE[1] // block[1]))
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            out[i, j] = grid[i // block[0], j // block[1]]
    return out


def model(grid: str, dtype: str = "F8_E4M3") -> tuple[Checkpoint, Matrix]:
    """A checkpoint of one scaled weight and a bias, and the weight's true values."""
    shape, block = GRIDS[grid]
    rng = np.random.default_rng(5)
    scales = torch.from_numpy(rng.uniform(0.001, 0.01, shape)).to(torch.float32)
    stored = torch.from_numpy(rng.uniform(-400, 400, SHAPE)).to(TORCH[dtype])
    source = Memory(
        {"m.scale_weight": scales, "m.weight": stored, "m.bias": torch.ones(12, dtype=torch.bfloat16)}
    )
    keys = {LINEAR.key: (Place("m.weight"),)}
    spec = CheckpointSpec(
        "sd1",
        source.tensors,
        keys,
        scales={"m.weight": Scales("m.scale_weight", block)},
        companions=frozenset({"m.scale_weight"}),
    )
    return Checkpoint(spec, source), to_numpy(stored) * spread(to_numpy(scales), block)


def read(value: Checkpoint, key: str, dtype: str | None = None) -> torch.Tensor:
    spec = saved_checkpoint_specs(value.spec, dtype)[key]
    return from_bytes(bytearray().join(value.chunks(key, dtype)), spec)


def merged(base: Checkpoint, weight: float = 0.7) -> tuple[Checkpoint, Matrix]:
    lora = adapter(4, 0.02)
    only = type(lora)(
        type(lora.spec)("sd1", {LINEAR: lora.spec.modules[LINEAR]}, "F32"), {LINEAR: lora.modules[LINEAR]}
    )
    return merge(base, [(weight, only, bind(only.spec, base.spec))]), weight * dense(lora.delta(LINEAR))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_merge_scales_the_sum_so_that_each_block_fills_the_type(grid: str, dtype: str) -> None:
    base, true = model(grid, dtype)
    value, gain = merged(base)
    expected, block = true + gain, GRIDS[grid][1]
    scales = read(value, "m.scale_weight")
    assert scales.dtype == torch.float32
    assert tuple(scales.shape) == GRIDS[grid][0]
    wide = spread(to_numpy(scales), block)
    for i in range(0, SHAPE[0], block[0]):
        for j in range(0, SHAPE[1], block[1]):
            part = np.s_[i : i + block[0], j : j + block[1]]
            greatest = np.float32(np.abs(expected[part]).max() / LARGEST[dtype])
            assert wide[part] == pytest.approx(np.full_like(wide[part], greatest), rel=1e-6)
    stored = read(value, "m.weight")
    assert torch.equal(stored, torch.from_numpy(expected / wide).to(torch.float32).to(TORCH[dtype]))
    # Half a step of a type with 3 or 2 bits of mantissa, of the values themselves.
    step = 2.0**-4 if dtype == "F8_E4M3" else 2.0**-3
    smallest = wide * (2.0**-9 if dtype == "F8_E4M3" else 2.0**-16)
    assert np.all(
        np.abs(to_numpy(stored) * wide - expected) <= np.maximum(np.abs(expected) * step, smallest) * 1.0001
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_what_no_lora_touches_is_copied_as_bytes(grid: str) -> None:
    base, _ = model(grid)
    for key in base.spec.tensors:
        assert bytearray().join(base.chunks(key)) == base.source.read(key)


@pytest.mark.parametrize("grid", GRIDS)
def test_another_dtype_makes_plain_numbers_and_drops_the_scales(grid: str) -> None:
    base, true = model(grid)
    value, gain = merged(base)
    assert list(saved_checkpoint_specs(value.spec, "BF16")) == ["m.weight", "m.bias"]
    assert torch.equal(read(value, "m.weight", "F32"), torch.from_numpy(true + gain).to(torch.float32))
    assert torch.equal(read(base, "m.weight", "F32"), torch.from_numpy(true).to(torch.float32))


def test_eight_bits_are_for_matrices_and_biases_keep_their_own() -> None:
    base, _ = model("tensor")
    saved = saved_checkpoint_specs(base.spec, "F8_E5M2")
    assert saved == {"m.weight": TensorSpec("F8_E5M2", SHAPE), "m.bias": TensorSpec("BF16", (12,))}


def test_the_bytes_do_not_depend_on_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorapipe.weights.checkpoints import edits

    value, _ = merged(model("tensor")[0])
    whole = bytearray().join(value.chunks("m.weight"))
    monkeypatch.setattr(edits, "BLOCK_ELEMENTS", 20)
    monkeypatch.setattr(edits, "SLAB_ELEMENTS", 40)
    pieces = [value.chunks("m.weight", slab=slab) for slab in value.slabs("m.weight")]
    assert len(pieces) == 3
    assert bytearray().join(chunk for piece in pieces for chunk in piece) == whole


def test_zeros_get_a_scale_that_divides() -> None:
    assert new_scales(torch.zeros(2, 1, dtype=torch.float64), "F8_E4M3", "F32").tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("scale", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("target", ["F8_E4M3", "F8_E5M2"])
def test_the_greatest_value_never_overflows_whatever_the_scales_type(scale: str, target: str) -> None:
    magnitudes = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 5.0, (500, 1)))
    scales = new_scales(magnitudes, target, scale)
    stored = unscaled(magnitudes, scales.to(torch.float64), (1, 1), 0).to(torch.float32).to(TORCH[target])
    assert bool(torch.isfinite(stored.to(torch.float64)).all())
    if (scale, target) != ("F16", "F8_E5M2"):  # whose scales would be below fp16's normal numbers
        assert set(stored.to(torch.float64).flatten().tolist()) == {LARGEST[target]}


def test_magnitudes_are_found_by_block_from_rows_in_any_pieces() -> None:
    values = torch.from_numpy(np.random.default_rng(2).standard_normal((12, 10)))
    found = torch.zeros(3, 2, dtype=torch.float64)
    for start, stop in ((0, 3), (3, 9), (9, 12)):
        largest(values[start:stop], (4, 8), start, found)
    expected = [
        [float(values[4 * i : 4 * i + 4, 8 * j : 8 * j + 8].abs().max()) for j in range(2)] for i in range(3)
    ]
    assert found.tolist() == expected


def test_multiplying_out_and_dividing_are_inverse_in_the_middle_of_a_weight() -> None:
    scales = torch.tensor([[0.5, 2.0], [4.0, 0.25], [8.0, 1.0]])
    stored = torch.arange(50, dtype=torch.float32).reshape(5, 10)
    true = dequantised(stored, scales, (4, 8), 3, torch.float64)
    assert float(true[0, 0]) == 0.0
    assert (float(true[0, 9]), float(true[1, 9])) == (9.0 * 2.0, 19.0 * 0.25)
    assert torch.equal(unscaled(true, scales, (4, 8), 3), stored.to(torch.float64))


def test_each_scale_is_found_once() -> None:
    asked: list[str] = []

    def find(key: str) -> torch.Tensor:
        asked.append(key)
        return torch.ones(1)

    rescaled = Rescaled(find)
    assert rescaled("a") is rescaled("a")
    rescaled("b")
    assert asked == ["a", "b"]
