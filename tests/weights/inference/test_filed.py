"""Modules of a file, from specs alone: names, shapes, and formats cut and put together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.cuts import ANYWHERE
from lorapipe.weights.inference.filed import FileModule, Part, Words, below, cut_form, own_names, row_axis
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec
from tests.weights.samples import LINEAR, TEXT


def form(
    name: str, additive: bool = True, cuts: tuple[tuple[int, int], ...] = (), **sizes: tuple[int, ...]
) -> Form:
    """A form from its tensors' shapes: ``hada_w1_a=(8, 2)``; two underscores are a dot."""
    tensors = tuple((f".{role.replace('__', '.')}", TensorSpec("F16", size)) for role, size in sizes.items())
    return Form(name, tensors, additive, cuts)


LOHA = form("LoHa", hada_w1_a=(8, 2), hada_w1_b=(2, 6), hada_w2_a=(8, 3), hada_w2_b=(3, 6))
CORE = form("LoHa", hada_w1_a=(2, 8), hada_w1_b=(2, 6), hada_t1=(2, 2, 3, 3))
DORA = form(
    "DoRA", additive=False, cuts=ANYWHERE, lora_up__weight=(8, 2), lora_down__weight=(2, 6), dora_scale=(8, 1)
)
FULL = form("full difference", diff=(8, 6))
LOKR = form("LoKr", lokr_w1=(2, 2), lokr_w2=(4, 3))


def sizes(found: Form | None) -> dict[str, tuple[int, ...]]:
    assert found is not None
    return {role: tensor.shape for role, tensor in found.tensors}


def test_a_plain_module_has_an_alpha_where_its_words_have_one() -> None:
    module = FileModule("m", (Part(LINEAR, 0, 12),), (12, 10, 3, 3), 4)
    assert module.tensors("F16") == {
        ".alpha": TensorSpec("F32", ()),
        ".lora_down.weight": TensorSpec("F16", (4, 10, 3, 3)),
        ".lora_up.weight": TensorSpec("F16", (12, 4, 1, 1)),
    }
    assert ".alpha" not in replace(module, words=Words(alpha=False)).tensors("F16")


def test_a_module_with_a_form_has_its_tensors_less_an_alpha_without_a_word_for_it() -> None:
    scaled = replace(LOHA, tensors=(*LOHA.tensors, (".alpha", TensorSpec("F32", ()))))
    module = FileModule("m", (Part(LINEAR, 0, 8),), (8, 6), 4, form=scaled)
    assert module.tensors("F32") == dict(scaled.tensors)
    assert replace(module, words=Words(alpha=False)).tensors("F32") == dict(LOHA.tensors)


def test_words_stand_for_roles_and_other_roles_for_themselves() -> None:
    words = Words({".lora_up.weight": ".lora_B.weight"})
    assert [words.suffix(role) for role in (".lora_up.weight", ".diff")] == [".lora_B.weight", ".diff"]


def test_sources_come_once_each_and_zeros_have_none() -> None:
    parts = (Part(LINEAR, 4, 8), Part(None, 0, 2), Part(TEXT, 0, 3), Part(LINEAR, 0, 4))
    assert FileModule("m", parts, (13, 5), 4).sources == (LINEAR, TEXT)
    assert [part.height for part in parts] == [4, 2, 3, 4]


def test_own_names_turn_what_the_file_has_transposed() -> None:
    spec = AdapterSpec("sd1", {LINEAR: ModuleSpec((12, 10), 4, Spelling("m", transposed=True))}, "F16")
    (module,) = own_names(spec)
    assert (module.stem, module.shape, module.rank, module.transposed) == ("m", (10, 12), 4, True)
    assert module.parts == (Part(LINEAR, 0, 12),)


def test_a_form_without_tensors_has_no_file() -> None:
    spec = AdapterSpec("sd1", {LINEAR: ModuleSpec((12, 10), 4, Spelling("m"), Form("a sum"))}, "F16")
    with pytest.raises(RecipeError) as caught:
        own_names(spec)
    assert str(caught.value) == "error: attn.to_q.weight: no file can hold a sum"
    assert caught.value.code == "no-format"


@pytest.mark.parametrize(
    ("of", "role", "axis"),
    [
        (LOHA, ".hada_w2_a", 0), (LOHA, ".hada_w2_b", None), (CORE, ".hada_w1_a", 1),
        (CORE, ".hada_t1", None), (DORA, ".dora_scale", 0), (DORA, ".lora_down.weight", None),
        (FULL, ".diff", 0),
    ],
)  # fmt: skip
def test_the_rows_of_a_weight_are_an_axis_of_some_tensors(of: Form, role: str, axis: int | None) -> None:
    assert row_axis(of, role) == axis


def test_rows_of_a_loha_of_a_difference_and_of_a_dora_are_the_same_again() -> None:
    assert sizes(cut_form(LOHA, 2, 5, 8)) == {
        ".hada_w1_a": (3, 2), ".hada_w1_b": (2, 6), ".hada_w2_a": (3, 3), ".hada_w2_b": (3, 6),
    }  # fmt: skip
    assert sizes(cut_form(CORE, 2, 5, 8))[".hada_w1_a"] == (2, 3)
    assert sizes(cut_form(FULL, 0, 3, 8)) == {".diff": (3, 6)}
    assert sizes(cut_form(DORA, 4, 8, 8))[".dora_scale"] == (4, 1)


def test_what_is_whole_is_not_cut_and_what_has_no_rows_cannot_be() -> None:
    assert cut_form(LOKR, 0, 8, 8) is LOKR
    assert cut_form(LOKR, 0, 4, 8) is None
    assert cut_form(replace(FULL, undecided=True), 0, 4, 8) is None
    assert cut_form(Form("a sum"), 0, 4, 8) is None
    assert cut_form(replace(DORA, cuts=()), 4, 8, 8) is None
    assert cut_form(replace(DORA, cuts=((8, 3),)), 0, 4, 8) is None


def test_forms_of_one_sort_stand_one_below_the_other() -> None:
    top, bottom = cut_form(LOHA, 0, 3, 8), cut_form(LOHA, 3, 8, 8)
    assert top is not None
    assert bottom is not None
    assert below([top, bottom], 8) == LOHA
    assert below([top, FULL], 9) is None
    other = form("LoHa", hada_w1_a=(3, 4), hada_w1_b=(4, 6), hada_w2_a=(3, 3), hada_w2_b=(3, 6))
    assert below([top, other], 6) is None
    assert below([LOKR, LOKR], 16) is None


def test_rows_of_a_weight_are_named_in_an_error() -> None:
    rows = ModuleId("te2", "in_proj_weight", (4, 12))
    nameless = AdapterSpec("sdxl", {rows: ModuleSpec((8, 6), 4, Spelling(""))}, "F16")
    with pytest.raises(RecipeError) as caught:
        own_names(nameless)
    assert (caught.value.code, caught.value.module) == ("no-spelling", "in_proj_weight[4:12]")
