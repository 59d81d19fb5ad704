"""Sums of checkpoints' weights before any rounding, and how much of them rounding may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights import blocks
from lorapipe.weights.checkpoints import difference, edits
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.difference import Side, Taker
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import CheckpointSpec, Place, Scales
from tests.weights.samples import (
    CONV,
    LINEAR,
    Matrix,
    Memory,
    adapter,
    adapter_of,
    checkpoint_spec,
    delta,
    dense,
    to_numpy,
)

Tensors = dict[str, torch.Tensor]


def model(tensors: Tensors, **known: object) -> Checkpoint:
    source = Memory(tensors)
    return Checkpoint(replace(checkpoint_spec(source), **known), source)  # type: ignore[arg-type]  # fields by name


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def taker(*sides: tuple[float, Checkpoint], compute: str = "float64") -> Taker:
    """The last is the one whose rounding counts, as a tuned checkpoint's does."""
    last = len(sides) - 1
    return Taker([Side(f"s{i}", w, c, rounded=i == last) for i, (w, c) in enumerate(sides)], compute)


def flat(tensor: torch.Tensor) -> Matrix:
    return to_numpy(tensor).reshape(len(tensor), -1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_sum_is_that_of_float64(dtype: torch.dtype) -> None:
    one, two = (normal(7, 4, 3, 3, seed=seed, dtype=dtype) for seed in (1, 2))
    found = taker((-0.5, model({"w": one})), (2.0, model({"w": two}))).take("w", [(0, 7)], 36)
    exact = -0.5 * flat(one) + 2.0 * flat(two)
    np.testing.assert_array_equal(found.matrix.numpy(), exact)
    assert found.largest == np.abs(exact).max()


def test_of_a_merge_nothing_is_rounded_on_the_way() -> None:
    base = model({LINEAR.key: normal(12, 10, dtype=torch.float16)})
    value = adapter_of({LINEAR: delta((12, 10), (0.3, 3))})
    tuned = merge(base, [(0.7, value, bind(value.spec, base.spec))])
    found = taker((-1.0, base), (1.0, tuned)).take(LINEAR.key, [(0, 12)], 10)
    np.testing.assert_allclose(found.matrix.numpy(), 0.7 * dense(value.delta(LINEAR)), rtol=1e-12, atol=1e-14)


def places(kind: str) -> tuple[Tensors, CheckpointSpec]:
    """A weight [6, 5] as one tensor, in two, with its halves swapped, or transposed."""
    whole = normal(6, 5, seed=9)
    tensors, found = {
        "whole": ({"w": whole}, (Place("w"),)),
        "apart": ({"a": whole[:2], "b": whole[2:]}, (Place("a", (0, 2)), Place("b", (2, 6)))),
        "swapped": ({"w": torch.cat([whole[3:], whole[:3]])}, (Place("w", (0, 3), 3), Place("w", (3, 6), 0))),
        "transposed": ({"w": whole.T.contiguous()}, (Place("w", transposed=True),)),
    }[kind]
    return tensors, CheckpointSpec("sd1", Memory(tensors).tensors, {"key": found})


@pytest.mark.parametrize("one", ["whole", "apart", "swapped", "transposed"])
@pytest.mark.parametrize("ranges", [[(0, 6)], [(1, 5)], [(4, 6), (0, 3)]])
def test_rows_meet_wherever_the_files_keep_them(one: str, ranges: Sequence[tuple[int, int]]) -> None:
    tensors, spec = places(one)
    other = model({"key": normal(6, 5, seed=2)})
    found = taker((-1.0, other), (1.0, Checkpoint(spec, Memory(tensors)))).take("key", ranges, 5)
    exact = flat(normal(6, 5, seed=9)) - flat(normal(6, 5, seed=2))
    np.testing.assert_array_equal(found.matrix.numpy(), np.concatenate([exact[a:b] for a, b in ranges]))


def test_blocks_and_slabs_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    base = model({CONV.key: normal(9, 5, 3, 3)})
    value = adapter(2)
    tuned = merge(base, [(1.0, value, bind(value.spec, base.spec))])
    whole = taker((-1.0, base), (1.0, tuned)).take(CONV.key, [(1, 8)], 45)
    for module in (blocks, edits):
        monkeypatch.setattr(module, "BLOCK_ELEMENTS", 90, raising=False)
        monkeypatch.setattr(module, "SLAB_ELEMENTS", 180, raising=False)
    parts = taker((-1.0, base), (1.0, tuned)).take(CONV.key, [(1, 8)], 45)
    np.testing.assert_allclose(parts.matrix.numpy(), whole.matrix.numpy(), atol=1e-14)
    assert parts.rounding == pytest.approx(whole.rounding)


# --- rounding ---------------------------------------------------------------------------


def uneven(rows: int, columns: int, spread: float, seed: int) -> Matrix:
    """Weights whose rows and columns have scales of their own."""
    rng = np.random.default_rng(seed)
    a, b = (np.exp(spread * rng.standard_normal(n)) for n in (rows, columns))
    found: Matrix = 0.02 * a[:, None] * rng.standard_normal((rows, columns)) * b
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(20, 20), (64, 300), (200, 120)])
def test_rounding_is_bounded_by_little_more_than_it_is(
    dtype: torch.dtype, spread: float, shape: tuple[int, int]
) -> None:
    for seed in range(3):
        base = torch.from_numpy(uneven(*shape, spread, seed)).to(dtype)
        exact = base.double() + 0.1 * torch.from_numpy(uneven(*shape, spread, seed + 100))
        tuned = exact.to(dtype)
        found = taker((-1.0, model({"w": base})), (1.0, model({"w": tuned}))).take(
            "w", [(0, shape[0])], shape[1]
        )
        norm = float(torch.linalg.matrix_norm(tuned.double() - exact, 2))
        assert norm < found.rounding < 2.5 * norm


def test_fp8_is_known_by_its_scales() -> None:
    exact = torch.from_numpy(uneven(60, 80, 0.3, 1))
    scale = torch.tensor([float(exact.abs().max()) / 448])
    stored = (exact / scale).to(torch.float8_e4m3fn)
    tuned = model({"w": stored, "s": scale}, scales={"w": Scales("s", (60, 80))}, companions=frozenset({"s"}))
    base = model({"w": torch.zeros(60, 80), "s": scale})
    found = taker((-1.0, base), (1.0, tuned)).take("w", [(0, 60)], 80)
    np.testing.assert_allclose(found.matrix.numpy(), flat(stored.float().double() * float(scale)), rtol=1e-7)
    norm = float(torch.linalg.matrix_norm(found.matrix - exact, 2))
    assert 0.7 * norm < found.rounding < 3 * norm


def test_numbers_too_small_for_the_type_have_its_least_step() -> None:
    exact = 1e-7 * normal(50, 50, dtype=torch.float64)
    tuned = exact.half()
    found = taker((-1.0, model({"w": torch.zeros(50, 50)})), (1.0, model({"w": tuned}))).take(
        "w", [(0, 50)], 50
    )
    norm = float(torch.linalg.matrix_norm(tuned.double() - exact, 2))
    assert 0.5 * norm < found.rounding < 3 * norm


def test_of_a_merge_that_is_not_saved_it_is_that_of_the_arithmetic() -> None:
    base = model({LINEAR.key: normal(12, 10, dtype=torch.float16)})
    value = adapter_of({LINEAR: delta((12, 10), (0.3, 3))})
    tuned = merge(base, [(1.0, value, bind(value.spec, base.spec))])
    for compute, least, most in (("float64", 1e-17, 1e-13), ("float32", 1e-8, 1e-4)):
        found = taker((-1.0, base), (1.0, tuned), compute=compute).take(LINEAR.key, [(0, 12)], 10)
        wrong = found.matrix.double().numpy() - dense(value.delta(LINEAR))
        assert least < np.linalg.norm(wrong, 2) < found.rounding < most


def test_a_base_is_taken_for_what_it_is() -> None:
    """A merge of an fp16 checkpoint that is saved in fp32 is rounded as fp32 is."""
    base = model({"w": normal(40, 40, dtype=torch.float16)})
    tuned = model({"w": normal(40, 40, dtype=torch.float16).float() + 0.01 * normal(40, 40, seed=5)})
    assert taker((-1.0, base), (1.0, tuned)).take("w", [(0, 40)], 40).rounding < 1e-5


def test_where_nothing_differs_nothing_was_rounded() -> None:
    base = normal(40, 40)
    tuned = base.clone()
    tuned[3, 5] += 1
    found = taker((-1.0, model({"w": base})), (1.0, model({"w": tuned}))).take("w", [(0, 40)], 40)
    assert found.rounding < 4e-7 * float(tuned[3, 5].abs())


# --- shortcuts and errors ---------------------------------------------------------------


def test_what_is_not_touched_is_not_read() -> None:
    base = model({LINEAR.key: normal(12, 10), CONV.key: normal(9, 5, 3, 3)})
    value = adapter_of({LINEAR: delta((12, 10), (0.3, 3))})
    tuned = merge(base, [(1.0, value, bind(value.spec, base.spec))])
    found = taker((-1.0, base), (1.0, tuned))
    assert found.unchanged(CONV.key)
    assert not found.unchanged(LINEAR.key)
    assert not taker((-0.5, base), (1.0, tuned)).unchanged(CONV.key)
    same = model({CONV.key: normal(9, 5, 3, 3)})
    assert not taker((-1.0, base), (1.0, same)).unchanged(CONV.key)
    assert isinstance(base.source, Memory)
    assert base.source.reads == []


def test_the_greatest_difference_of_what_is_only_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "OPERATED_ELEMENTS", 8)
    one, two = normal(9, 4), normal(9, 4)
    two[7, 1] += 3
    two[1] = float("nan")
    found = taker((-1.0, model({"w": one})), (1.0, model({"w": two})))
    assert found.largest("w", (9, 4)) == pytest.approx(3.0, rel=1e-6)
    for shape in ((), (0,), (3, 0)):
        empty = torch.ones(shape)
        assert taker((-1.0, model({"w": empty})), (1.0, model({"w": empty}))).largest("w", shape) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_a_number_that_is_none_names_its_checkpoint(value: float, which: int) -> None:
    tensors = [normal(5, 4), normal(5, 4, seed=1)]
    tensors[which][2, 3] = value
    with pytest.raises(BuildError) as caught:
        taker(*zip((-1.0, 1.0), (model({"w": t}) for t in tensors), strict=True)).take("w", [(0, 5)], 4)
    assert (
        str(caught.value) == f"error: the weight of 's{which}' holds NaN or Inf - the checkpoint is damaged"
    )


def test_a_sum_beyond_the_arithmetic_is_nobodys_fault() -> None:
    huge = torch.full((2, 2), 3e38)
    sides = taker((-1.0, model({"w": -huge})), (1.0, model({"w": huge})), compute="float32")
    with pytest.raises(BuildError) as caught:
        sides.take("w", [(0, 2)], 2)
    assert str(caught.value) == "error: the difference is beyond the range of the arithmetic"
