"""Tucker, LoHa and LoKr are their formulas: whole, by rows, transposed, as factors and in a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.checkpoints import edits
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.structures.products import Hadamard, Kronecker, Tucker
from lorapipe.weights.structures.structure import Dense, Loaded, LowRank
from lorapipe.weights.tensors import from_bytes
from tests.weights.samples import Matrix, Memory, checkpoint_spec, to_numpy
from tests.weights.sorts import SORTS, Sample, full, loha, loha_core, lokr, numbers, plain, tucker

F64 = torch.float64
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def close(found: torch.Tensor, expected: Matrix, tolerance: float = 1e-12) -> None:
    size = max(float(np.abs(expected).max(initial=0.0)), 1e-300)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=0, atol=tolerance * size)


@pytest.fixture(params=SORTS, ids=str)
def sample(request: pytest.FixtureRequest) -> Sample:
    return SORTS[request.param](7, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sort", SORTS)
def test_dense_is_the_formula_in_float64(sort: str, dtype: torch.dtype) -> None:
    found = SORTS[sort](3, dtype)
    assert found.structure.shape == found.matrix.shape
    assert found.structure.dense(F64).dtype == F64
    close(found.structure.dense(F64), found.matrix)


def test_dense_is_in_the_dtype_asked_for(sample: Sample) -> None:
    found = sample.structure.dense(torch.float32)
    assert found.dtype == torch.float32
    close(found, sample.matrix, 1e-5)


sizes = st.integers(1, 6)
kernels = st.sampled_from([(), (1, 1), (3, 3), (1, 3), (2,)])


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any structure of any small shape; ranks may be above the full one."""
    seed, dtype = draw(st.integers(0, 1000)), draw(st.sampled_from(DTYPES))
    a, b, c, d = (draw(sizes) for _ in range(4))
    kernel, rank, other = draw(kernels), draw(sizes), draw(sizes)
    columns = d * int(np.prod(kernel))
    sort = draw(st.sampled_from(["tucker", "loha", "loha with cores", "lokr", "lokr with a core"]))
    if sort == "tucker":
        return tucker(a, d, kernel, rank, seed, dtype)
    if sort == "loha":
        return loha(a, columns, rank, seed, dtype)
    if sort == "loha with cores":
        return loha_core(a, d, kernel, rank, seed, dtype)
    first = draw(st.sampled_from([None, rank]))
    second = other if sort.endswith("core") else draw(st.sampled_from([None, other]))
    return lokr((a, c), (b, d, *kernel), (first, second), core=sort.endswith("core"), seed=seed, dtype=dtype)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(samples(), st.data())
def test_any_rows_are_those_of_the_matrix(found: Sample, data: st.DataObject) -> None:
    height = found.matrix.shape[0]
    start = data.draw(st.integers(0, height - 1))
    stop = data.draw(st.integers(start + 1, height))
    part = found.structure.rows(start, stop)
    assert part.shape == (stop - start, found.matrix.shape[1])
    close(part.dense(F64), found.matrix[start:stop])
    again = data.draw(st.integers(0, stop - start - 1))
    close(part.rows(again, stop - start).dense(F64), found.matrix[start + again : stop])


@settings(max_examples=120, deadline=None, derandomize=True)
@given(samples(), st.data())
def test_factors_are_exact_and_of_the_rank_that_is_said(found: Sample, data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, found.matrix.shape[0]))
    for structure, expected in (
        (found.structure, found.matrix),
        (found.structure.rows(0, stop), found.matrix[:stop]),
        (found.structure.transposed(), found.matrix.T),
    ):
        factors = structure.factors(F64)
        assert factors.rank == structure.rank <= min(expected.shape)
        assert factors.up.dtype == factors.down.dtype == F64
        close(factors.up @ factors.down, expected)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(samples(), st.data())
def test_transposing_twice_changes_nothing(found: Sample, data: st.DataObject) -> None:
    turned = found.structure.transposed()
    close(turned.dense(F64), found.matrix.T)
    close(turned.transposed().dense(F64), found.matrix)
    start = data.draw(st.integers(0, found.matrix.shape[1] - 1))
    columns = turned.rows(start, found.matrix.shape[1])
    close(columns.dense(F64), found.matrix.T[start:])
    close(columns.transposed().dense(F64), found.matrix[:, start:])


def test_rank_is_the_one_that_the_factors_have_and_the_matrix_at_most() -> None:
    for found, rank in (
        (tucker(12, 5, (3, 3), 4), 4),
        (tucker(3, 5, (3, 3), 4), 3),
        (loha(12, 10, 2), 4),
        (loha(12, 10, 4), 10),
        (loha_core(12, 5, (3, 3), 3), 9),
        (lokr((2, 3), (6, 4)), 8),
        (lokr((4, 5), (5, 4), (2, 3)), 6),
        (lokr((2, 3), (5, 4), (6, 7)), 8),
    ):
        assert found.structure.rank == rank
        assert np.linalg.matrix_rank(found.matrix) <= rank


def test_rows_of_a_kronecker_product_keep_its_rank_as_far_as_they_can() -> None:
    found = lokr((4, 5), (5, 4), (2, 3)).structure
    assert [found.rows(0, stop).rank for stop in (1, 3, 6, 20)] == [1, 3, 6, 6]


def test_none_is_plain_and_each_loads_as_itself(sample: Sample) -> None:
    assert not sample.structure.plain
    assert sample.structure.load() is sample.structure


def test_rows_of_factors_are_views() -> None:
    found = loha(12, 10).structure
    assert isinstance(found, Hadamard)
    part = found.rows(3, 5)
    assert isinstance(part.one, LowRank)
    assert isinstance(found.one, LowRank)
    assert part.one.down is found.one.down
    assert part.one.up.untyped_storage().data_ptr() == found.one.up.untyped_storage().data_ptr()


def test_to_moves_every_tensor(sample: Sample) -> None:
    moved = sample.structure.to("meta")
    assert type(moved) is type(sample.structure)
    assert (moved.shape, moved.rank) == (sample.structure.shape, sample.structure.rank)
    assert {tensor.device.type for tensor in moved.written(1.0).tensors.values()} == {"meta"}


# --- what a file has --------------------------------------------------------------------


def strength(alpha: float | None, rank: int) -> float:
    return 1.0 if alpha is None else alpha / rank


def read_loha(tensors: dict[str, Matrix], alpha: float | None) -> Matrix:
    """LoHa of a file, as LyCORIS reads it."""
    first, second = (
        tensors[f".hada_w{i}_a"] @ tensors[f".hada_w{i}_b"]
        if f".hada_t{i}" not in tensors
        else np.einsum(
            "ij...,ip,jq->pq...",
            tensors[f".hada_t{i}"],
            tensors[f".hada_w{i}_a"],
            tensors[f".hada_w{i}_b"],
        )
        for i in (1, 2)
    )
    product = strength(alpha, tensors[".hada_w1_b"].shape[0]) * first * second
    return product.reshape(product.shape[0], -1)


def read_lokr(tensors: dict[str, Matrix], alpha: float | None) -> Matrix:
    """LoKr of a file, as LyCORIS reads it."""
    rank = None
    if (first := tensors.get(".lokr_w1")) is None:
        first, rank = tensors[".lokr_w1_a"] @ tensors[".lokr_w1_b"], tensors[".lokr_w1_b"].shape[0]
    if (second := tensors.get(".lokr_w2")) is None:
        rank = tensors[".lokr_w2_b"].shape[0]
        if ".lokr_t2" in tensors:
            second = np.einsum(
                "ij...,ip,jq->pq...", tensors[".lokr_t2"], tensors[".lokr_w2_a"], tensors[".lokr_w2_b"]
            )
            second = second.reshape(second.shape[0], -1)
        else:
            second = tensors[".lokr_w2_a"] @ tensors[".lokr_w2_b"]
    return (1.0 if rank is None else strength(alpha, rank)) * np.kron(first, second)


def read_tucker(tensors: dict[str, Matrix], alpha: float | None) -> Matrix:
    up, mid, down = (tensors[f".lora_{name}.weight"] for name in ("up", "mid", "down"))
    product = strength(alpha, down.shape[0]) * np.einsum("mn...,om,ni->oi...", mid, up, down)
    return product.reshape(product.shape[0], -1)


def read(structure: Loaded, coefficient: float) -> Matrix:
    """What a program reads of the tensors that are written."""
    written = structure.written(coefficient)
    tensors = {role: to_numpy(tensor) for role, tensor in written.tensors.items()}
    if isinstance(structure, Dense):
        assert written.alpha is None
        return tensors[".diff"]
    reader = {Tucker: read_tucker, Hadamard: read_loha, Kronecker: read_lokr}[type(structure)]
    return reader(tensors, written.alpha)


@pytest.mark.parametrize("coefficient", [1.0, 0.35, -1.0, -2.5])
def test_a_program_reads_the_coefficient_times_the_matrix(sample: Sample, coefficient: float) -> None:
    expected = coefficient * sample.matrix
    close(torch.from_numpy(read(sample.structure, coefficient)), expected)


@pytest.mark.parametrize("coefficient", [0.35, -2.5, -1.0])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float8_e4m3fn], ids=str)
def test_where_alpha_counts_the_numbers_stay_but_for_one_sign(coefficient: float, dtype: torch.dtype) -> None:
    for found in (
        tucker(12, 5, (3, 3), 4, dtype=dtype),
        loha(12, 10, dtype=dtype),
        loha_core(12, 5, (3, 3), dtype=dtype),
        lokr((2, 3), (6, 4), (None, 2), dtype=dtype),
        lokr((4, 3), (6, 4), (2, None), dtype=dtype),
    ):
        as_it_is, written = found.structure.written(1.0), found.structure.written(coefficient)
        assert written.alpha == pytest.approx(abs(coefficient) * (as_it_is.alpha or 0.0))
        turned = 0
        for role, tensor in written.tensors.items():
            before = as_it_is.tensors[role]
            assert tensor.dtype == before.dtype == dtype
            same = torch.equal(tensor.float(), before.float())
            assert same or torch.equal(tensor.float(), -before.float())
            turned += not same
        assert turned == (coefficient < 0)


def test_alpha_is_over_the_rank_that_programs_divide_by() -> None:
    for found, divisor in (
        (tucker(12, 5, (3, 3), 4), 4),
        (loha(12, 10, 3), 3),
        (loha_core(12, 5, (3, 3), 2), 2),
        (lokr((4, 3), (6, 4), (2, None)), 2),
        (lokr((4, 3), (6, 4), (None, 5)), 5),
        (lokr((4, 3), (6, 4), (2, 5)), 5),
        (lokr((4, 3), (6, 4, 3, 3), (2, 3), core=True), 3),
        (lokr((4, 3), (6, 4)), None),
        (full(3, 4), None),
    ):
        alpha = found.structure.written(0.5).alpha
        assert alpha == (None if divisor is None else 0.5 * divisor)


def test_a_coefficient_without_alpha_is_in_the_small_half_alone_in_float64() -> None:
    found = lokr((4, 3), (6, 4), dtype=torch.float16).structure
    assert isinstance(found, Kronecker)
    written = found.written(1 / 3).tensors
    assert written[".lokr_w1"].dtype == F64
    assert isinstance(found.one, Dense)
    assert torch.equal(written[".lokr_w1"], found.one.matrix.double() * (1 / 3))
    assert isinstance(found.two, Dense)
    assert written[".lokr_w2"] is found.two.matrix
    assert found.written(1.0).tensors[".lokr_w1"] is found.one.matrix


def test_cut_lohas_are_lohas_and_cut_lokrs_are_nothing() -> None:
    for found in (loha(12, 10), loha_core(12, 5, (3, 3)), tucker(12, 5, (3, 3))):
        part = found.structure.rows(3, 8)
        close(torch.from_numpy(read(part, -0.5)), -0.5 * found.matrix[3:8])
    with pytest.raises(ValueError, match="some rows of a Kronecker product"):
        lokr((2, 3), (6, 4)).structure.rows(0, 6).written(1.0)


def test_one_half_that_is_both_halves_is_turned_once() -> None:
    half = plain(4, 5).structure
    assert isinstance(half, LowRank)
    close(torch.from_numpy(read(Hadamard(half, half), -1.0)), -(plain(4, 5).matrix ** 2))


# --- what cannot be ---------------------------------------------------------------------


def test_tensors_that_make_no_product_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a core between factors cannot be \[4, 3\], \[2, 3\], \[3, 5\]"):
        Tucker(numbers((4, 3), 0), numbers((2, 3), 1), numbers((3, 5), 2))
    one, two = plain(4, 5).structure, plain(5, 4).structure
    assert isinstance(one, LowRank)
    assert isinstance(two, LowRank)
    with pytest.raises(ValueError, match=r"matrices \[4, 5\] and \[5, 4\] differ in shape"):
        Hadamard(one, two)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's own
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


@pytest.mark.parametrize(
    "found",
    [lokr((2, 2), (128, 64)), lokr((2, 2), (128, 64), (2, 3)), loha(256, 128), tucker(256, 128)],
    ids=["LoKr", "LoKr of factors", "LoHa", "Tucker"],
)
def test_of_a_few_rows_only_what_they_need_is_computed(found: Sample) -> None:
    with Largest() as seen:
        found.structure.rows(30, 35).dense(F64)
    # The rows themselves are 5 x 128; a factor beside them has 3 x 128, the large half 128 x 64.
    assert seen.elements <= 5 * 128


# --- in a merge -------------------------------------------------------------------------


def merged(weight: torch.Tensor, *terms: tuple[float, Delta]) -> torch.Tensor:
    """A checkpoint's one tensor after deltas were merged into it, written in its own dtype."""
    module = ModuleId("unet", "x.weight")
    source = Memory({module.key: weight})
    base = Checkpoint(checkpoint_spec(source), source)
    for strength, delta in terms:
        form = None if delta.plain else Form("a format")
        spec = AdapterSpec("sd1", {module: ModuleSpec(delta.shape, delta.rank, Spelling("x"), form)}, "F32")
        base = merge(base, [(strength, Adapter(spec, {module: delta}), bind(spec, base.spec))])
    data = bytearray().join(base.chunks(module.key))
    return from_bytes(data, base.spec.tensors[module.key])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_a_merge_is_the_rounded_float64_sum(sample: Sample, dtype: torch.dtype) -> None:
    weight = numbers(sample.matrix.shape, 1, dtype)
    found = merged(weight, (-0.7, sample.delta(0.5)))
    exact = torch.from_numpy(to_numpy(weight) - 0.35 * sample.matrix)
    assert found.dtype == dtype
    nearest = exact.to(dtype)
    # Another order of the same sum differs in the last digits of float64: next to a tie, that shows.
    assert (found != nearest).sum() <= 1
    step = torch.finfo(dtype).eps
    close(found, to_numpy(exact), 1.01 * step)


def test_slabs_and_blocks_do_not_show(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = numbers(sample.matrix.shape, 1, F64)
    whole = merged(weight, (1.0, sample.delta(0.5)), (0.3, sample.delta()))
    columns = sample.matrix.shape[1]
    monkeypatch.setattr(edits, "BLOCK_ELEMENTS", 2 * columns)
    monkeypatch.setattr(edits, "SLAB_ELEMENTS", 4 * columns)
    cut = merged(weight, (1.0, sample.delta(0.5)), (0.3, sample.delta()))
    close(cut, to_numpy(whole), 1e-15)
    close(whole, to_numpy(weight) + 0.8 * sample.matrix)


def test_a_kernel_that_is_not_told_is_the_weights() -> None:
    sample = loha(8, 54)
    weight = numbers((8, 6, 3, 3), 1, F64)
    expected = to_numpy(weight) + 0.5 * sample.matrix.reshape(8, 6, 3, 3)
    for delta in (sample.delta(0.5), sample.delta(0.5, (3, 3))):
        close(merged(weight, (1.0, delta)), expected)
