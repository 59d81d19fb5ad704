"""The difference of two checkpoints as a LoRA: what is kept, what is left out, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.checkpoints import extract as under_test
from lorapipe.weights.checkpoints.checkpoint import Checkpoint, merge
from lorapipe.weights.checkpoints.difference import Side, Taker
from lorapipe.weights.checkpoints.extract import Extracted, extract
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.inference.extraction import Extraction, Site, Sites, extract_spec
from lorapipe.weights.inference.ranks import Dynamic, Ranks
from lorapipe.weights.linalg.spectra import spectrum
from lorapipe.weights.specs import ModuleId, Spelling
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Dense, LowRank
from tests.weights.samples import Away, Matrix, Memory, adapter_of, checkpoint_spec, delta, to_numpy

SHAPES: Mapping[str, tuple[int, ...]] = {"a": (12, 10), "b": (9, 5, 3, 3), "c": (40, 8), "d": (6, 6)}


def site(key: str, shape: tuple[int, ...] | None = None, **known: Any) -> Site:
    shape = SHAPES[key] if shape is None else shape
    return Site("unet", key, ((0, shape[0]),), shape, Spelling(f"lora_{key}"), **known)


SITES = Sites(tuple(site(key) for key in SHAPES))


def pair(change: Callable[[str, Matrix], Matrix], **more: tuple[int, ...]) -> Taker:
    """Two checkpoints: random numbers, and what ``change`` makes of them."""
    rng = np.random.default_rng(0)
    base = {key: rng.standard_normal(shape) for key, shape in {**SHAPES, **more}.items()}
    tuned = {key: change(key, matrix) for key, matrix in base.items()}
    sources = [
        Memory({k: torch.from_numpy(np.asarray(m)) for k, m in held.items()}) for held in (base, tuned)
    ]
    first, second = (Checkpoint(checkpoint_spec(source), source) for source in sources)
    return Taker([Side("base", -1.0, first, rounded=False), Side("tuned", 1.0, second, rounded=True)])


def noisy(key: str, matrix: Matrix) -> Matrix:
    rng = np.random.default_rng(len(key) + int(matrix.size))
    found: Matrix = matrix + 0.1 * rng.standard_normal(matrix.shape)
    return found


def exact(taker: Taker, key: str) -> Matrix:
    held = [side.checkpoint.source for side in taker.sides]
    base, tuned = (to_numpy(source.held[key]) for source in held if isinstance(source, Memory))
    found: Matrix = (tuned - base).reshape(len(tuned), -1)
    return found


def dense(found: Extracted, key: str, rows: tuple[int, int] | None = None) -> Matrix:
    return to_numpy(found.adapter.delta(ModuleId("unet", key, rows)).dense(torch.float64))


def wanted(rank: int = 64, **said: Any) -> Extraction:
    return Extraction(Ranks(rank, dynamic=said.pop("dynamic", None)), **said)


def run(taker: Taker, sites: Sites = SITES, asked: Extraction | None = None, **said: Any) -> Extracted:
    asked = asked or wanted()
    found = extract(taker, sites, "sd1", asked, **said)
    found.adapter.check(extract_spec(sites.found, "sd1", asked))
    return found


def test_with_room_for_all_the_difference_is_whole() -> None:
    taker = pair(noisy)
    found = run(taker)
    for key in SHAPES:
        np.testing.assert_allclose(dense(found, key), exact(taker, key), atol=1e-13)
        assert found.energy[ModuleId("unet", key)] == pytest.approx(1.0, abs=1e-14)
    assert not found.left_out
    assert not found.lost
    assert not found.error


@pytest.mark.parametrize("sketched", [False, True], ids=["exact", "randomized"])
def test_the_best_of_the_rank_is_kept(sketched: bool) -> None:
    taker = pair(noisy)
    found = run(taker, asked=wanted(2, sketched=sketched))
    for key in SHAPES:
        difference = exact(taker, key)
        s = np.linalg.svd(difference, compute_uv=False)
        left = np.linalg.norm(dense(found, key) - difference) / np.linalg.norm(s)
        assert left == pytest.approx(np.linalg.norm(s[2:]) / np.linalg.norm(s), rel=1e-3)
        module = ModuleId("unet", key)
        assert found.energy[module] == pytest.approx(1 - left**2, rel=1e-9)
        assert found.error.get(module) == (pytest.approx(left, rel=1e-9) if sketched else None)


def test_what_follows_from_rounding_alone_is_cut() -> None:
    """Numbers of 2e-16 beside a difference of rank 1."""

    def change(key: str, matrix: Matrix) -> Matrix:
        rows = np.arange(len(matrix), dtype=float)
        found: Matrix = matrix + rows.reshape(-1, *(1 for _ in matrix.shape[1:]))
        return found

    found = run(pair(change))
    assert {known.rank for known in found.adapter.spec.modules.values()} == {1}


@pytest.mark.parametrize(
    ("rule", "rank"),
    [(("threshold", 2.5), 2), (("sv-ratio", 3.0), 2), (("quantile", 0.9), 2), (("sv-cumulative", 0.9), 3),
     (("sv-fro", 0.99), 3), (("threshold", 100.0), 1)],
)  # fmt: skip
def test_a_rule_says_how_many_values_are_kept(rule: tuple[str, float], rank: int) -> None:
    values = np.array([4.0, 3.0, 1.0, 0.5])  # 8.5; 26.25

    def change(key: str, matrix: Matrix) -> Matrix:
        flat = np.zeros((matrix.shape[0], matrix.size // matrix.shape[0]))
        flat[range(4), range(4)] = values
        found: Matrix = matrix + flat.reshape(matrix.shape)
        return found

    ways = [False] if rule[0] in ("quantile", "sv-cumulative") else [False, True]
    for sketched in ways:
        found = run(pair(change), asked=wanted(dynamic=Dynamic(*rule), sketched=sketched))
        assert {known.rank for known in found.adapter.spec.modules.values()} == {rank}
    capped = run(pair(change), asked=wanted(1, dynamic=Dynamic(*rule)))
    assert {known.rank for known in capped.adapter.spec.modules.values()} == {1}


def test_the_share_of_the_norm_counts_what_a_range_finder_did_not_see() -> None:
    taker = pair(noisy, e=(60, 60))
    sites = Sites((site("e", (60, 60)),))
    s = np.linalg.svd(exact(taker, "e"), compute_uv=False)
    share = float(np.linalg.norm(s[:5]) / np.linalg.norm(s)) * 0.999
    ranks = [
        run(taker, sites, wanted(7, dynamic=Dynamic("sv-fro", share), sketched=way)).adapter.spec
        for way in (False, True)
    ]
    assert [known.rank for spec in ranks for known in spec.modules.values()] == [5, 5]


def test_modules_that_do_not_differ_or_by_little_are_empty() -> None:
    def change(key: str, matrix: Matrix) -> Matrix:
        by = {"a": 0.5, "b": 0.01, "c": 0.0, "d": 0.1}[key]
        found = matrix.copy()
        found[1, 2] += by
        return found

    found = run(pair(change), asked=wanted(least=0.05))
    assert {m.key: known.rank for m, known in found.adapter.spec.modules.items()} == {
        "a": 1,
        "b": 0,
        "c": 0,
        "d": 1,
    }
    assert found.left_out == {"small": 1, "same": 1}
    assert found.energy.keys() == {ModuleId("unet", "a"), ModuleId("unet", "d")}
    np.testing.assert_array_equal(dense(found, "b"), np.zeros((9, 45)))
    with pytest.raises(BuildError, match="no number differs by as much as 'min-diff'") as caught:
        run(pair(change), asked=wanted(least=0.6))
    assert (caught.value.code, caught.value.option) == ("nothing-left", "min-diff")


def test_a_fused_weight_gives_each_module_its_own_rows() -> None:
    taker = pair(noisy)
    parts = tuple(
        Site("unet", "a", ((start, start + 4),), (4, 10), Spelling(f"lora_{start}"), whole=False)
        for start in (0, 4, 8)
    )
    found = run(taker, Sites(parts))
    for start in (0, 4, 8):
        rows = exact(taker, "a")[start : start + 4]
        np.testing.assert_allclose(dense(found, "a", (start, start + 4)), rows, atol=1e-13)


def test_a_module_whose_rows_lie_apart_has_one_down() -> None:
    """So that a file, which has them as one module, has it with the rank of one."""
    taker = pair(noisy)
    turned = Site("unet", "a", ((7, 12), (0, 7)), (12, 10), Spelling("lora_a"), whole=False)
    found = run(taker, Sites((turned,)), wanted(3))
    one, two = (
        found.adapter.delta(ModuleId("unet", "a", rows)).terms[0].structure for rows in ((7, 12), (0, 7))
    )
    assert isinstance(one, LowRank)
    assert isinstance(two, LowRank)
    assert torch.equal(one.down, two.down)
    rolled = np.roll(exact(taker, "a"), 5, axis=0)
    s = np.linalg.svd(rolled, compute_uv=False)
    both = np.concatenate([dense(found, "a", (7, 12)), dense(found, "a", (0, 7))])
    assert np.linalg.norm(both - rolled) == pytest.approx(np.linalg.norm(s[3:]), rel=1e-9)


def test_a_bias_is_what_it_gains_and_says_nothing_of_energy() -> None:
    taker = pair(noisy, bias=(7,))
    found = run(taker, Sites((site("bias", (7,), suffix=".diff_b"),)))
    (delta,) = found.adapter.modules.values()
    np.testing.assert_array_equal(to_numpy(delta.dense(torch.float64)), exact(taker, "bias"))  # type: ignore[union-attr]
    assert not found.energy
    same = pair(lambda key, matrix: matrix if key == "bias" else noisy(key, matrix), bias=(7,))
    both = run(same, Sites((site("a"), site("bias", (7,), suffix=".diff_b"))))
    known = both.adapter.spec.modules[ModuleId("unet", "bias")]
    assert known.empty
    assert known.form is not None


def test_a_whole_difference_is_kept_where_factors_are_no_smaller() -> None:
    taker = pair(noisy)
    found = run(taker, asked=wanted(64, full=True))
    for key in SHAPES:
        (term,) = found.adapter.delta(ModuleId("unet", key)).terms
        assert isinstance(term.structure, Dense)
        np.testing.assert_array_equal(dense(found, key), exact(taker, key))
        known = found.adapter.spec.modules[ModuleId("unet", key)]
        assert known.form is not None
        assert not known.form.undecided
    few = run(taker, asked=wanted(5, full=True)).adapter.spec.modules
    # 5 (12 + 10) < 120; 5 (9 + 45) < 405; 5 (40 + 8) < 320; but 5 (6 + 6) > 36.
    assert [m.key for m, known in few.items() if known.form] == ["d"]


def test_what_no_lora_holds_is_told_with_its_greatest_difference() -> None:
    taker = pair(noisy, vae=(3, 4), norm=(5,), scalar=())
    found = run(taker, Sites((site("a"),), others=("vae", "norm", "scalar")))
    assert found.lost == {
        key: pytest.approx(np.abs(exact_of(taker, key)).max()) for key in ("vae", "norm", "scalar")
    }
    same = pair(lambda key, matrix: noisy(key, matrix) if key == "a" else matrix, vae=(3, 4))
    assert not run(same, Sites((site("a"),), others=("vae",))).lost


def exact_of(taker: Taker, key: str) -> Matrix:
    held = [side.checkpoint.source for side in taker.sides]
    base, tuned = (to_numpy(source.held[key]) for source in held if isinstance(source, Memory))
    found: Matrix = tuned - base
    return found


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(BuildError) as caught:
        run(pair(lambda key, matrix: matrix))
    assert (caught.value.code, caught.value.hint) == ("nothing-left", None)
    vae = pair(lambda key, matrix: noisy(key, matrix) if key == "vae" else matrix, vae=(3, 4))
    with pytest.raises(BuildError, match="such as vae"):
        run(vae, Sites(SITES.found, others=("vae",)))


def test_errors_name_the_module() -> None:
    def change(key: str, matrix: Matrix) -> Matrix:
        found: Matrix = np.where(key == "b", np.nan, matrix)
        return found

    with pytest.raises(BuildError) as caught:
        run(pair(change))
    assert str(caught.value).startswith("error: b: the weight of 'tuned' holds NaN")


# --- how it is done ---------------------------------------------------------------------


def test_work_is_spread_by_the_callers_map() -> None:
    seen: list[object] = []

    def each(function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        for item in items:
            seen.append(item)
            yield function(item)

    run(pair(noisy), each=each)
    assert seen == [*SITES.found, None]


@pytest.mark.parametrize("rank", [3, 30])
def test_a_lora_that_was_merged_and_not_saved_needs_no_whole_svd(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has few ranks; and whether or not, what comes of it is the same."""
    rng = np.random.default_rng(0)
    source = Memory({"e": torch.from_numpy(rng.standard_normal((80, 90))).half()})
    base = Checkpoint(checkpoint_spec(source), source)
    lora = adapter_of({ModuleId("unet", "e"): delta((80, 90), (0.5, rank))})
    tuned = merge(base, [(1.0, lora, bind(lora.spec, base.spec))])
    taker = Taker([Side("base", -1.0, base, rounded=False), Side("tuned", 1.0, tuned, rounded=True)])
    whole: list[object] = []
    monkeypatch.setattr(under_test, "spectrum", lambda matrix: whole.append(0) or spectrum(matrix))
    found = run(taker, Sites((site("e", (80, 90)),)), wanted(8))
    whole_delta = to_numpy(lora.delta(ModuleId("unet", "e")).dense(torch.float64))
    s = np.linalg.svd(whole_delta, compute_uv=False)
    assert bool(whole) is (rank > 26)  # 80 / 8 and 16 more
    assert found.adapter.spec.modules[ModuleId("unet", "e")].rank == min(rank, 8)
    error = np.linalg.norm(dense(found, "e") - whole_delta)
    assert error == pytest.approx(np.linalg.norm(s[8:rank]), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("full", [False, True], ids=["factors", "whole"])
def test_what_is_put_away_is_the_same_when_it_is_read_again(full: bool) -> None:
    taker, away = pair(noisy), Away()
    kept, apart = run(taker, asked=wanted(full=full)), run(taker, asked=wanted(full=full), put_away=away)
    assert len(away.kept) == len(SHAPES)
    assert kept.adapter.spec == apart.adapter.spec
    for key in SHAPES:
        np.testing.assert_array_equal(dense(kept, key), dense(apart, key))
        (term,) = apart.adapter.delta(ModuleId("unet", key)).terms
        assert isinstance(term.structure, Lazy)


def test_a_hidden_checkpoint_makes_a_hidden_lora() -> None:
    taker = pair(noisy)
    base, tuned = taker.sides
    hidden = replace(tuned.checkpoint, spec=replace(tuned.checkpoint.spec, hidden=True))
    sides = [base, replace(tuned, checkpoint=hidden)]
    assert extract(Taker(sides), SITES, "sd1", wanted()).adapter.spec.hidden
    assert not run(taker).adapter.spec.hidden


@pytest.mark.parametrize("compute", ["float64", "float32"])
def test_factors_are_in_the_compute_type(compute: str) -> None:
    taker = pair(noisy)
    found = run(Taker(taker.sides, compute))
    (term,) = found.adapter.delta(ModuleId("unet", "a")).terms
    structure = term.structure
    assert isinstance(structure, LowRank)
    assert str(structure.up.dtype) == f"torch.{compute}"
    np.testing.assert_allclose(dense(found, "a"), exact(taker, "a"), atol=1e-5)
