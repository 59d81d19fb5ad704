"""What the scripts multiply by, told by headers, and said in few words."""

from __future__ import annotations

from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lorapipe.drafts.kohya.ranks import halved, most_common, patterns, ranks_of
from lorapipe.errors import InputError

NAMES = st.lists(
    st.sampled_from(["unet", "te", "te1", "down", "0", "1", "10", "proj"]), min_size=1, max_size=5
)
FACTORS = st.dictionaries(NAMES.map("_".join), st.sampled_from([0.25, 0.5, 1.0]), max_size=12)


def test_ranks_are_those_of_the_downs(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(
        {
            "lora_te_x.lora_down.weight": torch.zeros(4, 8),
            "lora_te_x.lora_up.weight": torch.zeros(8, 4),
            "lora_unet_y.lora_down.weight": torch.zeros(2, 8, 3, 3),
            "lora_unet_y.alpha": torch.tensor(1.0),
        },
        path,
    )
    assert ranks_of(path) == {"lora_te_x": 4, "lora_unet_y": 2}


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        ranks_of(tmp_path / "none.safetensors")


def test_shares_of_a_module_add_up_to_one() -> None:
    first, second = halved([{"x": 4, "y": 2}, {"x": 12}])
    assert (first, second) == ({"x": 0.25, "y": 1.0}, {"x": 0.75})
    assert Fraction(first["x"]) + Fraction(second["x"]) == 1


def test_the_usual_factor_is_that_of_most_modules() -> None:
    assert most_common({"a": 0.5, "b": 1.0, "c": 1.0}) == 1.0
    assert most_common({}) == 1.0


@given(FACTORS, st.sampled_from([0.25, 0.5, 1.0]))
def test_patterns_say_the_factor_of_every_module(factors: dict[str, float], usual: float) -> None:
    said = patterns(factors, usual)
    for module, factor in factors.items():
        assert {said[p] for p in said if fnmatchcase(module, p)} == ({factor} - {usual})


def test_modules_with_a_common_beginning_are_said_at_once() -> None:
    factors = {f"lora_te_layers_{n}": 0.5 for n in range(9)} | {f"lora_unet_{n}": 1.0 for n in range(9)}
    assert patterns(factors, 1.0) == {"lora_te_*": 0.5}
