"""What components are scored by is what numpy finds of the whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.algebra.scoring import scores
from lorapipe.weights.inference.ranks import Ranks, least_size
from lorapipe.weights.inference.scoring import REFERENCES, Score
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.specs import ModuleId
from tests.weights.samples import CONV, LINEAR, SHAPES, TEXT, Matrix, adapter_of, delta, dense

SUM = {module: delta(shape, (1.0, 3), (-0.4, 2), seed=5) for module, shape in SHAPES.items()}
"""Of two LoRAs, one with a negative weight."""


def weight(module: ModuleId) -> Matrix:
    shape = SHAPES[module]
    rng = np.random.default_rng(len(module.key))
    return rng.standard_normal((shape[0], int(np.prod(shape[1:]))))


def base(module: ModuleId) -> torch.Tensor:
    return torch.from_numpy(weight(module))


def reference(name: str, module: ModuleId, u: Matrix, s: Matrix, vt: Matrix) -> Matrix:
    """The references as their formulas have them, of matrices that are there."""
    matrix = weight(module)
    found = {
        "spectral": np.linalg.norm(matrix, 2),
        "frobenius": np.linalg.norm(matrix),
        "subspace": np.abs(np.einsum("oj,oi,ji->j", u, matrix, vt)),
        "lora-spectral": s[0],
        "lora-frobenius": np.linalg.norm(s),
        "params": float(sum(matrix.shape)),
    }
    return np.broadcast_to(np.asarray(found[name], np.float64), s.shape)


def expected(by: dict[str, float], module: ModuleId) -> Matrix:
    u, s, vt = np.linalg.svd(dense(SUM[module]), full_matrices=False)
    u, s, vt = u[:, :5], s[:5], vt[:5]
    logs = sum(w * np.log10(reference(name, module, u, s, vt)) for name, w in by.items())
    found: Matrix = np.log10(s) - logs / sum(by.values())
    return found


@pytest.mark.parametrize("module", SHAPES)
@pytest.mark.parametrize(
    "by",
    [
        *({name: 1.0} for name in REFERENCES),
        {"frobenius": 0.8, "params": 0.2},
        {"spectral": 3.0, "subspace": 2.0, "lora-spectral": 1.0, "params": -0.5},
    ],
)
def test_scores_are_those_of_the_whole_matrices(by: dict[str, float], module: ModuleId) -> None:
    svd = compact_svd(SUM[module])
    found = scores(Score(by), SUM[module], svd, base(module))
    np.testing.assert_allclose(found[:5], expected(by, module), rtol=0, atol=1e-10)
    assert all(score == -np.inf for score in found[5:])


def test_a_wider_base_has_norms_of_its_own_and_the_deltas_share_of_a_subspace() -> None:
    wide = torch.cat([base(CONV), torch.full((9, 45), 3.0, dtype=torch.float64)], dim=1)
    svd = compact_svd(SUM[CONV])
    along = scores(Score({"subspace": 1}), SUM[CONV], svd, wide)
    np.testing.assert_allclose(along[:5], expected({"subspace": 1}, CONV), atol=1e-10)
    norm = scores(Score({"frobenius": 1}), SUM[CONV], svd, wide)
    np.testing.assert_allclose(
        norm[:5], np.log10(svd.s.numpy()[:5]) - np.log10(np.linalg.norm(wide.numpy())), atol=1e-10
    )


# --- what is kept by them -----------------------------------------------------------------


def scored(by: dict[str, float], threshold: float | None = None, **ranks: int) -> Ranks:
    return Ranks(ranks.pop("rank", None), score=Score(by, threshold), **ranks)


def test_the_components_above_a_threshold_are_kept_and_no_others() -> None:
    """By 'subspace' these are not the first ones: the result is their sum, whatever their places."""
    value = adapter_of(SUM)
    by, skipped = {"subspace": 1.0}, 0
    found = resize(value, scored(by, 0.5), base=base)
    for module in SHAPES:
        u, s, vt = np.linalg.svd(dense(SUM[module]), full_matrices=False)
        kept = [j for j, score in enumerate(expected(by, module)) if score >= 0.5]
        skipped += kept != list(range(len(kept)))
        whole = dense(SUM[module])
        part = (u[:, kept] * s[kept]) @ vt[kept]
        assert found.adapter.spec.modules[module].rank == len(kept)
        np.testing.assert_allclose(dense(found.adapter.modules[module]), part, atol=1e-10)
        energy = 1 - np.linalg.norm(whole - part) ** 2 / np.linalg.norm(whole) ** 2
        assert found.energy[module] == pytest.approx(energy, abs=1e-10)
        assert found.scores[module] == pytest.approx([expected(by, module)[j] for j in kept], abs=1e-9)
    assert skipped


def test_a_module_of_which_nothing_counts_is_left_empty() -> None:
    by = {"params": 1.0}
    tops = {module: expected(by, module)[0] for module in SHAPES}
    least = min(tops, key=lambda module: tops[module])
    found = resize(adapter_of(SUM), scored(by, float(tops[least]) + 1e-6))
    assert {m for m, known in found.adapter.spec.modules.items() if known.empty} == {least}
    assert (found.energy[least], found.adapter.modules[least].rank) == (0.0, 0)


def test_a_rank_caps_what_scores_best() -> None:
    by = {"subspace": 1.0}
    found = resize(adapter_of(SUM), scored(by, -100.0, rank=2), base=base)
    for module in SHAPES:
        kept = sorted(np.argsort(-expected(by, module), kind="stable")[:2])
        u, s, vt = np.linalg.svd(dense(SUM[module]), full_matrices=False)
        part = (u[:, kept] * s[kept]) @ vt[kept]
        np.testing.assert_allclose(dense(found.adapter.modules[module]), part, atol=1e-10)


def test_what_is_kept_whole_passes_bit_for_bit() -> None:
    value = adapter_of({LINEAR: SUM[LINEAR]})
    same = resize(value, scored({"spectral": 1.0}, -100.0), base=base)
    assert same.adapter.modules[LINEAR] is value.modules[LINEAR]
    assert same.energy[LINEAR] == 1.0


def test_a_size_is_filled_by_score_over_all_modules() -> None:
    """As numpy fills it: one module may have nothing."""
    value = adapter_of(SUM)
    by, spec = {"lora-frobenius": 1.0, "params": 3.0}, value.spec
    room = least_size(spec, scored=True) + 900
    found = resize(value, scored(by, max_size=room)).adapter.spec
    fixed = len("{}")
    spare, kept = room - fixed, dict.fromkeys(SHAPES, 0)
    every = [(-score, i, m) for i, m in enumerate(SHAPES) for score in expected(by, m)]
    for _, _, module in sorted(every):
        known = spec.modules[module]
        size = 4 * (known.shape[0] + known.columns)
        size += 0 if kept[module] else 4 + 3 * (128 + len(known.spelling.stem))
        if size <= spare:
            kept[module] += 1
            spare -= size
    assert {module: known.rank for module, known in found.modules.items()} == kept
    assert 0 in kept.values()


def test_a_threshold_and_a_size_hold_both() -> None:
    value = adapter_of(SUM)
    by = {"lora-spectral": 1.0}
    alone = resize(value, scored(by, -0.3)).adapter.spec
    both = resize(value, scored(by, -0.3, max_size=10**6)).adapter.spec
    assert {m: k.rank for m, k in both.modules.items()} == {m: k.rank for m, k in alone.modules.items()}


def test_nothing_left_says_what_would_leave_something() -> None:
    with pytest.raises(BuildError) as caught:
        resize(adapter_of({TEXT: SUM[TEXT]}), scored({"lora-spectral": 1.0}, 0.5))
    assert (caught.value.code, caught.value.option) == ("nothing-left", "score")
    assert "no component scores 0.5: the highest score is 0" in str(caught.value)
    value = adapter_of({TEXT: delta((7, 11), (0.0, 2))})
    room = least_size(value.spec, scored=True)
    with pytest.raises(BuildError) as caught:
        resize(value, scored({"params": 1.0}, max_size=room))
    assert (caught.value.code, caught.value.option) == ("nothing-left", "max-size")
