"""Which modules meet in a concat, and what it makes of rows, families, dtypes, metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.joining import join
from lorapipe.weights.inference.steps import concat_spec
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from tests.weights.samples import LINEAR, TEXT, adapter

FUSED = ModuleId("te2", "attn.in_proj_weight")


def rows(start: int, stop: int) -> ModuleId:
    return FUSED._replace(rows=(start, stop))


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


# --- modules that are no plain factors --------------------------------------------------


def form(name: str, shape: tuple[int, ...], rank: int, *, additive: bool = True) -> ModuleSpec:
    return ModuleSpec(shape, rank, Spelling("stem"), Form(name, additive=additive))


def held(*modules: tuple[ModuleId, ModuleSpec]) -> AdapterSpec:
    return AdapterSpec("sdxl", dict(modules), "F16")


DORA = form("DoRA", (8, 6), 0, additive=False)


def test_a_format_joined_with_another_is_a_sum_of_no_format() -> None:
    loha = held((LINEAR, form("LoHa", (8, 6), 4)))
    lora = spec((LINEAR, (8, 6), "lora"))
    joined = concat_spec([("a", 1.0, lora), ("b", 0.5, loha)]).modules[LINEAR]
    assert joined == ModuleSpec((8, 6), 6, Spelling("lora"), Form("a sum"))


def test_a_format_alone_stays_what_it_is() -> None:
    loha, other = held((LINEAR, form("LoHa", (8, 6), 4))), spec((TEXT, (4, 4), "t"))
    joined = concat_spec([("a", 1.0, other), ("b", 0.5, loha)])
    assert joined.modules[LINEAR] == loha.modules[LINEAR]


def test_a_fused_format_is_cut_to_the_rows_of_a_split_lora() -> None:
    fused = held((FUSED, form("LoHa", (12, 6), 4)))
    joint = join([("fused", 1.0, fused), ("split", 1.0, spec((rows(0, 4), (4, 6), "q")))])
    assert dict(joint.spec.modules) == {
        rows(0, 4): ModuleSpec((4, 6), 4, Spelling("q"), Form("a sum")),
        rows(4, 12): ModuleSpec((8, 6), 4, Spelling(""), Form("LoHa")),
    }
    assert [(p.term, p.start, p.stop) for p in joint.pieces[rows(0, 4)]] == [(0, 0, 4), (1, 0, 4)]


def test_what_is_no_delta_passes_alone_with_its_weight() -> None:
    dora = held((LINEAR, DORA), (TEXT, form("OFT", (0, 6), 0, additive=False)))
    lora = spec((FUSED, (12, 6), "f"))
    joint = join([("lora", 1.0, lora), ("dora", 0.5, dora)])
    assert joint.spec.modules == {**lora.modules, **dora.modules}
    assert [(p.term, p.module) for p in joint.pieces[LINEAR]] == [(1, LINEAR)]
    assert [(p.term, p.module) for p in joint.pieces[TEXT]] == [(1, TEXT)]


@pytest.mark.parametrize(
    ("place", "other"), [(LINEAR, LINEAR), (rows(0, 8), FUSED), (FUSED, rows(4, 8)), (rows(0, 8), rows(4, 9))]
)
def test_what_is_no_delta_has_its_rows_to_itself(place: ModuleId, other: ModuleId) -> None:
    height = 12 if other.rows is None else other.rows[1] - other.rows[0]
    dora, lora = held((place, DORA)), spec((other, (height, 6), "u"))
    found = refused(("style", 1.0, dora), ("char", 1.0, lora))
    assert str(found) == (
        f"error: {other}: 'style' is DoRA here and 'char' LoRA, which cannot be joined"
        " - give both to merge-into-checkpoint, which takes deltas beside one that is none"
    )
    assert found.code == "not-additive"
    assert refused(("char", 1.0, lora), ("style", 1.0, dora)).code == "not-additive"


def test_two_that_are_no_deltas_are_merged_one_after_the_other() -> None:
    dora, oft = held((LINEAR, DORA)), held((LINEAR, form("OFT", (8, 0), 0, additive=False)))
    found = refused(("style", 1.0, dora), ("char", 1.0, oft))
    assert str(found) == (
        "error: attn.to_q.weight: 'style' is DoRA here and 'char' OFT, which cannot be joined"
        " - merge them into a checkpoint, one after the other"
    )


def test_rows_beside_an_operator_are_joined_as_ever() -> None:
    dora = held((rows(0, 4), form("DoRA", (4, 6), 0, additive=False)))
    k, v = spec((rows(4, 8), (4, 6), "k")), spec((rows(4, 12), (8, 6), "kv"))
    joined = concat_spec([("dora", 1.0, dora), ("k", 1.0, k), ("kv", 1.0, v)])
    assert [(m.rows, known.rank) for m, known in joined.modules.items()] == [
        ((0, 4), 0), ((4, 8), 8), ((8, 12), 4),
    ]  # fmt: skip


def test_a_dropped_operator_is_in_nobodys_way() -> None:
    dora, lora = held((LINEAR, DORA)), spec((LINEAR, (8, 6), "u"))
    assert concat_spec([("a", 1.0, lora), ("b", 0.0, dora)]) == lora


def test_shapes_of_formats_that_disagree_are_refused_as_those_of_loras() -> None:
    loha = held((LINEAR, form("LoHa", (8, 7), 4)))
    assert refused(("a", 1.0, loha), ("b", 1.0, spec((LINEAR, (8, 6), "u")))).code == "shapes-disagree"


def test_biases_join_and_are_cut_like_weights() -> None:
    bias = ModuleId("te2", "attn.in_proj_bias")
    fused = held((bias, form("full difference", (12,), 1)))
    part = held((bias._replace(rows=(0, 4)), form("full difference", (4,), 1)))
    joined = concat_spec([("a", 1.0, fused), ("b", 1.0, part)])
    assert [(m.rows, known.shape, known.rank) for m, known in joined.modules.items()] == [
        ((0, 4), (4,), 1), ((4, 12), (8,), 1),
    ]  # fmt: skip


def test_a_family_and_its_variant_join_where_the_names_fit_both() -> None:
    open_one = replace(adapter().spec, family="flux1", also=("chroma",))
    chroma, flux = (replace(open_one, family=name, also=()) for name in ("chroma", "flux1"))

    def joined(*specs: AdapterSpec) -> tuple[str | None, tuple[str, ...]]:
        spec = join([(str(i), 1.0, spec) for i, spec in enumerate(specs)]).spec
        return spec.family, spec.also

    assert joined(open_one) == joined(open_one, open_one) == ("flux1", ("chroma",))
    assert joined(open_one, chroma) == joined(chroma, open_one) == ("chroma", ())
    assert joined(open_one, flux) == ("flux1", ())
    with pytest.raises(RecipeError) as caught:
        joined(flux, chroma)
    assert caught.value.code == "family-mismatch"
    with pytest.raises(RecipeError) as caught:
        joined(chroma, open_one, flux)
    assert caught.value.code == "family-mismatch"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("place", [FUSED, rows(0, 4)], ids=["whole", "rows"])
def test_what_may_be_a_lora_or_a_full_difference_is_not_joined(
    place: ModuleId, order: tuple[int, int]
) -> None:
    either = held(
        (FUSED, ModuleSpec((12, 6), 6, Spelling("e"), Form("LoRA or full difference", undecided=True)))
    )
    lora = spec((place, (12 if place == FUSED else 4, 6), "lora"))
    terms = [("either", 1.0, either), ("lora", 1.0, lora)]
    error = refused(*(terms[i] for i in order))
    assert (error.code, error.module, error.option) == ("undecided", str(FUSED), "concat")
    alone = concat_spec([("either", 1.0, either), ("other", 1.0, spec((TEXT, (4, 4), "t")))])
    assert alone.modules[FUSED] == either.modules[FUSED]
