"""The scripts' commands as recipes: every option of them lands, and what is not imitated is said."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lorapipe.drafts.kohya import kohya_recipe
from lorapipe.errors import UsageError
from lorapipe.recipe.draft import Draft, render
from lorapipe.recipe.parsing import parse


def imported(command: str, here: Path = Path("/r"), *, as_computed: bool = False) -> Draft:
    """The draft of a command that ran in the recipe's folder; it is a valid recipe."""
    draft = kohya_recipe(shlex.split(command), here, here, as_computed=as_computed)
    parse(render(draft))
    return draft


def remarks(draft: Draft) -> str:
    return " ".join([*draft.head, *(text for texts in draft.remarks.values() for text in texts)])


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """Two LoRAs: of rank 4 with a text encoder, and of rank 4 (12 in one module)."""

    def lora(name: str, ranks: dict[str, int]) -> None:
        tensors = {f"{m}.lora_down.weight": torch.zeros(r, 8) for m, r in ranks.items()}
        save_file(
            tensors | {f"{m}.lora_up.weight": torch.zeros(8, r) for m, r in ranks.items()}, tmp_path / name
        )

    lora("a.safetensors", {"lora_te_x": 4, "lora_unet_y": 4, "lora_unet_z": 4})
    lora("b.safetensors", {"lora_unet_y": 4, "lora_unet_z": 12})
    return tmp_path


TWO = "merge_lora.py --models a.safetensors b.safetensors --ratios 0.5 -1.0 --save_to c.safetensors"


@pytest.mark.parametrize("how", ["", " --concat"])
def test_the_sum_that_was_meant_has_the_ratios_as_they_are(how: str) -> None:
    draft = imported(TWO + how)
    assert draft.steps["sum"] == {"concat": {"a": 0.5, "b": -1.0}}
    assert draft.steps["out"] == {"save": "sum", "to": "c.safetensors", "dtype": "fp32"}
    assert "r * |r|" in remarks(draft)
    assert "--as-computed" in remarks(draft)


def test_ratios_whose_square_is_themselves_are_not_remarked_on() -> None:
    assert "|r|" not in remarks(imported(TWO.replace("0.5", "1.0")))


def test_the_sum_that_was_computed_has_squared_ratios(loras: Path) -> None:
    draft = imported(TWO, loras, as_computed=True)
    assert draft.steps["sum"] == {"combine": {"a": 0.25, "b": -1.0}, "method": "linear-factors"}


def test_a_concat_as_computed_shares_out_the_ranks_module_by_module(loras: Path) -> None:
    draft = imported(TWO + " --concat", loras, as_computed=True)
    # a has 1, 4/8 and 4/16 of its modules' ranks; b has 4/8 and 12/16.
    weights: Any = draft.steps["sum"]["concat"]
    shares: Any = {step: draft.steps[step]["modules"] for step in weights}
    usual = {step: weights[step] / ratio for step, ratio in zip(weights, [0.25, -1.0], strict=True)}
    for step, module, share in [
        ("a-shares", "lora_te_x", 1.0),
        ("a-shares", "lora_unet_y", 0.5),
        ("a-shares", "lora_unet_z", 0.25),
        ("b-shares", "lora_unet_y", 0.5),
        ("b-shares", "lora_unet_z", 0.75),
    ]:
        assert usual[step] * shares[step].get(module, 1.0) == share


def test_shuffling_hides_unless_the_scripts_order_is_asked_for(loras: Path) -> None:
    assert imported(TWO + " --concat --shuffle").steps["shuffled"] == {"shuffle": "sum"}
    computed = imported(TWO + " --concat --shuffle", loras, as_computed=True)
    assert computed.steps["shuffled"] == {"shuffle": "sum", "mode": "permute"}
    assert computed.steps["out"]["save"] == "shuffled"


def test_block_weights_scale_once_and_as_computed_twice() -> None:
    command = "sdxl_" + TWO + " --lbws [1,0.5,0,1,1,1,1,1,1,1,1,-2] [1,1,1,1,1,1,1,1,1,1,1,1]"
    meant, computed = (imported(command, as_computed=as_computed).steps for as_computed in (False, True))
    assert meant["a-blocks"]["blocks"] == {"list": [1, 0.5, 0, *[1] * 8, -2], "default": 1}
    assert computed["a-blocks"]["blocks"] == {"list": [1, 0.25, 0, *[1] * 8, 4], "default": 1}
    assert imported(command).steps["sum"] == {"concat": {"a-blocks": 0.5, "b-blocks": -1.0}}


@pytest.mark.parametrize("script", ["merge_lora.py --v2", "sdxl_merge_lora.py"])
def test_into_a_model_ratios_are_linear_and_what_it_lacks_is_passed_over(script: str) -> None:
    command = TWO.replace("merge_lora.py", script) + " --sd_model m.ckpt --save_precision fp16 --no_metadata"
    draft = imported(command)
    assert draft.steps["base"] == {"load": "m.ckpt"}
    assert draft.steps["base-merged"] == {
        "merge-into-checkpoint": "base",
        "loras": {"a": 0.5, "b": -1.0},
        "unmatched": "warn",
    }
    assert draft.steps["base-out"] == {
        "save": "base-merged",
        "to": "c.safetensors",
        "dtype": "fp16",
        "provenance": "none",
    }


def test_block_weights_into_a_model_scale_once_in_both_readings() -> None:
    command = "sdxl_" + TWO + " --sd_model m --lbws " + 2 * "[1,0.5,1,1,1,1,1,1,1,1,1,1] "
    for as_computed in (False, True):
        said: Any = imported(command, as_computed=as_computed).steps["a-blocks"]["blocks"]
        assert said["list"][1] == 0.5


FLUX = "flux_merge_lora.py --models a.safetensors --ratios 0.9 --flux_model f.safetensors"
FLUX += " --save_to c.safetensors"
ENCODERS = "--clip_l l.safetensors --clip_l_save_to l2.safetensors --t5xxl t.safetensors"
ENCODERS += " --t5xxl_save_to t2.safetensors"


def test_flux_merges_into_each_model_that_is_named() -> None:
    draft = imported(f"{FLUX} {ENCODERS} --save_precision bf16 --working_device cuda --mem_eff_load_save")
    saved = {str(step["to"]): step["save"] for step in draft.steps.values() if "save" in step}
    assert saved == {
        "c.safetensors": "base-merged",
        "l2.safetensors": "clip_l-merged",
        "t2.safetensors": "t5xxl-merged",
    }
    assert draft.defaults == {"device": "cuda"}


def test_flux_without_a_model_joins_loras_and_a_missing_target_is_said() -> None:
    draft = imported(FLUX.replace("--flux_model f.safetensors", "--diffusers --loading_device cuda"))
    assert draft.steps["sum"] == {"concat": {"a": 0.9}}
    assert draft.steps["a"]["family"] == "flux1", "its names are HunyuanVideo's as well"
    for command, option in [
        (FLUX.replace("--save_to c.safetensors", ""), "--save_to"),
        (FLUX.replace("--flux_model f.safetensors --save_to c.safetensors", ""), "--save_to"),
        (f"{FLUX} --clip_l l.safetensors", "--clip_l_save_to"),
    ]:
        with pytest.raises(UsageError, match=f"{option} is missing"):
            imported(command)


def test_an_svd_merge_is_a_sum_at_a_rank() -> None:
    draft = imported(
        "svd_merge_lora.py --models a.safetensors b.safetensors --ratios 0.8 0.6 --new_rank 8"
        " --new_conv_rank 2 --save_to c.safetensors --save_precision fp16 --device cuda --precision bf16"
    )
    assert draft.steps["sum"] == {"concat": {"a": 0.8, "b": 0.6}}
    assert draft.steps["small"] == {"svd-resize": "sum", "rank": 8, "conv-rank": 2}
    assert draft.defaults == {"device": "cuda"}
    assert "0.99 quantile" in remarks(draft)
    assert "--precision bf16" in remarks(draft)


RESIZE = "resize_lora.py --model a.safetensors --new_rank 8 --save_to c.safetensors"


def test_a_resize_takes_its_rule_and_says_what_the_script_makes_of_it() -> None:
    draft = imported(RESIZE + " --dynamic_method sv_cumulative --dynamic_param 0.7 --verbose")
    assert draft.steps["small"] == {"svd-resize": "a", "rank": 8, "dynamic": {"sv-cumulative": 0.7}}
    assert "one rank more" in remarks(draft)


def test_a_resize_has_the_scripts_defaults() -> None:
    assert imported(RESIZE.replace(" --new_rank 8", "")).steps["small"] == {"svd-resize": "a", "rank": 4}
    assert imported(RESIZE).steps["out"]["dtype"] == "fp32"


def test_the_conv_rank_of_a_resize_is_that_of_1x1_too_as_computed() -> None:
    command = RESIZE + " --new_conv_rank 2"
    assert "conv1x1-rank" not in imported(command).steps["small"]
    assert imported(command, as_computed=True).steps["small"]["conv1x1-rank"] == 2


@pytest.mark.parametrize("half", ["--dynamic_method sv_fro", "--dynamic_param 0.9"])
def test_half_a_rule_is_refused(half: str) -> None:
    with pytest.raises(UsageError, match="given together"):
        imported(f"{RESIZE} {half}")


EXTRACT = "extract_lora_from_models.py --model_org o.ckpt --model_tuned t.ckpt --save_to d.safetensors"


def test_an_extraction_takes_base_tuned_and_ranks() -> None:
    draft = imported(EXTRACT + " --sdxl --dim 64 --conv_dim 32 --load_precision fp16 --save_precision fp16")
    assert draft.steps["difference"] == {"extract-lora": "tuned", "base": "base", "rank": 64, "conv-rank": 32}
    assert (draft.steps["tuned"], draft.steps["base"]) == ({"load": "t.ckpt"}, {"load": "o.ckpt"})
    assert draft.steps["out"] == {"save": "difference", "to": "d.safetensors", "dtype": "fp16"}
    assert "--load_precision fp16" in remarks(draft)
    assert "--min_diff 0.01" in remarks(draft)


def test_an_extraction_without_conv_dim_looks_at_attention_as_computed() -> None:
    assert "attention" not in imported(EXTRACT).steps
    kept = imported(EXTRACT, as_computed=True).steps["attention"]
    assert kept == {"filter": "difference", "keep": {"modules": ["lora_unet_*_attentions_*", "lora_te*"]}}


def test_fluxs_extraction_is_the_same_kind() -> None:
    command = (
        EXTRACT.replace("extract_lora_from_models", "flux_extract_lora") + " --mem_eff_safe_open --dim 16"
    )
    assert imported(command, as_computed=True).steps["difference"]["rank"] == 16


def test_a_dylora_is_sliced_at_each_multiple_of_the_unit_below_its_rank(loras: Path) -> None:
    draft = imported(
        "extract_lora_from_dylora.py --model b.safetensors --save_to out/d.safetensors --unit 5", loras
    )
    assert {str(step["to"]): step["save"] for step in draft.steps.values() if "save" in step} == {
        "out/d-0005.safetensors": "rank-5",
        "out/d-0010.safetensors": "rank-10",
    }
    assert draft.steps["rank-10"] == {"dylora-slice": "b", "components": 10}


@pytest.mark.parametrize(("unit", "text"), [(0, "a whole number from 1"), (12, "leaves nothing to slice")])
def test_a_unit_that_slices_nothing_is_refused(loras: Path, unit: int, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        imported(
            f"extract_lora_from_dylora.py --model b.safetensors --save_to d.safetensors --unit {unit}", loras
        )
