"""What a plan knows of an extraction: modules, the most that their ranks can be, and formats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.extraction import EITHER, Extraction, Site, extract_spec, full_form
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.inference.ranks import Dynamic, Ranks
from lorapipe.weights.specs import Form, ModuleId, ModuleSpec, Spelling, TensorSpec

LINEAR = Site("unet", "q.weight", ((0, 12),), (12, 10), Spelling("lora_q"))
CONV = Site("unet", "c.weight", ((0, 9),), (9, 5, 3, 3), Spelling("lora_c"))
POINT = Site("unet", "p.weight", ((0, 8),), (8, 6, 1, 1), Spelling("lora_p"))
BIAS = Site("unet", "c.bias", ((0, 9),), (9,), Spelling("lora_c"), suffix=".diff_b")
TURNED = Site("te2", "proj", ((0, 7),), (7, 11), Spelling("lora_proj", transposed=True))
PART = Site("te2", "qkv", ((4, 8),), (4, 5), Spelling("lora_k"), whole=False)
SWAPPED = Site("dit", "ada", ((5, 10), (0, 5)), (10, 5), Spelling("lora_ada"), whole=False)


def wanted(rank: int = 4, **said: object) -> Extraction:
    return Extraction(Ranks(rank), **said)  # type: ignore[arg-type]  # fields by name


def test_a_site_is_the_modules_that_the_reference_layout_makes_of_it() -> None:
    assert LINEAR.modules == {ModuleId("unet", "q.weight"): (0, 12)}
    assert PART.modules == {ModuleId("te2", "qkv", (4, 8)): (0, 4)}
    assert SWAPPED.modules == {
        ModuleId("dit", "ada", (5, 10)): (0, 5),
        ModuleId("dit", "ada", (0, 5)): (5, 10),
    }


def test_ranks_are_bounds_by_kernel_and_by_what_a_module_can_have() -> None:
    spec = extract_spec([LINEAR, CONV, POINT], "sd1", Extraction(Ranks(64, conv=4, conv1x1=3)))
    assert spec.bounded
    assert [known.rank for known in spec.modules.values()] == [10, 4, 3]
    assert (spec.family, spec.dtype, dict(spec.metadata), spec.hidden) == ("sd1", "F32", {}, False)
    assert extract_spec([LINEAR], "sd1", wanted(), hidden=True).hidden


def test_a_module_in_several_pieces_has_one_name_and_one_rank() -> None:
    spec = extract_spec([SWAPPED], "flux1", wanted(3))
    assert list(spec.modules.values()) == [ModuleSpec((5, 5), 3, Spelling("lora_ada"))] * 2


def test_a_bias_is_kept_as_what_it_gains() -> None:
    (known,) = extract_spec([BIAS], "sd1", wanted(biases=True)).modules.values()
    assert known == ModuleSpec(
        (9,), 1, Spelling("lora_c"), Form(FULL, ((".diff_b", TensorSpec("F32", (9,))),))
    )


@pytest.mark.parametrize(("rank", "larger"), [(5, False), (6, True), (60, True)])
def test_a_module_may_be_whole_from_the_rank_on_at_which_factors_are_no_smaller(
    rank: int, larger: bool
) -> None:
    """A difference of 120 numbers; factors of rank r have 22 r."""
    (known,) = extract_spec([LINEAR], "sd1", wanted(rank, full=True)).modules.values()
    assert (known.form is not None) is larger
    assert extract_spec([LINEAR], "sd1", wanted(rank)).modules[ModuleId("unet", "q.weight")].form is None


def test_what_may_be_either_has_the_tensors_of_both() -> None:
    (known,) = extract_spec([CONV], "sd1", wanted(64, full=True)).modules.values()
    assert known.form is not None
    assert (known.rank, known.form.name, known.form.undecided, known.additive) == (9, EITHER, True, True)
    assert dict(known.form.tensors) == {
        ".alpha": TensorSpec("F32", ()),
        ".lora_down.weight": TensorSpec("F32", (9, 5, 3, 3)),
        ".lora_up.weight": TensorSpec("F32", (9, 9, 1, 1)),
        ".diff": TensorSpec("F32", (9, 5, 3, 3)),
    }


def test_the_data_may_make_either_of_it_and_nothing_else() -> None:
    (known,) = extract_spec([CONV], "sd1", wanted(64, full=True)).modules.values()
    plain = ModuleSpec((9, 5, 3, 3), 9, Spelling("lora_c"))
    for found in (plain, replace(plain, rank=0), replace(plain, form=full_form((9, 5, 3, 3), CONV))):
        assert known.admits(found)
    for wrong in (
        replace(plain, rank=10),
        replace(plain, shape=(9, 45)),
        replace(plain, spelling=Spelling("other")),
        replace(plain, form=full_form((9, 5, 3, 4), CONV)),
    ):
        assert not known.admits(wrong)
    assert not plain.admits(replace(plain, form=full_form((9, 5, 3, 3), CONV)))
    assert plain.admits(replace(plain, rank=0))


def test_a_file_has_the_transpose_where_its_names_say_so() -> None:
    assert full_form((7, 11), TURNED).tensors == ((".diff", TensorSpec("F32", (11, 7))),)
    (known,) = extract_spec([TURNED], "sdxl", wanted(64, full=True)).modules.values()
    assert known.form is not None
    assert dict(known.form.tensors)[".lora_down.weight"] == TensorSpec("F32", (7, 7))
    assert dict(known.form.tensors)[".lora_up.weight"] == TensorSpec("F32", (11, 7))


def test_without_a_site_there_is_nothing_to_extract() -> None:
    with pytest.raises(RecipeError) as caught:
        extract_spec([], "sd1", wanted())
    assert caught.value.code == "nothing-left"


@pytest.mark.parametrize("least", [-1.0, float("nan"), float("inf")])
def test_a_least_difference_is_a_number(least: float) -> None:
    with pytest.raises(RecipeError) as caught:
        wanted(least=least)
    assert (caught.value.code, caught.value.option) == ("not-a-number", "min-diff")


@pytest.mark.parametrize("rule", ["sv-cumulative", "quantile"])
def test_a_range_finder_does_not_know_the_sum_of_all_values(rule: str) -> None:
    ranks = Ranks(4, dynamic=Dynamic(rule, 0.5))
    assert Extraction(ranks).ranks is ranks
    with pytest.raises(RecipeError) as caught:
        Extraction(ranks, sketched=True)
    assert (caught.value.code, caught.value.option) == ("rule-needs-all-values", "method")
    assert Extraction(Ranks(4, dynamic=Dynamic("sv-fro", 0.5)), sketched=True).sketched
