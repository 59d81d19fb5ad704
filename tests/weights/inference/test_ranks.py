"""Ranks from singular values and from a size, held against searches through all there are."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.ranks import Dynamic, Ranks, fitted, least_size
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

VALUES = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=12).map(
    lambda found: sorted(found, reverse=True)
)


def a_spec(*shapes: tuple[int, ...], rank: int = 8, dtype: str = "F16") -> AdapterSpec:
    modules = {
        ModuleId("unet", f"m{i}"): ModuleSpec(shape, rank, Spelling(f"lora_m{i}"))
        for i, shape in enumerate(shapes)
    }
    return AdapterSpec("sd1", modules, dtype)


@settings(max_examples=100, deadline=None)
@given(VALUES, st.floats(1, 1000))
def test_sv_ratio_keeps_what_is_above_the_largest_over_the_value(s: list[float], value: float) -> None:
    assert Dynamic("sv-ratio", value).rank(s) == max(1, len([x for x in s if x * value > s[0]]))


@settings(max_examples=100, deadline=None)
@given(VALUES, st.floats(0.001, 1), st.sampled_from(["sv-cumulative", "sv-fro"]))
def test_a_share_is_reached_by_the_rank_and_by_none_below(s: list[float], value: float, rule: str) -> None:
    weights, due = (s, value) if rule == "sv-cumulative" else ([x * x for x in s], value * value)
    rank = Dynamic(rule, value).rank(s)
    assert 1 <= rank <= len(s)
    slack = 1e-12 * sum(weights)
    assert sum(weights[:rank]) >= due * sum(weights) - slack
    assert rank == 1 or sum(weights[: rank - 1]) < due * sum(weights) + slack


@pytest.mark.parametrize(
    ("rule", "value", "rank"),
    [
        ("sv-ratio", 1, 1), ("sv-ratio", 2, 1), ("sv-ratio", 2.001, 2), ("sv-ratio", 1e9, 4),
        ("sv-cumulative", 1e-9, 1), ("sv-cumulative", 0.5, 1), ("sv-cumulative", 0.75, 2),
        ("sv-cumulative", 0.751, 3), ("sv-cumulative", 1, 4),
        ("sv-fro", 0.5, 1), ("sv-fro", 0.9, 2), ("sv-fro", 1, 4),
        ("threshold", 0, 4), ("threshold", 1, 3), ("threshold", 8, 1), ("threshold", 1e9, 1),
        ("quantile", 1e-9, 1), ("quantile", 0.5, 1), ("quantile", 0.751, 2), ("quantile", 1, 3),
    ],
)  # fmt: skip
def test_a_rule_at_its_edges(rule: str, value: float, rank: int) -> None:
    # 8 + 4 + 3 + 1 = 16; 64 + 16 + 9 + 1 = 90.
    assert Dynamic(rule, value).rank([8.0, 4.0, 3.0, 1.0, 0.0, 0.0]) == rank


@settings(max_examples=100, deadline=None)
@given(VALUES, st.floats(0.001, 1))
def test_a_quantile_is_what_lycoris_makes_of_it(s: list[float], value: float) -> None:
    """``sum(cumsum(S) < q * sum(S))``, at least 1."""
    below, total, due = 0, 0.0, value * sum(s)
    for one in s:
        total += one
        below += total < due - 1e-9 * due
    assert Dynamic("quantile", value).rank(s) in (max(1, below), max(1, below + 1))
    assert Dynamic("quantile", value).rank(s) <= Dynamic("sv-cumulative", value).rank(s)


@pytest.mark.parametrize("rule", ["sv-ratio", "sv-cumulative", "sv-fro", "threshold", "quantile"])
def test_of_nothing_one_is_kept(rule: str) -> None:
    assert Dynamic(rule, 1).rank([0.0, 0.0, 0.0]) == 1


@pytest.mark.parametrize(
    ("rule", "value"),
    [("sv-ratio", 0.9), ("sv-ratio", float("inf")), ("sv-fro", 0), ("sv-fro", 1.01), ("sv-cumulative", -1),
     ("sv-cumulative", float("nan")), ("sv_fro", 0.5), ("threshold", -0.1), ("threshold", float("inf")),
     ("quantile", 0), ("quantile", 1.1)],
)  # fmt: skip
def test_a_rule_that_says_nothing_is_refused(rule: str, value: float) -> None:
    with pytest.raises(RecipeError) as caught:
        Dynamic(rule, value)
    assert (caught.value.code, caught.value.option) == ("bad-rule", "dynamic")


def test_only_rules_and_sizes_leave_the_ranks_to_the_data() -> None:
    assert not Ranks(4, conv=2).bounded
    assert Ranks(4, dynamic=Dynamic("sv-fro", 0.9)).bounded
    assert Ranks(4, max_size=1000).bounded


def test_the_least_size_counts_one_component_alphas_extras_and_the_header() -> None:
    spec = a_spec((10, 20), (30, 4, 3, 3))
    header = 3 * 2 * (128 + len("lora_m0")) + len("{}")
    assert least_size(spec) == 2 * (10 + 20) + 2 * (30 + 36) + 2 * 4 + header
    wide = replace(spec, dtype="F32", extras={"e": TensorSpec("F64", (5,))}, metadata={"k": "v"})
    assert least_size(wide) - least_size(replace(spec, dtype="F32")) == 40 + 128 + 1 + len('"k": "v"')


def energy(values: tuple[list[float], ...], kept: tuple[int, ...]) -> float:
    return sum(x * x for found, n in zip(values, kept, strict=True) for x in found[:n])


def test_with_equal_bytes_the_greedy_choice_is_the_best_of_all() -> None:
    spec = a_spec((10, 10), (10, 10), (10, 10))
    values = ([9.0, 5.0, 1.0], [8.0, 7.0, 2.0], [3.0, 2.0, 1.0])
    for further in range(7):
        size = least_size(spec) + 40 * further + 39
        kept = tuple(fitted(spec, size, dict(zip(spec.modules, values, strict=True))).values())
        assert sum(kept) == 3 + further
        choices = (c for c in product((1, 2, 3), repeat=3) if sum(c) <= 3 + further)
        assert energy(values, kept) == max(energy(values, c) for c in choices)


def test_a_component_counts_by_its_energy_for_each_byte() -> None:
    spec = a_spec((10, 10), (100, 100))
    values = dict(zip(spec.modules, ([5.0, 2.0], [5.0, 5.0]), strict=True))
    # 4 over 40 bytes are more than 25 over 400.
    assert list(fitted(spec, least_size(spec) + 400, values).values()) == [2, 1]
    assert list(fitted(spec, least_size(spec) + 440, values).values()) == [2, 2]


def test_on_a_tie_the_earlier_module_is_served() -> None:
    spec = a_spec((10, 10), (10, 10))
    values = dict(zip(spec.modules, ([2.0, 2.0], [2.0, 2.0]), strict=True))
    assert list(fitted(spec, least_size(spec) + 40, values).values()) == [2, 1]


def test_zeros_are_never_bought() -> None:
    spec = a_spec((10, 10), (10, 10))
    values = dict(zip(spec.modules, ([2.0, 0.0], [0.0, 0.0]), strict=True))
    assert list(fitted(spec, 1 << 30, values).values()) == [1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), VALUES), min_size=1, max_size=5),
    st.integers(0, 3000),
)
def test_what_is_kept_fits_and_nothing_that_is_left_would(
    modules: list[tuple[int, int, list[float]]], spare: int
) -> None:
    spec = a_spec(*((o, i) for o, i, _ in modules))
    values = dict(zip(spec.modules, (s for _, _, s in modules), strict=True))
    kept = fitted(spec, least_size(spec) + spare, values)
    sizes = {m: 2 * (known.shape[0] + known.shape[1]) for m, known in spec.modules.items()}
    used = sum(sizes[m] * (n - 1) for m, n in kept.items())
    assert used <= spare
    for module, n in kept.items():
        assert 1 <= n <= len(values[module])
        more = n < len(values[module]) and values[module][n] ** 2 > 0
        assert (
            not more
            or used + sizes[module] > spare
            or any(
                values[m][k - 1] ** 2 / sizes[m] <= values[module][n] ** 2 / sizes[module]
                for m, k in kept.items()
                if k > 1
            )
        )


def test_a_bias_counts_as_it_is_and_no_component_of_it_is_bought() -> None:
    spec = a_spec((10, 20))
    bias = ModuleSpec(
        (30,), 1, Spelling("lora_m0"), Form("full difference", ((".diff_b", TensorSpec("F32", (30,))),))
    )
    both = replace(spec, modules={**spec.modules, ModuleId("unet", "bias"): bias})
    assert least_size(both) - least_size(spec) == 4 * 30 + 4 + 3 * (128 + len("lora_m0"))
    values = dict(zip(both.modules, ([5.0, 4.0], []), strict=True))
    assert list(fitted(both, 1 << 20, values).values()) == [2, 1]
