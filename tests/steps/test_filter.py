"""``filter``: some of a LoRA's modules, as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Cost, Materialise
from lorapipe.weights.specs import ModuleId

from ..bench import CONV1, KEYS, TE, TO_Q, Bench
from .kit import CONV, FILE, POINT, TEXT, Q, infer, load, lora, model, options, work, written
from .kit import given as inputs_of

KIND = find_kind("filter")
OUT = ModuleId("unet", "model.diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight")
SHAPES = {Q: (20, 20), POINT: (20, 20, 1, 1), CONV: (20, 12, 3, 3), TEXT: (24, 16), OUT: (20, 20)}


def kept(**said: Any) -> list[ModuleId]:
    return list(infer("filter", inputs_of(filter=lora(shapes=SHAPES)), **said).modules)


def refused(**said: Any) -> tuple[str, str | None]:
    with pytest.raises(RecipeError) as caught:
        infer("filter", inputs_of(filter=lora(shapes=SHAPES)), **said)
    return str(caught.value), caught.value.option


def test_it_is_free() -> None:
    spec = lora()
    assert KIND.materialise is Materialise.LAZY
    assert KIND.cost(inputs_of(filter=spec), options("filter", keep={"components": "te"}), spec) == Cost()


@pytest.mark.parametrize(
    ("said", "modules"),
    [
        ({"keep": {"components": "te"}}, [TEXT]),
        ({"keep": {"components": ["te", "unet"]}}, [Q, POINT, CONV, TEXT, OUT]),
        ({"keep": {"blocks": ["IN01"]}}, [Q, POINT, CONV]),
        ({"keep": {"blocks": "OUT*"}}, [OUT]),
        ({"keep": {"modules": ["*attn*"]}}, [Q, TEXT, OUT]),
        ({"keep": {"modules": ["*attn1*", "re:proj_in"]}}, [Q, POINT]),
        ({"drop": {"components": "te"}}, [Q, POINT, CONV, OUT]),
        ({"drop": {"blocks": ["BASE", "OUT*"]}}, [Q, POINT, CONV]),
    ],
)
def test_modules_are_kept_or_dropped_in_their_order(said: Any, modules: list[ModuleId]) -> None:
    assert kept(**said) == modules


def test_what_is_said_on_one_side_holds_together() -> None:
    assert kept(keep={"components": "unet", "modules": "*attn*"}) == [Q, OUT]
    assert kept(drop={"blocks": "IN01", "modules": "*attn*"}) == [POINT, CONV, TEXT, OUT]


def test_what_is_dropped_is_dropped_of_what_is_kept() -> None:
    assert kept(keep={"components": "unet"}, drop={"modules": "*attn2*"}) == [Q, POINT, CONV]


@given(st.sets(st.sampled_from(["IN01", "OUT03", "BASE"]), min_size=1, max_size=2))
def test_what_is_kept_and_what_is_dropped_by_one_choice_are_the_whole(blocks: set[str]) -> None:
    ours, others = (kept(**{side: {"blocks": sorted(blocks)}}) for side in ("keep", "drop"))
    assert set(ours) | set(others) == set(SHAPES)
    assert not set(ours) & set(others)


def test_nothing_left_is_an_error() -> None:
    for said in (
        {"drop": {"modules": "*"}},
        {"keep": {"components": "te", "modules": "*attn2*"}},
        {"keep": {"blocks": "MID"}},
        {"keep": {"components": "te"}, "drop": {"components": "te"}},
    ):
        assert refused(**said) == (
            "error: no module is kept: nothing is left - keep more, or drop less",
            None,
        )


@pytest.mark.parametrize(
    ("said", "message", "option"),
    [
        ({"keep": {"components": ["vae"]}}, "the LoRA has no component 'vae' - it has te, unet", "keep"),
        ({"drop": {"blocks": ["OUT12"]}}, "SD1.x has no block 'OUT12' - did you mean 'OUT11'?", "drop"),
        (
            {"keep": {"modules": ["*attn3*"]}},
            "no module matches '*attn3*' - nearest to 'attn3' are attn",
            "keep",
        ),
    ],
)
def test_what_is_not_there_is_an_error(said: Any, message: str, option: str) -> None:
    text, place = refused(**said)
    assert text.startswith(f"error: {message}")
    assert place == option


def test_keeping_everything_is_said_before_a_build() -> None:
    spec = lora(shapes=SHAPES)
    inputs = inputs_of(filter=spec)
    for said, told in (
        ({"keep": {"modules": "*"}}, ("it keeps every module: nothing is filtered",)),
        ({"keep": {"components": "te"}}, ()),
    ):
        asked = options("filter", **said)
        assert KIND.warn(inputs, asked, KIND.infer(inputs, asked)) == told


@pytest.mark.parametrize("wrong", [model(), FILE])
def test_only_a_lora_is_filtered(wrong: object) -> None:
    with pytest.raises(RecipeError) as caught:
        infer("filter", inputs_of(filter=wrong), keep={"components": "te"})
    assert (caught.value.code, caught.value.option) == ("wrong-type", "filter")


def test_what_is_kept_is_written_bit_for_bit(bench: Bench) -> None:
    loaded = load(bench.lora("a", dtype="float16"))
    before = written(loaded)
    after = written(
        work("filter", inputs_of(filter=loaded), keep={"blocks": ["IN01"]}, drop={"modules": "*conv1"})
    )
    gone = [name for name in before if name.startswith((TE, CONV1))]
    assert set(after) == set(before) - set(gone)
    assert len(gone) == 6
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name


def test_other_formats_pass_as_they_are(bench: Bench) -> None:
    loaded = load(bench.lycoris("a"))
    found = work("filter", inputs_of(filter=loaded), drop={"components": "te"})
    assert {str(module) for module in found.modules} == {key for stem, key in KEYS.items() if stem != TE}
    assert any(name.startswith(f"{TO_Q}.hada_w1_a") for name in written(found))
