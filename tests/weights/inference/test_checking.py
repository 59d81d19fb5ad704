"""What headers tell of assertions, and what is said of those that do not hold."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.inference.checking import Assertions, Figure, Limits, counted, foretold, judge, names
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    Form,
    ModuleId,
    ModuleSpec,
    Spelling,
    TensorSpec,
)
from lorapipe.weights.verdicts import Broken

SHAPES = {"q": (20, 20), "k": (20, 20), "conv": (20, 12, 3, 3)}


def lora(*ranks: int, bounded: bool = False) -> AdapterSpec:
    modules = {
        ModuleId("unet", key): ModuleSpec(shape, rank, Spelling(f"lora_{key}"))
        for (key, shape), rank in zip(SHAPES.items(), ranks, strict=False)
    }
    return AdapterSpec("sd1", modules, "F32", bounded=bounded)


MODEL = CheckpointSpec("sd1", {"a": TensorSpec("F16", (4,)), "b": TensorSpec("I64", (2,))}, {})


# --- limits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "said", "beyond"),
    [
        (Limits(most=8), (8, -inf), (8.0001, inf), "at most 8", "above 8"),
        (Limits(least=0.95), (0.95, inf), (0.9499, -inf), "at least 0.95", "below 0.95"),
        (Limits(4, 32), (4, 32), (3, 33), "from 4 to 32", "not from 4 to 32"),
        (Limits(722, 722), (722,), (721, 723), "722", "not 722"),
    ],
)
def test_a_limit_is_within_and_says_what_it_is(
    limits: Limits, inside: tuple[float, ...], outside: tuple[float, ...], said: str, beyond: str
) -> None:
    assert all(value in limits for value in inside)
    assert not any(value in limits for value in (*outside, nan))
    assert (str(limits), limits.beyond) == (said, beyond)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(allow_nan=True))
def test_what_is_missed_is_more_than_nothing_just_where_a_value_is_outside(
    one: float, two: float, value: float
) -> None:
    limits = Limits(min(one, two), max(one, two))
    assert (value not in limits) == (limits.missed(value) > 0)


def test_energy_is_the_share_that_is_left_and_of_nothing_all_or_less_than_nothing() -> None:
    assert Figure(left=0.0, whole=2.0).energy == 1.0
    assert Figure(left=2.0, whole=2.0).energy == 0.0
    assert Figure(left=4.0, whole=2.0).energy == -3.0
    assert Figure(left=0.0, whole=0.0).energy == 1.0
    assert Figure(left=1e-9, whole=0.0).energy == -inf


# --- names and counts -------------------------------------------------------------------


def test_modules_go_by_the_files_names_and_where_these_are_one_by_their_places_too() -> None:
    rows = {(0, 20): "to_qkv", (20, 40): "to_qkv", (40, 60): "to_v"}
    modules = {
        ModuleId("unet", "attn.weight", span): ModuleSpec((20, 8), 4, Spelling(stem))
        for span, stem in rows.items()
    }
    assert list(names(AdapterSpec("sd1", modules, "F32")).values()) == [
        "to_qkv (attn.weight[0:20])",
        "to_qkv (attn.weight[20:40])",
        "to_v",
    ]


def test_what_no_file_holds_is_not_counted() -> None:
    assert counted(lora(4, 0, 4)) == 2
    assert counted(MODEL) == 2


# --- foretold ---------------------------------------------------------------------------


def test_ranks_and_counts_are_told_by_headers_for_good_or_ill() -> None:
    good = foretold(lora(4, 8, 8), Assertions(rank=Limits(4, 8), modules=Limits(3, 3)), differ=False)
    assert (good.asserted, good.count, good.open, good.broken) == (
        ("rank from 4 to 8", "3 modules"),
        3,
        False,
        (),
    )
    bad = foretold(lora(4, 8, 9), Assertions(rank=Limits(most=4), modules=Limits(2, 2)), differ=False)
    assert bad.broken == (
        Broken("rank", "2 of 3 modules have a rank above 4", ("9  lora_conv", "8  lora_k")),
        Broken("modules", "it has 3 modules, not 2"),
    )


def test_of_bounds_only_what_holds_or_fails_for_all_of_them_is_foretold() -> None:
    spec = lora(8, 8, 8, bounded=True)
    assert not foretold(spec, Assertions(rank=Limits(most=8), modules=Limits(most=3)), differ=False).open
    for open_ in (
        Assertions(rank=Limits(most=7)),
        Assertions(rank=Limits(least=1)),
        Assertions(modules=Limits(3, 3)),
        Assertions(modules=Limits(least=1)),
    ):
        told = foretold(spec, open_, differ=False)
        assert (told.open, told.broken) == (True, ())
    never = foretold(spec, Assertions(modules=Limits(least=4)), differ=False)
    assert never.broken == (Broken("modules", "it has at most 3 modules, not at least 4"),)


@pytest.mark.parametrize(
    "asserted",
    [
        Assertions(finite=True),
        Assertions(norm=Limits(most=1)),
        Assertions(energy=Limits(least=0.5), of="x"),
        Assertions(total=Limits(least=0.5), of="x"),
        Assertions(differs_from="x"),
    ],
)
def test_the_rest_is_open_until_the_data_are_read(asserted: Assertions) -> None:
    assert foretold(lora(4), asserted, differ=False).open


def test_a_difference_that_headers_show_is_known_to_hold() -> None:
    asserted = Assertions(differs_from="x")
    assert not foretold(lora(4), asserted, differ=True).open
    assert foretold(lora(4), replace(asserted, finite=True), differ=True).open


def test_biases_and_what_is_no_pair_of_factors_have_no_rank_that_counts() -> None:
    spec = lora(4)
    modules = {
        **spec.modules,
        ModuleId("unet", "bias"): ModuleSpec((20,), 1, Spelling("bias")),
        ModuleId("unet", "oft"): ModuleSpec((20, 20), 0, Spelling("oft"), Form("OFT", additive=False)),
    }
    told = foretold(replace(spec, modules=modules), Assertions(rank=Limits(least=4)), differ=False)
    assert told.broken == ()
    assert told.count == 3


# --- judged -----------------------------------------------------------------------------

FIGURES = {
    "lora_q": Figure(3.0, 1.0, 2.0),
    "lora_k": Figure(4.0, 3.0, 5.0),
    "lora_conv": Figure(0.5, 0.0, 1.0),
}


def test_what_holds_is_told_with_the_modules_at_both_ends() -> None:
    asserted = Assertions(
        rank=Limits(most=8),
        modules=Limits(3, 3),
        norm=Limits(most=4),
        energy=Limits(least=0.64),
        of="both",
        differs_from="base",
        finite=True,
    )
    told, broken = judge(lora(4, 8, 8), asserted, FIGURES, "lora_q")
    assert broken == ()
    assert told == {
        "rank": {"min": {"value": 4, "of": "lora_q"}, "max": {"value": 8, "of": "lora_k"}},
        "modules": 3,
        "finite": True,
        "norm": {"min": {"value": 0.5, "of": "lora_conv"}, "max": {"value": 4.0, "of": "lora_k"}},
        "energy": {
            "min": {"value": 0.64, "of": "lora_k"},
            "max": {"value": 1.0, "of": "lora_conv"},
            "total": pytest.approx(1 - 10 / 30, rel=1e-15),
        },
        "differs-from": "lora_q",
    }


def test_what_does_not_hold_names_the_worst_first() -> None:
    asserted = Assertions(
        norm=Limits(1.0, 3.25),
        energy=Limits(least=0.9),
        total=Limits(least=0.7),
        of="both",
        differs_from="base",
    )
    _, broken = judge(lora(4, 8, 8), asserted, FIGURES)
    assert broken == (
        Broken("norm", "2 of 3 modules have a norm not from 1 to 3.25", ("4  lora_k", "0.5  lora_conv")),
        Broken(
            "energy", "2 of 3 modules have an energy of 'both' below 0.9", ("0.64  lora_k", "0.75  lora_q")
        ),
        Broken("energy", "the energy of 'both' is 0.666667 in all, below 0.7"),
        Broken("differs-from", "it is equal to 'base'"),
    )


def test_no_number_passes_for_no_limit() -> None:
    odd = {"lora_q": Figure(nan, nan, nan, finite=False), "lora_k": Figure(1.0, 0.0, 1.0)}
    asserted = Assertions(
        norm=Limits(most=9), energy=Limits(least=0), total=Limits(least=-9), of="x", finite=True
    )
    told, broken = judge(lora(4, 4), asserted, odd)
    assert [b.message for b in broken] == [
        "1 of 2 modules has NaN or Inf",
        "1 of 2 modules has a norm above 9",
        "1 of 2 modules has an energy of 'x' below 0",
        "the energy of 'x' is nan in all, below -9",
    ]
    assert broken[1].details == ("nan  lora_q",)
    assert told["finite"] is False


def test_five_modules_are_named_and_the_others_counted() -> None:
    figures = {f"m{i}": Figure(float(i)) for i in range(8)}
    _, (broken,) = judge(MODEL, Assertions(norm=Limits(most=0.5)), figures)
    assert broken.message == "7 of 8 tensors have a norm above 0.5"
    assert broken.details == ("7  m7", "6  m6", "5  m5", "4  m4", "3  m3", "and 2 more")


def test_a_module_that_turned_out_to_be_nothing_has_no_norm_to_be_held_against() -> None:
    figures = {"lora_q": Figure(2.0), "lora_k": Figure(0.0)}
    told, broken = judge(lora(4, 0), Assertions(norm=Limits(least=1.0)), figures)
    assert broken == ()
    assert told["norm"] == {
        "min": {"value": 2.0, "of": "lora_q"},
        "max": {"value": 2.0, "of": "lora_q"},
    }
