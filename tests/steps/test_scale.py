"""``scale``: deltas times a strength, whole or by component."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lorapipe.errors import RecipeError
from lorapipe.plan.lineage import canonical
from lorapipe.recipe import parse
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Cost, Materialise
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank

from ..bench import TE, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, deltas, given, infer, load, lora, model, options, work, written

KIND = find_kind("scale")


def test_it_is_free_and_all_of_its_options_count() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.keyless == frozenset()
    assert KIND.cost(given(scale=spec), options("scale", by=0.5), spec) == Cost()


@pytest.mark.parametrize("by", [0.5, -1, 1e-30, 7])
def test_the_spec_stays(by: float) -> None:
    assert infer("scale", given(scale=lora()), by=by) == lora()


def test_a_component_at_zero_is_left_out() -> None:
    spec = infer("scale", given(scale=lora()), components={"te": 0})
    assert list(spec.modules) == [Q, POINT, CONV]


def test_everything_at_zero_is_an_error() -> None:
    for said in ({"by": 0}, {"components": {"te": 0, "unet": 0}}, {"by": 0, "components": {"te": 1}}):
        with pytest.raises(RecipeError) as caught:
            infer("scale", given(scale=lora()), **said)  # type: ignore[arg-type]
        assert caught.value.code == "nothing-left"


def test_a_component_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=lora()), components={"unte": 0.5})
    assert "did you mean 'unet'?" in str(caught.value)
    with pytest.raises(RecipeError, match="it has unet"):
        infer("scale", given(scale=lora(shapes={Q: (4, 4)})), components={"te": 0.5})


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_scaled(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=wrong), by=0.5)
    assert (caught.value.code, caught.value.option) == ("wrong-type", "scale")


def test_the_delta_is_multiplied_once(bench: Bench) -> None:
    scaled = work("scale", given(scale=load(bench.lora("a", alpha=3.0))), by=0.5)
    for stem, delta in deltas(scaled).items():
        np.testing.assert_allclose(delta, 0.5 * bench.deltas["a"][stem], rtol=1e-6)


def test_by_and_components_multiply(bench: Bench) -> None:
    loaded = load(bench.lora("a"))
    found = deltas(work("scale", given(scale=loaded), by=-2.0, components={"te": 0.25}))
    for stem, delta in found.items():
        strength = -0.5 if stem == TE else -2.0
        np.testing.assert_allclose(delta, strength * bench.deltas["a"][stem], rtol=1e-6)


def test_scaling_twice_is_scaling_by_the_product(bench: Bench) -> None:
    loaded = load(bench.lora("a"))
    twice = work("scale", given(scale=work("scale", given(scale=loaded), by=0.5)), by=-4.0)
    once = work("scale", given(scale=loaded), by=-2.0)
    for stem, delta in deltas(twice).items():
        np.testing.assert_array_equal(delta, deltas(once)[stem])


def test_other_formats_are_scaled_in_their_own_files(bench: Bench) -> None:
    """The strength is in alpha; of a full difference in its numbers."""
    loaded = load(bench.lycoris("a"))
    before, after = written(loaded), written(work("scale", given(scale=loaded), by=-0.3))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.endswith(".alpha"):
            assert float(after[name]) == pytest.approx(0.3 * float(tensor))
        elif name.endswith(".diff"):
            np.testing.assert_allclose(after[name], -0.3 * tensor.double(), rtol=1e-6)
        else:
            turned = name.endswith((".hada_w1_a", ".lokr_w1", ".lora_up.weight"))
            np.testing.assert_array_equal(after[name], -tensor if turned else tensor)


# --- by block and by module ---------------------------------------------------------------

OUT = ModuleId("unet", "model.diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight")
DOWN = ModuleId("unet", "model.diffusion_model.input_blocks.3.0.op.weight")
WIDE = {Q: (20, 20), CONV: (20, 12, 3, 3), TEXT: (24, 16), OUT: (20, 20), DOWN: (20, 20, 3, 3)}


def factors(spec: AdapterSpec, **said: Any) -> dict[ModuleId, float]:
    """What each module is multiplied with, read off the coefficients of a scaled LoRA of ones."""
    value = Adapter(spec, {m: Delta(k.shape, (Term(1.0, ones(k)),)) for m, k in spec.modules.items()})
    scaled = KIND.work(given(scale=value), options("scale", **said), Context())
    return {module: delta.terms[0].coefficient for module, delta in scaled.modules.items()}


def ones(known: ModuleSpec) -> LowRank:
    return LowRank(torch.ones(known.shape[0], known.rank), torch.ones(known.rank, known.columns))


def refused(spec: AdapterSpec, **said: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=spec), **said)
    assert caught.value.option in said
    return str(caught.value)


def test_blocks_have_their_factors_and_the_others_keep_theirs() -> None:
    found = factors(lora(shapes=WIDE), by=2.0, blocks={"IN01": 0.5, "OUT03": -1.0})
    assert found == {Q: 1.0, CONV: 1.0, OUT: -2.0, TEXT: 2.0, DOWN: 2.0}


def test_a_default_holds_for_the_blocks_that_are_not_named() -> None:
    found = factors(lora(shapes=WIDE), blocks={"BASE": 1.0, "OUT*": 0.25, "default": 0.0})
    assert found == {TEXT: 1.0, OUT: 0.25}


def test_a_blocks_name_is_nearer_than_a_glob() -> None:
    for blocks in ({"IN*": 0.5, "IN03": 3.0}, {"IN03": 3.0, "IN*": 0.5}):
        assert factors(lora(shapes=WIDE), blocks=blocks) == {
            Q: 0.5,
            CONV: 0.5,
            DOWN: 3.0,
            TEXT: 1.0,
            OUT: 1.0,
        }


def test_two_globs_on_one_block_must_agree() -> None:
    spec = lora(shapes=WIDE)
    assert factors(spec, blocks={"IN*": 0.5, "*1": 0.5})[Q] == 0.5
    assert refused(spec, blocks={"IN*": 0.5, "*1": 1.0}) == (
        "error: 'IN*' and '*1' both match the block IN01 - name IN01 itself, which counts before either"
    )


SEVENTEEN = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]


@pytest.mark.parametrize("values", [SEVENTEEN, ",".join(map(str, SEVENTEEN)), f"{SEVENTEEN}"])
def test_a_list_is_in_the_order_of_lbw_as_text_or_as_numbers(values: Any) -> None:
    plain = lora(shapes={Q: (20, 20), TEXT: (24, 16), OUT: (20, 20)})
    assert factors(plain, blocks=values) == {TEXT: 0.1, Q: 0.2, OUT: 0.9}


def test_a_list_that_leaves_out_blocks_of_the_lora_needs_a_default() -> None:
    spec = lora(shapes=WIDE)
    assert refused(spec, blocks=SEVENTEEN) == (
        "error: 'blocks' says nothing of IN03, which the LoRA has - {list: [...], default: 1} leaves them "
        "as they are, as kohya's scripts do; default: 0 takes them out, as LBW does"
    )
    assert factors(spec, blocks={"list": SEVENTEEN, "default": 1.0})[DOWN] == 1.0
    assert DOWN not in factors(spec, blocks={"list": SEVENTEEN, "default": 0.0})
    assert factors(spec, blocks={"list": SEVENTEEN, "IN03": 5.0})[DOWN] == 5.0


def test_twenty_five_values_are_kohyas_without_text_encoder_and_twenty_six_lbws_with_it() -> None:
    spec = lora(shapes=WIDE)
    values = [float(n) for n in range(1, 26)]
    found = factors(spec, blocks={"list": values, "default": 0.5})
    assert found == {Q: 2.0, CONV: 2.0, DOWN: 4.0, OUT: 17.0, TEXT: 0.5}
    assert factors(spec, blocks=[0.5, *values]) == found


def test_a_preset_is_a_list_with_a_name_and_lbws_other_name_of_the_middle_is_understood() -> None:
    plain = lora(shapes={Q: (20, 20), TEXT: (24, 16), OUT: (20, 20)})
    assert factors(plain, blocks="OUTD") == {TEXT: 1.0, OUT: 1.0}
    assert factors(plain, blocks={"preset": "OUTD", "default": 0.0, "IN01": 0.5}) == {
        TEXT: 1.0,
        OUT: 1.0,
        Q: 0.5,
    }
    middle = ModuleId("unet", "model.diffusion_model.middle_block.1.proj_in.weight")
    spec = lora(shapes={middle: (4, 4), Q: (4, 4)})
    for name in ("M00", "MID"):
        assert factors(spec, blocks={name: 0.5}) == {middle: 0.5, Q: 1.0}


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            {"IN12": 1},
            "SD1.x has no block 'IN12' - did you mean 'IN11'? its blocks are time_embed, IN00 to IN11",
        ),
        ({"in01": 1}, "SD1.x has no block 'in01' - did you mean 'IN01'?"),
        ({"double_blocks.*": 1}, "SD1.x has no block 'double_blocks.*' - its blocks are"),
        (
            [1.0] * 16,
            "there is no list of 16 numbers for the blocks of SD1.x - a list has 17 (BASE, IN01, IN02,",
        ),
        ("1,2,x", "'x' in the list is no number - such as 1,0,0.5"),
        ("1,2,nan", "'nan' in the list is no number"),
        ("1,,2", "'' in the list is no number"),
        ("OUTX", "SD1.x has no preset 'OUTX' for its blocks - did you mean 'OUTS'?"),
        ("", "SD1.x has no preset '' for its blocks - known are NONE, ALL, INS"),
    ],
)
def test_what_is_said_of_blocks_is_checked(blocks: Any, message: str) -> None:
    assert refused(lora(shapes=WIDE), blocks=blocks).removeprefix("error: ").startswith(message)


def test_other_families_have_their_own_lists_and_blocks() -> None:
    key = "model.diffusion_model.input_blocks.4.1.proj_in.weight"
    sdxl = lora(family="sdxl", shapes={ModuleId("unet", key): (4, 4)})
    assert list(factors(sdxl, blocks=[1.0, 0.5, *[1.0] * 10]).values()) == [0.5]
    assert list(factors(sdxl, blocks=[1.0] * 5 + [0.5] + [1.0] * 14).values()) == [0.5]
    assert "a list has 12 (BASE, IN04, IN05, IN07, IN08, MID, OUT00 to OUT05), or 20" in refused(
        sdxl, blocks=SEVENTEEN
    )
    assert "SDXL has no preset 'OUTD'" in refused(sdxl, blocks="OUTD")
    wan = lora(family="wan", shapes={ModuleId("dit", "blocks.7.ffn.0.weight"): (4, 4)})
    assert list(factors(wan, blocks={"blocks.7": 0.5}).values()) == [0.5]
    assert "name the blocks in a map: patch_embedding" in refused(wan, blocks=[1.0, 2.0])


def test_a_lora_of_no_known_family_is_weighed_by_the_numbers_in_its_names() -> None:
    first, second = ModuleId("", "model.layers.3.q.weight"), ModuleId("", "lm_head.weight")
    spec = lora(family=None, shapes={first: (4, 4), second: (4, 4)})
    assert factors(spec, blocks={"layers.3": 0.5}) == {first: 0.5, second: 1.0}
    assert "a LoRA of unknown family has no block 'layers.4' - did you mean 'layers.3'?" in refused(
        spec, blocks={"layers.4": 1}
    )
    nameless = lora(family=None, shapes={second: (4, 4)})
    assert "say `family:` on the step that loads it" in refused(nameless, blocks={"MID": 1})


def test_the_first_pattern_that_matches_a_module_counts() -> None:
    spec = lora(shapes=WIDE)
    found = factors(spec, modules=[{"*attn2*": 0.5}, {"re:to_[qk]$": 3.0}, {"*": -1.0}])
    assert found == {OUT: 0.5, Q: 3.0, CONV: -1.0, TEXT: -1.0, DOWN: -1.0}
    turned = factors(spec, modules=[{"*": -1.0}, {"*attn2*": 0.5}])
    assert set(turned.values()) == {-1.0}


def test_a_pattern_is_held_against_the_name_in_the_file_and_the_key() -> None:
    spec = lora(shapes=WIDE)
    stem = spec.modules[Q].spelling.stem
    for pattern in (
        stem,
        Q.key,
        Q.key.removesuffix(".weight"),
        "input_blocks.1.1.*",
        "re:^model.*attn1",
        "re:attn1",
    ):
        assert factors(spec, modules=[{pattern: 0.5}])[Q] == 0.5, pattern


def test_the_path_to_the_model_is_not_searched() -> None:
    """Every key of the U-Net begins with model.diffusion_model., which has *ff* and *model* in it."""
    feed = ModuleId("unet", Q.key.replace("attn1.to_q", "ff.net.2"))
    shapes = {feed: (4, 4), Q: (4, 4)}
    modules = {m: replace(k, spelling=Spelling("")) for m, k in lora(shapes=shapes).modules.items()}
    spec = replace(lora(shapes=shapes), modules=modules)
    assert factors(spec, modules=[{"*ff*": 0.5}]) == {feed: 0.5, Q: 1.0}
    assert factors(spec, modules=[{"re:ff": 0.5}]) == {feed: 0.5, Q: 1.0}
    assert "no module matches '*usion*'" in refused(spec, modules=[{"*usion*": 0.5}])
    assert factors(spec, modules=[{"model.diffusion*": 0.5}]) == {feed: 0.5, Q: 0.5}


def test_patterns_mind_the_case() -> None:
    assert "no module matches '*ATTN1*'" in refused(lora(), modules=[{"*ATTN1*": 0.5}])


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        (
            "*atn1*",
            "nearest to 'atn1' are attn1, attn; a module is called lora_model_diffusion_model_input_blocks_1",
        ),
        ("zzz", "a module is called lora_model_diffusion_model_input_blocks_1"),
        ("re:attn1.to_w$", "a module is called"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_words(pattern: str, hint: str) -> None:
    said = refused(lora(), modules=[{pattern: 0.5}])
    assert said.startswith(f"error: no module matches '{pattern}' - ")
    assert hint in said


def test_a_pattern_that_is_none_is_an_error() -> None:
    assert refused(lora(), modules=[{"re:a(": 1.0}]) == (
        "error: 're:a(' is no regular expression: missing ), unterminated subpattern - a glob needs no 're:'"
    )


def test_what_is_said_of_component_block_and_module_is_multiplied() -> None:
    found = factors(
        lora(shapes=WIDE), by=2.0, components={"unet": 3.0}, blocks={"IN01": 5.0}, modules=[{"*attn1*": 7.0}]
    )
    assert found == {Q: 210.0, CONV: 30.0, DOWN: 6.0, OUT: 6.0, TEXT: 2.0}


def test_a_transformer_is_weighed_as_the_unet_is_and_text_encoders_together_or_apart() -> None:
    dit, clip, t5 = (ModuleId(c, k) for c, k in FLUX.items())
    spec = lora(family="flux1", shapes=dict.fromkeys((dit, clip, t5), (4, 4)))
    assert factors(spec, components={"unet": 0.5, "te": 2.0, "te3": 3.0}) == {dit: 0.5, clip: 2.0, t5: 3.0}
    assert factors(spec, components={"dit": 0.5}) == {dit: 0.5, clip: 1.0, t5: 1.0}
    values = [2.0, 3.0, 5.0, *[7.0] * 19, *[11.0] * 38, 13.0]
    assert factors(spec, blocks=values) == {dit: 7.0, clip: 2.0, t5: 3.0}


FLUX = {
    "dit": "double_blocks.0.img_attn.qkv.weight",
    "te1": "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
    "te3": "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight",
}


def test_everything_at_zero_by_block_is_an_error() -> None:
    with pytest.raises(RecipeError) as caught:
        infer("scale", given(scale=lora()), blocks={"default": 0.0})
    assert caught.value.code == "nothing-left"


def test_the_order_of_patterns_is_part_of_the_key_and_that_of_blocks_is_not() -> None:
    one = '{scale: a, modules: {"*attn1*": 0.5, "*": 2}, blocks: {IN01: 0.5, BASE: 2}}'
    same = '{scale: a, blocks: {BASE: 2.0, IN01: 0.5}, modules: [{"*attn1*": 0.5}, {"*": 2}]}'
    other = '{scale: a, modules: {"*": 2, "*attn1*": 0.5}, blocks: {IN01: 0.5, BASE: 2}}'
    texts = [f"lorapipe: 1\nsteps:\n  a: {{load: f}}\n  s: {step}\n" for step in (one, same, other)]
    keys = [canonical(dict(parse(text).steps["s"].params)) for text in texts]
    assert keys[0] == keys[1] != keys[2]
