"""``check``: what it asserts, what it refuses to, and what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lorapipe
from lorapipe.errors import CheckFailed, LorapipeError, RecipeError, UsageError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Materialise
from lorapipe.weights.blocks import BLOCK_ELEMENTS
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from lorapipe.weights.verdicts import CheckSpec

from ..bench import CONV1, KEYS, PROJ_IN, SHAPES, TE, TO_Q, Bench
from .kit import FILE, Q, given, infer, load, lora, model, options

KIND = find_kind("check")
CHECKED = ("small", 1.0)


def inputs(spec: Any, of: Any = None, differs_from: Any = None) -> Any:
    """A check of ``small``, compared with ``both`` and with ``base``."""
    ports = {"check": [("small", 1.0, spec)]}
    if of is not None:
        ports["energy.of"] = [("both", 1.0, of)]
    if differs_from is not None:
        ports["differs-from"] = [("base", 1.0, differs_from)]
    return given(None, **ports)


def refused(checked: Any, **said: Any) -> list[tuple[str, str | None, str]]:
    with pytest.raises(LorapipeError) as caught:
        infer("check", checked, **said)
    errors = caught.value.parts
    assert all(isinstance(one, RecipeError) and one.hint for one in errors)
    return [(one.code, one.option, one.message) for one in errors]


def figures(checked: Any, **said: Any) -> Any:
    return KIND.work(checked, options("check", **said), Context())


def broken(checked: Any, **said: Any) -> dict[str | None, CheckFailed]:
    with pytest.raises(LorapipeError) as caught:
        figures(checked, **said)
    errors = caught.value.parts
    found = {one.option: one for one in errors if isinstance(one, CheckFailed)}
    assert len(found) == len(errors)
    return found


def dense(bench: Bench, name: str) -> dict[str, Any]:
    return {stem: bench.deltas[name][stem] for stem in SHAPES}


# --- what it is -------------------------------------------------------------------------


def test_it_gives_no_weights_and_all_its_options_are_in_its_key() -> None:
    assert KIND.materialise is Materialise.CHECK
    assert KIND.keyless == frozenset()


def test_it_says_what_it_asserts() -> None:
    told = infer(
        "check",
        inputs(lora(4), lora(8), lora(4)),
        rank={"max": 8},
        modules={"min": 2},
        finite=True,
        norm={"min": 0.5, "max": 10.0},
        energy={"min": 0.9, "total": 0.95},
    )
    assert told == CheckSpec(
        (
            "rank at most 8",
            "at least 2 modules",
            "finite",
            "norm from 0.5 to 10",
            "energy of 'both' at least 0.9",
            "energy of 'both' in all at least 0.95",
            "differs from 'base'",
        ),
        4,
    )
    assert infer("check", inputs(model()), modules=5).asserted == ("5 tensors",)


def test_what_headers_tell_is_told_before_any_work() -> None:
    assert not infer("check", inputs(lora(4)), rank={"min": 4, "max": 4}, modules=4).open
    told = infer("check", inputs(lora(4)), rank={"max": 3})
    assert [b.message for b in told.broken] == ["4 of 4 modules have a rank above 3"]
    assert infer("check", inputs(replace(lora(4), bounded=True)), rank={"max": 3}).open


# --- what it refuses --------------------------------------------------------------------


def test_a_file_cannot_be_checked() -> None:
    assert refused(inputs(FILE), finite=True) == [
        ("wrong-type", "check", "'check' takes a LoRA or a checkpoint")
    ]


def test_finite_false_alone_asserts_nothing() -> None:
    assert refused(inputs(lora()), finite=False) == [("no-assertion", "finite", "it asserts nothing")]


def test_ranks_are_those_of_loras_that_have_some() -> None:
    assert refused(inputs(model()), rank={"max": 4}) == [("wrong-type", "rank", "a checkpoint has no ranks")]
    oft = ModuleSpec((20, 20), 0, Spelling("oft"), Form("OFT", additive=False))
    none = AdapterSpec("sd1", {Q: oft}, "F32")
    assert refused(inputs(none), rank={"max": 4}) == [("no-ranks", "rank", "no module of it has a rank")]


def test_norms_and_energies_are_those_of_deltas() -> None:
    oft = ModuleSpec((20, 20), 0, Spelling("oft"), Form("OFT", additive=False))
    odd = AdapterSpec("sd1", {Q: oft}, "F32")
    (norm,) = refused(inputs(odd), norm={"max": 1.0})
    assert norm[:2] == ("not-additive", "norm")
    assert norm[2].startswith("'norm' takes LoRAs that add to a weight; 1 module of this one is OFT")
    plain = AdapterSpec("sd1", {Q: lora().modules[Q]}, "F32")
    assert [e[:2] for e in refused(inputs(plain, odd), energy={"min": 0.5})] == [("not-additive", "energy")]
    assert [e[:2] for e in refused(inputs(odd, plain), energy={"min": 0.5})] == [("not-additive", "energy")]


def test_like_is_compared_with_like() -> None:
    assert refused(inputs(lora(), model()), energy={"min": 0.5}) == [
        ("wrong-type", "energy", "'both' is a checkpoint, 'small' is not")
    ]
    assert refused(inputs(model(), None, lora())) == [
        ("wrong-type", "differs-from", "'base' is a LoRA, 'small' is not")
    ]


def test_modules_and_families_of_what_energy_is_of_are_the_same() -> None:
    less = lora(shapes={Q: (20, 20)})
    (error,) = refused(inputs(less, lora()), energy={"min": 0.5})
    assert error == ("modules-differ", "energy", "it lacks 3 modules that 'both' has")
    (error,) = refused(inputs(lora(), lora(family="sdxl")), energy={"min": 0.5})
    assert error == ("family-mismatch", "energy", "it is for SD1.x, 'both' is for SDXL")


def test_nothing_is_compared_with_itself() -> None:
    same = [("small", 1.0, lora())]
    checked = given(None, **{"check": same, "energy.of": same, "differs-from": same})
    assert refused(checked, energy={"min": 1.0}) == [
        ("self-comparison", "energy", "'small' is compared with itself"),
        ("self-comparison", "differs-from", "'small' is compared with itself"),
    ]


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = refused(inputs(model(), lora(), lora()), rank={"max": 4}, energy={"min": 0.5})
    assert [option for _, option, _ in found] == ["rank", "energy", "differs-from"]


# --- the figures of a LoRA --------------------------------------------------------------


def test_the_figures_of_a_resized_lora_are_those_of_the_dense_svd(bench: Bench) -> None:
    whole = lorapipe.load(bench.lora("a", rank=6))
    small = lorapipe.svd_resize(whole, rank=3)
    told = lorapipe.check(
        small, rank={"max": 3}, finite=True, norm={"max": 1e3}, energy={"of": whole, "min": 0.1}
    )
    energies, lost, all_of = {}, 0.0, 0.0
    norms = {}
    for stem, matrix in dense(bench, "a").items():
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        energies[stem] = squares[:3].sum() / squares.sum()
        norms[stem] = float(np.sqrt(squares[:3].sum()))
        lost, all_of = lost + squares[3:].sum(), all_of + squares.sum()
    worst = min(energies, key=energies.__getitem__)
    assert told["energy"]["min"] == {"value": pytest.approx(energies[worst], rel=1e-6), "of": worst}
    assert told["energy"]["total"] == pytest.approx(1 - lost / all_of, rel=1e-6)
    assert told["norm"]["max"]["value"] == pytest.approx(max(norms.values()), rel=1e-6)
    assert told["finite"] is True
    assert {told["rank"][end]["value"] for end in ("min", "max")} == {3}


def test_each_assertion_that_does_not_hold_is_an_error_with_the_worst_modules(bench: Bench) -> None:
    whole = load(bench.lora("a", rank=6))
    found = broken(
        inputs(whole, load(bench.lora("b", rank=6, seed=1)), whole),
        rank={"max": 4},
        modules=5,
        norm={"max": 1e-3},
        energy={"min": 0.5},
    )
    assert set(found) == {"rank", "modules", "norm", "energy", "differs-from"}
    norms = {stem: float(np.linalg.norm(matrix)) for stem, matrix in dense(bench, "a").items()}
    order = sorted(norms, key=norms.__getitem__, reverse=True)
    assert [line.split()[1] for line in found["norm"].details] == order
    assert float(found["norm"].details[0].split()[0]) == pytest.approx(norms[order[0]], rel=1e-5)
    assert found["rank"].details[0].split()[0] == "6"
    assert found["modules"].message == "it has 4 modules, not 5"
    assert found["differs-from"].message == "it is equal to 'base'"


def test_a_lora_of_every_structure_is_measured(bench: Bench) -> None:
    value = load(bench.lycoris("mixed"))
    told = figures(inputs(value, value), norm={"min": 0.0}, energy={"min": 1.0}, finite=True, rank={"min": 1})
    norms = {stem: float(np.linalg.norm(m)) for stem, m in bench.deltas["mixed"].items()}
    assert told["norm"]["max"]["value"] == pytest.approx(max(norms.values()), rel=1e-12)
    assert told["norm"]["min"]["value"] == pytest.approx(min(norms.values()), rel=1e-12)


def test_a_lora_below_its_own_shuffle_is_the_same_delta(bench: Bench) -> None:
    whole = lorapipe.load(bench.lora("a"))
    mixed = lorapipe.shuffle(whole, seed=7)
    assert lorapipe.check(mixed, energy={"of": whole, "min": 1 - 1e-9})["energy"]["total"] > 1 - 1e-9
    with pytest.raises(CheckFailed, match="it is equal to"):
        lorapipe.check(mixed, differs_from=whole)


# --- the figures of a checkpoint --------------------------------------------------------


def test_a_merge_is_checked_against_its_base(bench: Bench) -> None:
    base = lorapipe.load(bench.checkpoint())
    merged = lorapipe.merge_into_checkpoint(base, lorapipe.load(bench.lora("a", alpha=0.01)))
    told = lorapipe.check(
        merged, finite=True, modules=7, energy={"of": base, "min": 0.5}, differs_from=base, norm={"max": 1e4}
    )
    energies = {}
    for stem, key in KEYS.items():
        whole, delta = np.linalg.norm(bench.weights["base"][key]), np.linalg.norm(bench.deltas["a"][stem])
        energies[key] = 1 - (delta / whole) ** 2
    worst = min(energies, key=energies.__getitem__)
    assert told["energy"]["min"] == {"value": pytest.approx(energies[worst], rel=1e-9), "of": worst}
    assert told["energy"]["max"]["value"] == 1.0
    assert told["differs-from"] in KEYS.values()
    assert told["modules"] == 7


def test_nan_in_a_tensor_that_a_merge_only_copies_is_found(bench: Bench) -> None:
    path = bench.checkpoint()
    tensors = load_file(path)
    tensors["first_stage_model.decoder.conv_in.bias"][2] = float("nan")
    save_file(tensors, path)
    merged = lorapipe.merge_into_checkpoint(lorapipe.load(path), lorapipe.load(bench.lora("a")))
    with pytest.raises(CheckFailed) as caught:
        lorapipe.check(merged, finite=True)
    assert caught.value.message == "1 of 6 tensors has NaN or Inf"
    assert caught.value.details == ("first_stage_model.decoder.conv_in.bias",)


def test_a_merge_that_does_nothing_is_found(bench: Bench) -> None:
    base = lorapipe.load(bench.checkpoint())
    merged = lorapipe.merge_into_checkpoint(base, [(lorapipe.load(bench.lora("a")), 1e-12)])
    with pytest.raises(CheckFailed, match="it is equal to 'differs-from'"):
        lorapipe.check(merged, differs_from=base)


def test_checkpoints_of_other_tensors_differ_without_a_look(bench: Bench) -> None:
    one = lorapipe.load(bench.checkpoint("one"))
    path = bench.checkpoint("two", seed=98)
    tensors = load_file(path)
    save_file({**tensors, "more": torch.ones(2)}, path)
    assert lorapipe.check(one, differs_from=lorapipe.load(path)) == {"differs-from": "its tensors"}
    with pytest.raises(RecipeError, match="it lacks 1 tensor that"):
        lorapipe.check(one, energy={"of": lorapipe.load(path), "min": 0.5})


# --- cost -------------------------------------------------------------------------------


def test_a_checkpoints_memory_is_some_slabs_whatever_its_size() -> None:
    wide = replace(model(), tensors={"w": TensorSpec("F16", (1 << 16, 1 << 14))})
    said = options("check", finite=True)
    cost = KIND.cost(inputs(wide), said, infer("check", inputs(wide), finite=True))
    assert cost.each < 100 * 2**20
    both = KIND.cost(inputs(wide, wide), said, CheckSpec((), 1))
    assert both.each == 2 * cost.each
    assert cost.each > 8 * BLOCK_ELEMENTS
    assert (cost.written, cost.kept) == (0, 0)


# --- as a call --------------------------------------------------------------------------


def test_a_call_says_what_is_wrong_in_it(bench: Bench) -> None:
    value = lorapipe.load(bench.lora("a"))
    for said, text in (
        ({}, "check needs 'rank' or"),
        ({"energy": {"min": 0.5}}, "'energy' needs 'of'"),
        ({"energy": {"of": value}}, "'energy' needs 'min' or 'total'"),
        ({"norm": {"max": float("nan")}}, "'max' takes a number from 0"),
        ({"rank": {"min": 5, "max": 4}}, "'rank' leaves nothing: min 5 is above max 4"),
    ):
        with pytest.raises(UsageError) as caught:
            lorapipe.check(value, **said)  # type: ignore[arg-type]  # that is what is tried
        assert text in str(caught.value)


def test_a_call_with_something_that_is_no_weights_is_refused(bench: Bench) -> None:
    value = lorapipe.load(bench.lora("a"))
    with pytest.raises(UsageError) as caught:
        lorapipe.check(value, energy={"of": "both", "min": 0.5})
    assert caught.value.code == "bad-term"


def test_the_modules_are_those_of_the_file(bench: Bench) -> None:
    found = broken(inputs(load(bench.lora("a"))), norm={"max": 0.0})
    assert {line.split()[1] for line in found["norm"].details} == {TE, TO_Q, PROJ_IN, CONV1}
    assert isinstance(next(iter(lora().modules)), ModuleId)
