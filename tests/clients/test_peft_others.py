"""peft's other adapters: LoHa, LoKr, OFT, BOFT and (IA)3, merged by us as by peft."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from .kit import SINGLE, Client, assert_same
from .peft_models import Case, answer, check


def case(model: str, config: str, *targets: str, **options: Any) -> Case:
    return Case(model, f"{config}Config", {"target_modules": list(targets), **options})


# peft rounds LoHa's scale to float32: these are exact in it.
LOHA = [
    case("llama", "LoHa", "q_proj", "down_proj", r=4, alpha=3),
    case(
        "llama",
        "LoHa",
        "q_proj",
        "v_proj",
        r=4,
        alpha=2,
        rank_pattern={"v_proj": 2},
        alpha_pattern={"q_proj": 5},
    ),
    case("convs", "LoHa", "stem", "point", "last", r=2, alpha=3),
    case("convs", "LoHa", "stem", "point", "last", r=2, alpha=3, use_effective_conv2d=True),
]

LOKR = [
    case("llama", "LoKr", "q_proj", "down_proj", r=1, alpha=3),
    case("llama", "LoKr", "q_proj", "down_proj", r=2, alpha=3, decompose_both=True, decompose_factor=8),
    case("llama", "LoKr", "q_proj", "down_proj", r=1, alpha=3, decompose_factor=2),
    case("convs", "LoKr", "stem", "point", "last", r=1, alpha=3),
    case("convs", "LoKr", "stem", "point", "last", r=1, alpha=3, use_effective_conv2d=True),
]

# At r 8 both factors are whole: lycoris takes such a pair at scale 1, peft at alpha / r all the same.
LOKR_WHOLE = case("llama", "LoKr", "q_proj", r=8, alpha=2)

OFT = [
    case("llama", "OFT", "q_proj", "down_proj", oft_block_size=4),
    case("llama", "OFT", "q_proj", "down_proj", oft_block_size=0, r=4),
    case("llama", "OFT", "q_proj", oft_block_size=4, use_cayley_neumann=False),
    *(case("llama", "OFT", "q_proj", oft_block_size=4, num_cayley_neumann_terms=n) for n in (2, 3, 4, 6)),
    case("llama", "OFT", "q_proj", oft_block_size=4, block_share=True),
    case("convs", "OFT", "stem", "point", "last", oft_block_size=4),
]

BOFT = [
    case("llama", "BOFT", "q_proj", "down_proj", boft_block_size=4),
    case("llama", "BOFT", "q_proj", boft_block_size=0, boft_block_num=2),
    case("convs", "BOFT", "stem", "point", "last", boft_block_size=4),
]

IA3 = [
    case("llama", "IA3", "k_proj", "down_proj", feedforward_modules=["down_proj"]),
    case("qwen", "IA3", "k_proj", "v_proj", "down_proj", feedforward_modules=["down_proj"]),
    case("gpt2", "IA3", "c_attn", "mlp.c_proj", feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True),
    case("convs", "IA3", "stem", "point", "last", feedforward_modules=["point"]),
]


# The bound of a constrained rotation is a float32 in peft.
BOUNDED = [
    case("llama", "OFT", "q_proj", oft_block_size=4, coft=True, eps=0.2),
    case("llama", "OFT", "q_proj", oft_block_size=4, coft=True, eps=0.2, use_cayley_neumann=False),
    case("llama", "OFT", "q_proj", oft_block_size=4, coft=True, eps=0.2, block_share=True),
]


def without_r(chosen: Case) -> Case:
    """peft's OFT takes a block size or a number of blocks, the other one zero."""
    return replace(chosen, options={"r": 0, **chosen.options})


@pytest.mark.parametrize("chosen", LOHA, ids=str)
def test_loha_is_the_product_element_by_element(chosen: Case, client: Client) -> None:
    check(chosen, client)


@pytest.mark.parametrize("chosen", LOKR, ids=str)
def test_lokr_is_the_kronecker_product(chosen: Case, client: Client) -> None:
    check(chosen, client)


def test_a_lokr_of_two_whole_factors_has_the_scale_of_its_configuration(client: Client) -> None:
    check(LOKR_WHOLE, client)


@pytest.mark.parametrize("chosen", OFT, ids=str)
def test_oft_rotates_the_inputs_as_its_configuration_says(chosen: Case, client: Client) -> None:
    check(without_r(chosen), client)


@pytest.mark.parametrize("chosen", BOUNDED, ids=str)
def test_a_constrained_oft_turns_no_further_than_its_bound(chosen: Case, client: Client) -> None:
    check(replace(without_r(chosen), tolerance=SINGLE), client)


@pytest.mark.parametrize("chosen", BOFT, ids=str)
def test_boft_rotates_the_inputs_and_scales_the_outputs(chosen: Case, client: Client) -> None:
    check(chosen, client)


@pytest.mark.parametrize("factors", [2, 3])
def test_a_boft_of_several_butterflies_turns_with_all_of_them(
    factors: int, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """peft makes these on GPUs alone, for want of one function, which is put in its place here."""
    from peft.tuners.boft import layer

    class BlockDiagonals:
        @staticmethod
        def apply(blocks: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.block_diag(*stage) for stage in blocks])

    monkeypatch.setattr(layer, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(layer, "FastBlockDiag", BlockDiagonals)
    check(case("llama", "BOFT", "q_proj", boft_block_size=2, boft_n_butterfly_factor=factors), client)


@pytest.mark.parametrize("chosen", IA3, ids=str)
def test_ia3_multiplies_outputs_with_their_biases_and_inputs_without(chosen: Case, client: Client) -> None:
    check(chosen, client)


def test_half_an_oft_is_half_the_way_to_peft_s_weight(client: Client) -> None:
    theirs = answer(case("llama", "OFT", "q_proj", r=0, oft_block_size=4), client.folder)
    ours = client.merged(client.checkpoint(theirs.base), f"{theirs.folder}/", 0.5)
    half = {key: (theirs.base[key] + value) / 2 for key, value in theirs.merged.items()}
    assert_same(ours, half, theirs.base, SINGLE)
