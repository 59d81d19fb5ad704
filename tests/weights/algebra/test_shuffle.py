"""Shuffling leaves the delta and hides, as far as it promises, what it was made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import concat
from lorapipe.weights.algebra.shuffle import shuffle
from lorapipe.weights.inference.steps import shuffle_spec
from lorapipe.weights.linalg.randomness import rotation
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import (
    LINEAR,
    SHAPES,
    Away,
    Matrix,
    adapter,
    adapter_of,
    delta,
    dense,
    error,
    loaded,
    saved_module,
    to_numpy,
)
from tests.weights.sorts import SORTS, full, loha, lokr, summed


@pytest.fixture
def sources() -> tuple[Adapter, Adapter]:
    return adapter(3, 0.5), adapter(4, seed=99)


@pytest.fixture
def both(sources: tuple[Adapter, Adapter]) -> Adapter:
    return concat([("a", 0.7, sources[0]), ("b", -0.4, sources[1])])


@pytest.mark.parametrize("mode", ["rotate", "permute"])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_delta_stays(both: Adapter, mode: str, seed: int) -> None:
    shuffled = shuffle(both, seed, mode)
    for module in SHAPES:
        np.testing.assert_allclose(
            dense(shuffled.modules[module]), dense(both.modules[module]), rtol=0, atol=1e-13
        )


def similarity(rows: Matrix, sources: Matrix) -> float:
    """The largest |cosine| between a row of one and a row of the other."""
    unit = [m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-300) for m in (rows, sources)]
    return float(np.abs(unit[0] @ unit[1].T).max())


@pytest.mark.parametrize("seed", [0, 12345])
def test_unrotated_with_the_known_seed_no_source_shows(
    both: Adapter, sources: tuple[Adapter, Adapter], seed: int
) -> None:
    shuffled = shuffle(both, seed)
    for module in SHAPES:
        (term,) = shuffled.modules[module].terms
        q = to_numpy(rotation(seed, str(module), term.structure.rank))
        up, down = to_numpy(term.structure.up), to_numpy(term.structure.down)
        for source in sources:
            (held,) = source.modules[module].terms
            for undone in (np.eye(len(q)), q):
                assert similarity((up @ undone.T).T, to_numpy(held.structure.up).T) < 0.99999
                assert similarity(undone @ down, to_numpy(held.structure.down)) < 0.99999


def test_unrotating_gives_the_deltas_own_svd(both: Adapter) -> None:
    (term,) = shuffle(both, 5).modules[LINEAR].terms
    q = to_numpy(rotation(5, str(LINEAR), 7))
    u, s, _ = np.linalg.svd(dense(both.modules[LINEAR]))
    found = to_numpy(term.structure.up) @ q.T
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :7] * np.sqrt(s[:7])), atol=1e-12)


def test_permuting_hides_nothing(both: Adapter, sources: tuple[Adapter, Adapter]) -> None:
    (term,) = shuffle(both, 0, "permute").modules[LINEAR].terms
    (held,) = sources[0].modules[LINEAR].terms
    assert similarity(to_numpy(term.structure.up).T, to_numpy(held.structure.up).T) > 0.9999999


def test_seeds_and_modules_rotate_differently_and_again_the_same(both: Adapter) -> None:
    first, again, other = shuffle(both, 1), shuffle(both, 1), shuffle(both, 2)
    up = [v.modules[LINEAR].terms[0].structure.up for v in (first, again, other)]
    assert torch.equal(up[0], up[1])
    assert not torch.allclose(up[0], up[2])


def test_the_canonical_name_seeds_not_the_spelling() -> None:
    value = delta((12, 10), (1.0, 4))
    there, elsewhere = ModuleId("unet", "a.weight"), ModuleId("te", "a.weight")
    rotated = [shuffle(adapter_of({m: value})).modules[m].terms[0].structure.up for m in (there, elsewhere)]
    assert torch.equal(*rotated)
    rows = ModuleId("unet", "a.weight", (0, 12))
    assert not torch.allclose(
        rotated[0], shuffle(adapter_of({rows: value})).modules[rows].terms[0].structure.up
    )


def test_the_result_is_a_function_of_the_delta_alone() -> None:
    """Another factorisation of the same delta gives the same file, up to rounding."""
    a = Delta((12, 10), (Term(1.0, (held := delta((12, 10), (1.0, 4)).terms[0].structure)),))
    mix = torch.from_numpy(np.random.default_rng(5).standard_normal((4, 4)))
    other = LowRank(held.up.double() @ mix, torch.linalg.inv(mix) @ held.down.double())
    b = Delta((12, 10), (Term(0.5, other), Term(0.5, other)))
    first, second = (shuffle(adapter_of({LINEAR: v}), 3).modules[LINEAR] for v in (a, b))
    np.testing.assert_allclose(
        to_numpy(first.terms[0].structure.up @ rotation(3, str(LINEAR), 4).T),
        to_numpy(second.terms[0].structure.up @ rotation(3, str(LINEAR), 8).T)[:, :4],
        atol=1e-11,
    )


def test_permuting_equal_strengths_keeps_the_bytes() -> None:
    value = adapter_of({LINEAR: delta((12, 10), (0.5, 3), (-0.5, 2), dtype=torch.float16)}, dtype="F16")
    (term,) = shuffle(value, 0, "permute").modules[LINEAR].terms
    sources = [t.structure for t in value.modules[LINEAR].terms]
    expected = torch.cat([sources[0].down, sources[1].down])
    assert term.coefficient == 0.5
    assert sorted(term.structure.down.tolist()) == sorted(expected.tolist())
    assert term.structure.down.dtype == torch.float16


def nearly_cancelling() -> Adapter:
    """A - B where B is A and a little more, in factors of ordinary size."""
    a = delta((64, 48), (1.0, 16), seed=1, dtype=torch.float64).terms[0].structure
    nudge = delta((64, 48), (1.0, 16), seed=2, dtype=torch.float64).terms[0].structure
    b = LowRank(a.up + 1e-2 * nudge.up, a.down + 1e-2 * nudge.down)
    return adapter_of({LINEAR: Delta((64, 48), (Term(1.0, a), Term(-1.0, b)))}, dtype="F16")


def loss(value: Adapter, reference: Matrix) -> float:
    """What saving in fp16 loses, relative to the difference itself."""
    saved = saved_module(value.modules[LINEAR], "F16")
    tensors = {
        "m.lora_up.weight": saved.up,
        "m.lora_down.weight": saved.down,
        "m.alpha": torch.tensor(saved.alpha),
    }
    return error(loaded(tensors)["m"], [(1.0, reference)])


def test_a_near_cancelling_difference_survives_fp16_through_rotate() -> None:
    value = nearly_cancelling()
    reference = dense(value.modules[LINEAR])
    assert loss(shuffle(value), reference) < 1e-3
    assert loss(value, reference) > 3e-3
    assert loss(shuffle(value, mode="permute"), reference) > 3e-3


def test_zero_components_are_zero_before_the_rotation() -> None:
    held = delta((12, 10), (1.0, 2)).terms[0].structure
    doubled = adapter_of({LINEAR: Delta((12, 10), (Term(0.7, held), Term(0.2, held)))})
    (term,) = shuffle(doubled).modules[LINEAR].terms
    undone = to_numpy(term.structure.up) @ to_numpy(rotation(0, str(LINEAR), 4)).T
    assert term.structure.rank == 4
    np.testing.assert_allclose(undone[:, 2:], 0, atol=1e-15)


def test_extras_and_metadata_do_not_pass(both: Adapter) -> None:
    value = adapter(metadata={"x": "y"}, extras={"e": torch.ones(2)})
    assert (shuffle(value).extras, shuffle(value).spec.metadata) == ({}, {})


def test_errors_name_the_module() -> None:
    bad = Delta((4, 4), (Term(1.0, LowRank(torch.full((4, 2), float("inf")), torch.ones(2, 4))),))
    with pytest.raises(BuildError) as caught:
        shuffle(adapter_of({LINEAR: bad}))
    assert str(caught.value) == "error: attn.to_q.weight: NaN or Inf in the factors"


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_factors_put_away_are_the_same_when_they_are_read_again(both: Adapter, mode: str) -> None:
    away = Away()
    kept, apart = shuffle(both, 3, mode), shuffle(both, 3, mode, put_away=away)
    assert len(away.kept) == len(both.modules)
    for module in both.modules:
        assert np.array_equal(dense(apart.delta(module)), dense(kept.delta(module)))


# --- structures that are not two factors ------------------------------------------------


def of(*deltas: Delta) -> Adapter:
    modules = {ModuleId("unet", f"m{i}.weight"): d for i, d in enumerate(deltas)}
    specs = {
        m: ModuleSpec(d.shape, d.rank, Spelling("m"), None if d.plain else Form("a format"))
        for m, d in modules.items()
    }
    return Adapter(AdapterSpec("sd1", specs, "F32"), modules)


@pytest.mark.parametrize("sort", [sort for sort in SORTS if sort != "bias"])
@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_every_structure_becomes_plain_factors_of_the_same_delta(sort: str, mode: str) -> None:
    sample = SORTS[sort](3, torch.float32)
    value = of(sample.delta(-0.5))
    shuffled = shuffle(value, 5, mode)
    shuffled.check(shuffle_spec(value.spec, mode))
    ((module, found),) = shuffled.modules.items()
    assert (found.plain, shuffled.spec.modules[module].form) == (True, None)
    assert found.rank == value.spec.modules[module].rank
    np.testing.assert_allclose(dense(found), -0.5 * sample.matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_a_sum_of_structures_keeps_its_delta(mode: str) -> None:
    value, matrix = summed([(0.7, loha(12, 10)), (-0.4, lokr((2, 5), (6, 2))), (1.0, full(12, 10))])
    (found,) = shuffle(of(value), 1, mode).modules.values()
    assert found.rank == 10
    np.testing.assert_allclose(dense(found), matrix, rtol=0, atol=1e-12)


def test_a_loha_rotated_does_not_show_its_factors() -> None:
    sample = loha(40, 30, 2)
    (found,) = shuffle(of(sample.delta()), 1).modules.values()
    up = to_numpy(found.terms[0].structure.up).T
    own = to_numpy(sample.structure.factors(torch.float64).up).T
    assert similarity(up, own) < 0.95
    assert found.terms[0].structure.rank == 4


def test_a_bias_stays_and_does_not_show_of_how_many_it_is_the_sum() -> None:
    one, two = full(12, 1, 1), full(12, 1, 2)
    alone = Delta((12,), (Term(0.5, one.structure),))
    both = Delta((12,), (Term(0.5, one.structure), Term(-2.0, two.structure)))
    shuffled = shuffle(of(alone, both), 1)
    kept, summed_up = shuffled.modules.values()
    assert kept is alone
    (term,) = summed_up.terms
    np.testing.assert_allclose(
        to_numpy(term.coefficient * term.structure.dense(torch.float64)),
        0.5 * one.matrix - 2.0 * two.matrix,
        rtol=1e-15,
    )
    shuffled.check(shuffle_spec(of(alone, both).spec))


@pytest.mark.parametrize("mode", ["rotate", "permute"])
def test_what_is_nothing_stays_nothing(mode: str) -> None:
    nothing, some = delta((6, 5), (1.0, 0)), delta((6, 5), (1.0, 2))
    for value in shuffle(of(nothing, some), 1, mode).modules.values():
        assert isinstance(value, Delta)
    kept, changed = shuffle(of(nothing, some), 1, mode).spec.modules.values()
    assert (kept.rank, kept.empty, changed.rank) == (0, True, 2)
