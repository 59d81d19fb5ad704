"""What each layout calls a module's tensors, and which formats it has a place for."""

from __future__ import annotations

import pytest

from lorapipe.formats.forms import lora
from lorapipe.formats.layouts.table import LAYOUTS, kept_words, respelled
from lorapipe.weights.inference.cuts import ANYWHERE
from lorapipe.weights.specs import Form, Spelling, TensorSpec

UP, DOWN, ALPHA = ".lora_up.weight", ".lora_down.weight", ".alpha"


def form(name: str, *roles: tuple[str, tuple[int, ...]], along: str = "rows") -> Form:
    tensors = tuple((role, TensorSpec("F16", size)) for role, size in roles)
    return Form(name, tensors, additive=name != "DoRA", cuts=ANYWHERE if along == "rows" else ())


SCALE, SCALE4 = (".dora_scale", (8, 1)), (".dora_scale", (8, 1, 1, 1))
VECTOR, VECTOR4 = (".lora_magnitude_vector", (8,)), (".lora_magnitude_vector", (1, 8, 1, 1))


@pytest.mark.parametrize(
    ("layout", "up", "down", "alpha"),
    [
        ("kohya", ".lora_up.weight", ".lora_down.weight", True),
        ("comfy", ".lora_up.weight", ".lora_down.weight", True),
        ("diffusers", ".lora_B.weight", ".lora_A.weight", False),
        ("peft", ".lora_B.weight", ".lora_A.weight", False),
    ],
)
def test_factors_have_the_programs_names(layout: str, up: str, down: str, alpha: bool) -> None:
    words = LAYOUTS[layout].words
    assert (words.suffix(UP), words.suffix(DOWN), words.alpha) == (up, down, alpha)


def test_only_where_nothing_says_an_alpha_it_is_folded() -> None:
    """PEFT's config always says it; a header of diffusers' file is read by diffusers alone."""
    assert [name for name, layout in LAYOUTS.items() if layout.words.folds] == ["diffusers"]


DOWNS = {
    ".lora_up.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_A.weight",
    ".lora_B": ".lora_A",
    "_lora.up.weight": "_lora.down.weight",
    ".lora.up.weight": ".lora.down.weight",
    ".lora_linear_layer.up.weight": ".lora_linear_layer.down.weight",
    ".up.weight": ".down.weight",
}


def test_keep_writes_both_factors_in_the_files_own_words() -> None:
    assert set(DOWNS) == {UP, *lora.FORM.roles[UP]}
    for up, down in DOWNS.items():
        words = kept_words(Spelling("transformer.x", up=up))
        assert (words.suffix(UP), words.suffix(DOWN)) == (up, down)


@pytest.mark.parametrize(
    ("stem", "up", "alpha"),
    [
        ("lora_unet_x", ".lora_up.weight", True),
        ("transformer.x", ".lora_up.weight", True),
        ("diffusion_model.x", ".lora_B.weight", True),
        ("lora_unet_x", ".lora_B.weight", True),
        ("lycoris_x", ".lora_B.weight", True),
        ("transformer.x", ".lora_B.weight", False),
        ("unet.x", ".lora.up.weight", False),
        ("base_model.model.x", ".lora_B.weight", False),
        ("text_encoder.x", ".lora_linear_layer.up.weight", False),
    ],
)
def test_keep_writes_alphas_where_the_names_readers_know_them(stem: str, up: str, alpha: bool) -> None:
    words = kept_words(Spelling(stem, up=up))
    assert (words.alpha, words.folds) == (alpha, not alpha)


def test_an_embeddings_factors_have_names_of_their_own() -> None:
    words = kept_words(Spelling("base_model.model.wte", up=".lora_embedding_B"))
    assert (words.suffix(UP), words.suffix(DOWN)) == (".lora_embedding_B", ".lora_embedding_A")


LOHA = form("LoHa", (".hada_w1_a", (8, 2)), (".hada_w1_b", (2, 6)), (ALPHA, ()))
NORM = form("full difference", (".w_norm", (8,)))
IA3 = form("IA3", (".weight", (8,)), (".on_input", ()))
PEFT_OFT = form("PEFT OFT", (".oft_R.weight", (2, 6)))
OFT = form("OFT", (".oft_blocks", (2, 4, 4)), (ALPHA, ()))
BIAS = form("full difference", (".diff_b", (8,)))
CORE = form("Tucker LoRA", (DOWN, (2, 6, 1, 1)), (".lora_mid.weight", (2, 2, 3, 3)), (UP, (8, 2, 1, 1)))


@pytest.mark.parametrize(
    ("held", "layouts"),
    [
        (LOHA, {"kohya", "comfy"}), (NORM, {"kohya", "comfy"}), (OFT, {"kohya", "comfy"}),
        (CORE, {"kohya", "comfy"}), (IA3, {"kohya"}), (PEFT_OFT, set()),
        (BIAS, {"kohya", "comfy", "diffusers", "peft"}),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)  # fmt: skip
def test_a_layout_has_a_place_for_what_its_program_reads(held: Form, layouts: set[str]) -> None:
    assert {n for n, layout in LAYOUTS.items() if respelled(held, (8, 6), layout) is not None} == layouts


@pytest.mark.parametrize("before", [SCALE, VECTOR])
@pytest.mark.parametrize(
    ("layout", "after"), [("kohya", (8, 1)), ("comfy", (8, 1)), ("diffusers", (8,)), ("peft", (8,))]
)
def test_a_doras_magnitude_has_the_programs_shape_and_name(
    before: tuple[str, tuple[int, ...]], layout: str, after: tuple[int, ...]
) -> None:
    held = form("DoRA", (UP, (8, 2)), (DOWN, (2, 6)), before, (ALPHA, ()))
    found = respelled(held, (8, 6), LAYOUTS[layout])
    assert found is not None
    shapes = {role: tensor.shape for role, tensor in found.tensors}
    assert shapes[before[0]] == after
    names = {".dora_scale": LAYOUTS["kohya"], ".lora_magnitude_vector": LAYOUTS["peft"]}
    (name,) = [n for n, of in names.items() if of.words.alpha == LAYOUTS[layout].words.alpha]
    assert LAYOUTS[layout].words.suffix(before[0]) == name
    assert (ALPHA in shapes) == LAYOUTS[layout].words.alpha


def test_of_a_convolution_pefts_magnitude_stands_on_the_second_axis() -> None:
    held = form("DoRA", (UP, (8, 2, 1, 1)), (DOWN, (2, 6, 3, 3)), SCALE4)
    found = respelled(held, (8, 6, 3, 3), LAYOUTS["peft"])
    assert found is not None
    assert dict(found.tensors)[".dora_scale"].shape == (1, 8, 1, 1)
    back = respelled(form("DoRA", VECTOR4), (8, 6, 3, 3), LAYOUTS["kohya"])
    assert back is not None
    assert dict(back.tensors)[".lora_magnitude_vector"].shape == (8, 1, 1, 1)


def test_a_magnitude_along_the_inputs_is_kohyas_only() -> None:
    held = form("DoRA", (UP, (8, 2)), (DOWN, (2, 6)), (".dora_scale", (1, 6)), along="columns")
    assert respelled(held, (8, 6), LAYOUTS["kohya"]) == held
    assert respelled(held, (8, 6), LAYOUTS["peft"]) is None


@pytest.mark.parametrize(
    ("layout", "stem", "taken"),
    [
        ("kohya", "lora_unet_x_y", True), ("kohya", "unet.x.y", False), ("comfy", "lycoris_x", True),
        ("comfy", "diffusion_model.x", True), ("comfy", "transformer.x", False),
        ("diffusers", "transformer.x", True), ("diffusers", "text_encoder_2.x", True),
        ("diffusers", "lora_unet_x", False), ("diffusers", "x.y", False),
    ],
)  # fmt: skip
def test_names_of_an_unknown_model_are_taken_where_they_are_of_the_layouts_sort(
    layout: str, stem: str, taken: bool
) -> None:
    assert LAYOUTS[layout].takes(stem) is taken


def test_comfy_takes_kohyas_names_for_a_unet_and_the_keys_for_the_rest() -> None:
    comfy = LAYOUTS["comfy"]
    assert comfy.names_by({"unet", "te"}) == ("kohya", "comfy")
    assert comfy.names_by({"dit", "te"}) == ("comfy", "kohya")
    assert LAYOUTS["diffusers"].names_by({"unet", "te"}) == ("diffusers",)
