"""Which modules meet in a concat, and what it makes of rows, families, dtypes, metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.inference import concat_spec
from lorapipe.weights.joining import join
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling, TensorSpec

from .samples import LINEAR, TEXT, adapter

FUSED = ModuleId("te2", "attn.in_proj_weight")


def rows(start: int, stop: int) -> ModuleId:
    return replace(FUSED, rows=(start, stop))


def spec(*modules: tuple[ModuleId, tuple[int, ...], str], family: str | None = "sdxl") -> AdapterSpec:
    return AdapterSpec(family, {m: ModuleSpec(s, 4, Spelling(stem)) for m, s, stem in modules}, "F16")


def refused(*terms: tuple[str, float, AdapterSpec]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        concat_spec(terms)
    assert caught.value.exit_status == 3
    return caught.value


def test_ranks_add_and_the_first_shape_and_spelling_stay() -> None:
    a = spec((LINEAR, (8, 6), "first"))
    b = spec((LINEAR, (8, 6, 1, 1), "second"))
    assert dict(concat_spec([("a", 1.0, a), ("b", 1.0, b)]).modules) == {
        LINEAR: ModuleSpec((8, 6), 8, Spelling("first"))
    }


def test_modules_of_either_side_are_kept() -> None:
    unet, both = spec((LINEAR, (8, 6), "u")), spec((LINEAR, (8, 6), "u"), (TEXT, (4, 4), "t"))
    joined = concat_spec([("unet", 1.0, unet), ("both", 1.0, both)])
    assert {module: known.rank for module, known in joined.modules.items()} == {LINEAR: 8, TEXT: 4}


def test_a_term_of_weight_zero_is_dropped_whatever_it_is() -> None:
    a, b = spec((LINEAR, (8, 6), "u")), spec((TEXT, (4, 4), "t"), family="sd2")
    assert concat_spec([("a", 1.0, a), ("b", 0.0, b)]) == a


def test_nothing_left_is_an_error() -> None:
    found = refused(("a", 0.0, spec((LINEAR, (8, 6), "u"))))
    assert str(found) == "error: every term has weight 0: nothing is left"


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_is_a_finite_number(weight: float) -> None:
    assert refused(("a", weight, spec((LINEAR, (8, 6), "u")))).code == "not-a-number"


def test_two_families_are_named_with_their_terms() -> None:
    a, b = spec((LINEAR, (8, 6), "u")), spec((LINEAR, (8, 6), "u"), family="sd1")
    with pytest.raises(RecipeError) as caught:
        concat_spec([("char", 1.0, a), ("style", 1.0, b)], {"sd1": "SD 1.x", "sdxl": "SDXL"})
    assert str(caught.value) == (
        "error: 'char' is for SDXL, 'style' is for SD 1.x - only LoRAs of one model family can be joined"
    )


def test_an_unknown_family_does_not_join_a_known_one() -> None:
    found = refused(
        ("char", 1.0, spec((LINEAR, (8, 6), "u"))), ("odd", 1.0, spec((LINEAR, (8, 6), "u"), family=None))
    )
    assert found.code == "family-unknown"
    assert "'char' is for sdxl, 'odd' is for an unknown family" in str(found)
    assert "family:" in str(found.hint)


def test_unknown_families_join_on_the_names_that_they_share() -> None:
    a = spec((LINEAR, (8, 6), "u"), family=None)
    b = spec((LINEAR, (8, 6), "u"), (TEXT, (4, 4), "t"), family=None)
    assert concat_spec([("a", 1.0, a), ("b", 1.0, b)]).modules[LINEAR].rank == 8


def test_unknown_families_that_share_no_name_are_refused() -> None:
    found = refused(
        ("a", 1.0, spec((LINEAR, (8, 6), "u"), family=None)),
        ("b", 1.0, spec((TEXT, (4, 4), "t"), family=None)),
    )
    assert found.code == "family-unknown"


def test_shapes_that_disagree_name_module_and_term() -> None:
    found = refused(("a", 1.0, spec((LINEAR, (8, 6), "u"))), ("b", 1.0, spec((LINEAR, (8, 7), "u"))))
    assert str(found) == (
        "error: attn.to_q.weight: the delta of 'b' is [8, 7], that of a LoRA before it [8, 6]"
        " - they were trained on different models"
    )


def test_whole_weights_of_two_heights_disagree_rather_than_being_cut() -> None:
    found = refused(("a", 1.0, spec((LINEAR, (8, 6), "u"))), ("b", 1.0, spec((LINEAR, (16, 6), "u"))))
    assert found.code == "shapes-disagree"


def test_a_fused_weight_is_cut_to_the_rows_of_a_split_one() -> None:
    fused = spec((FUSED, (12, 6), "in_proj"))
    split = spec((rows(0, 4), (4, 6), "q"), (rows(4, 8), (4, 6), "k"), (rows(8, 12), (4, 6), "v"))
    joint = join([("fused", 1.0, fused), ("split", 1.0, split)])
    assert dict(joint.spec.modules) == {
        rows(0, 4): ModuleSpec((4, 6), 8, Spelling("q")),
        rows(4, 8): ModuleSpec((4, 6), 8, Spelling("k")),
        rows(8, 12): ModuleSpec((4, 6), 8, Spelling("v")),
    }
    assert [(p.term, p.start, p.stop) for p in joint.pieces[rows(4, 8)]] == [(0, 4, 8), (1, 0, 4)]


def test_rows_that_overlap_in_part_are_cut_where_either_ends() -> None:
    a, b = spec((rows(0, 6), (6, 3), "a")), spec((rows(4, 10), (6, 3), "b"))
    assert [m.rows for m in concat_spec([("a", 1.0, a), ("b", 1.0, b)]).modules] == [(0, 4), (4, 6), (6, 10)]


def test_rows_that_do_not_meet_are_left_alone() -> None:
    a, b = spec((rows(0, 4), (4, 3), "q")), spec((rows(4, 8), (4, 3), "k"))
    joined = concat_spec([("a", 1.0, a), ("b", 1.0, b)])
    assert [(m.rows, known.spelling.stem) for m, known in joined.modules.items()] == [
        ((0, 4), "q"),
        ((4, 8), "k"),
    ]


def test_all_rows_of_a_weight_are_the_weight() -> None:
    a, b = spec((FUSED, (12, 6), "in_proj")), spec((rows(0, 12), (12, 6), "all"))
    assert list(concat_spec([("a", 1.0, b), ("b", 1.0, a)]).modules) == [FUSED]


def test_rows_that_no_lora_names_have_no_spelling() -> None:
    joined = concat_spec(
        [("fused", 1.0, spec((FUSED, (12, 6), "in_proj"))), ("q", 1.0, spec((rows(0, 4), (4, 6), "q")))]
    )
    assert {m.rows: known.spelling.stem for m, known in joined.modules.items()} == {(0, 4): "q", (4, 12): ""}


@pytest.mark.parametrize(("other", "joined"), [("F16", "F16"), ("BF16", "F32"), ("F32", "F32")])
def test_the_dtype_is_the_common_one_or_float32(other: str, joined: str) -> None:
    a = spec((LINEAR, (8, 6), "u"))
    assert concat_spec([("a", 1.0, a), ("b", 1.0, replace(a, dtype=other))]).dtype == joined


def test_metadata_of_one_source_stays_and_of_several_what_they_agree_on() -> None:
    a = adapter(metadata={"ss_v2": "False", "note": "x", "only": "a"}).spec
    b = adapter(metadata={"ss_v2": "False", "note": "y"}).spec
    assert concat_spec([("a", 1.0, a)]).metadata == a.metadata
    assert concat_spec([("a", 1.0, a), ("b", 1.0, b)]).metadata == {"ss_v2": "False"}


def test_extras_are_united() -> None:
    a, b = adapter(extras={"x": torch.zeros(2)}).spec, adapter(extras={"y": torch.zeros(3)}).spec
    assert concat_spec([("a", 1.0, a), ("b", 1.0, b)]).extras == {
        "x": TensorSpec("F32", (2,)),
        "y": TensorSpec("F32", (3,)),
    }


def test_extras_of_one_name_and_two_shapes_are_refused() -> None:
    a, b = adapter(extras={"x": torch.zeros(2)}).spec, adapter(extras={"x": torch.zeros(3)}).spec
    assert str(refused(("a", 1.0, a), ("b", 1.0, b))) == (
        "error: 'b' holds another 'x' than a LoRA before it"
    )


def test_one_hidden_term_hides_the_sources_of_all() -> None:
    plain = adapter(metadata={"ss_v2": "False", "ss_tag_frequency": "x"}, extras={"x": torch.zeros(2)}).spec
    joined = concat_spec([("a", 1.0, plain), ("b", 1.0, replace(plain, hidden=True, extras={}))])
    assert joined.hidden
    assert (joined.metadata, joined.extras) == ({"ss_v2": "False"}, {})
