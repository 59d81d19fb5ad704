"""The laws of the algebra hold for sums of any structures, and specs foretell what comes out."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat, scale
from lorapipe.weights.algebra.measure import norm, relative_error
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.inference.steps import concat_spec, resize_spec, scale_spec, shuffle_spec
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from tests.weights.samples import Matrix, to_numpy
from tests.weights.sorts import Sample, full, loha, loha_core, lokr, plain, tucker

from .strategies import LAWS, seeds, weights

OUT, COLUMNS = 12, 10
PLACES = [ModuleId("unet", f"block.{i}.weight") for i in range(2)] + [ModuleId("te", "q_proj.weight")]


def of_one_shape(sort: str, rank: int, seed: int, dtype: torch.dtype) -> Sample:
    """A structure of 12 rows and 10 columns."""
    return {
        "plain": lambda: plain(OUT, COLUMNS, rank, seed, dtype),
        "Tucker": lambda: tucker(OUT, COLUMNS, (1, 1), rank, seed, dtype),
        "LoHa": lambda: loha(OUT, COLUMNS, rank, seed, dtype),
        "LoHa with cores": lambda: loha_core(OUT, 5, (2,), rank, seed, dtype),
        "LoKr": lambda: lokr((3, 2), (4, 5), seed=seed, dtype=dtype),
        "LoKr of factors": lambda: lokr((4, 5), (3, 2), (rank, rank), seed=seed, dtype=dtype),
        "full": lambda: full(OUT, COLUMNS, seed, dtype),
    }[sort]()


SORTS = ["plain", "Tucker", "LoHa", "LoHa with cores", "LoKr", "LoKr of factors", "full"]
structures = st.builds(
    of_one_shape,
    st.sampled_from(SORTS),
    st.integers(1, 5),
    seeds,
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)


@st.composite
def adapters(draw: st.DrawFn) -> tuple[Adapter, dict[ModuleId, Matrix]]:
    """Some of the same modules, each of another structure, and their matrices."""
    present = draw(st.lists(st.sampled_from(PLACES), min_size=1, unique=True))
    held = {place: (draw(weights), draw(structures)) for place in present}
    deltas = {place: sample.delta(c) for place, (c, sample) in held.items()}
    specs = {
        place: ModuleSpec(d.shape, d.rank, Spelling(place.key), None if d.plain else Form("a format"))
        for place, d in deltas.items()
    }
    matrices = {place: c * sample.matrix for place, (c, sample) in held.items()}
    return Adapter(AdapterSpec("sd1", specs, "F32"), deltas), matrices


Held = tuple[Adapter, dict[ModuleId, Matrix]]


def close(found: Adapter, expected: dict[ModuleId, Matrix], into: float) -> None:
    """Equal to float64's last digits, relative to what went in."""
    assert found.modules.keys() == expected.keys()
    for place, matrix in expected.items():
        dense = to_numpy(found.delta(place).dense(torch.float64))
        assert np.linalg.norm(dense - matrix) <= 1e-12 * max(into, 1.0)


def size(*matrices: dict[ModuleId, Matrix]) -> float:
    return sum(float(np.linalg.norm(matrix)) for held in matrices for matrix in held.values())


@LAWS
@given(adapters(), adapters(), weights, weights)
def test_a_concat_is_the_weighted_sum(a: Held, b: Held, v: float, w: float) -> None:
    joined = concat([("a", v, a[0]), ("b", w, scale(b[0], -2.0))])
    joined.check(concat_spec([("a", v, a[0].spec), ("b", w, scale_spec(b[0].spec, -2.0))]))
    zero = np.zeros((OUT, COLUMNS))
    expected = {place: v * a[1].get(place, zero) - 2 * w * b[1].get(place, zero) for place in joined.modules}
    close(joined, expected, 10 * size(a[1], b[1]))


@LAWS
@given(adapters(), adapters(), adapters(), weights)
def test_concat_associates(a: Held, b: Held, c: Held, w: float) -> None:
    flat = concat([("a", 1.0, a[0]), ("b", w, b[0]), ("c", 1.0, c[0])])
    left = concat([("ab", 1.0, concat([("a", 1.0, a[0]), ("b", w, b[0])])), ("c", 1.0, c[0])])
    right = concat([("a", 1.0, a[0]), ("bc", 1.0, concat([("b", w, b[0]), ("c", 1.0, c[0])]))])
    for other in (left, right):
        assert {place: known.rank for place, known in other.spec.modules.items()} == {
            place: known.rank for place, known in flat.spec.modules.items()
        }
        for place, delta in flat.modules.items():
            found = other.delta(place).terms
            assert [(t.coefficient, t.structure) for t in found] == [
                (t.coefficient, t.structure)
                for t in delta.terms  # type: ignore[union-attr]
            ]


@LAWS
@given(adapters(), adapters(), weights, st.integers(1, 12))
def test_resize_is_within_1_0001_of_the_optimal_error(a: Held, b: Held, w: float, rank: int) -> None:
    joined = concat([("a", 1.0, a[0]), ("b", w, b[0])])
    # Two that cancel are refused; tests/weights/algebra/test_resize.py has that.
    assume(any(norm(delta) > 1e-9 * size(a[1], b[1]) for delta in joined.modules.values()))  # type: ignore[arg-type]
    resized = resize(joined, Ranks(rank)).adapter
    resized.check(resize_spec(joined.spec, Ranks(rank)))
    for place, delta in joined.modules.items():
        matrix = to_numpy(delta.dense(torch.float64))  # type: ignore[union-attr]
        best = float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[resized.delta(place).rank :]))
        found = float(np.linalg.norm(to_numpy(resized.delta(place).dense(torch.float64)) - matrix))
        assert resized.delta(place).plain
        assert found <= 1.0001 * best + 1e-11 * size(a[1], b[1])


@LAWS
@given(adapters(), adapters(), weights, seeds, st.sampled_from(["rotate", "permute"]))
def test_shuffle_keeps_the_sum(a: Held, b: Held, w: float, seed: int, mode: str) -> None:
    joined = concat([("a", 1.0, a[0]), ("b", w, b[0])])
    shuffled = shuffle(joined, seed, mode)
    shuffled.check(shuffle_spec(joined.spec, mode))
    expected = {place: to_numpy(joined.delta(place).dense(torch.float64)) for place in joined.modules}
    close(shuffled, expected, 10 * size(a[1], b[1]))


@LAWS
@given(adapters(), weights)
def test_a_lora_less_itself_is_nothing(a: Held, w: float) -> None:
    for place, delta in concat([("a", w, a[0]), ("b", -w, a[0])]).modules.items():
        assert norm(delta) <= 1e-12 * max(abs(w) * float(np.linalg.norm(a[1][place])), 1.0)  # type: ignore[arg-type]
        assert relative_error(delta, []) == norm(delta)  # type: ignore[arg-type]


@LAWS
@given(adapters(), adapters(), weights, st.integers(0, 11), st.integers(1, 12))
def test_rows_of_a_sum_are_the_sum_of_rows(a: Held, b: Held, w: float, start: int, height: int) -> None:
    stop = min(start + height, OUT)
    joined = concat([("a", 1.0, a[0]), ("b", w, b[0])])
    zero = np.zeros((OUT, COLUMNS))
    for place in joined.modules:
        part = joined.delta(place).rows(start, stop)
        expected = (a[1].get(place, zero) + w * b[1].get(place, zero))[start:stop]
        found = to_numpy(part.dense(torch.float64))
        assert np.linalg.norm(found - expected) <= 1e-12 * max(10 * size(a[1], b[1]), 1.0)
