"""PEFT's patterns: as PEFT's rule has it, and in time whatever a stranger wrote."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.formats.adapters.patterns import Patterns, path_matches


def pefts(patterns: dict[str, float], path: str, default: float) -> float:
    """``get_pattern_key`` of huggingface/peft 0.21.2, and the look-up after it."""
    key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", path)), path)
    return patterns.get(key, default)


PATHS = [
    "q_proj",
    "model.layers.0.self_attn.q_proj",
    "model.layers.10.self_attn.q_proj",
    "model.layers.0.mlp.up_proj",
    "layers.0.q_proj",
    "proj_out",
    "single.0.proj_out",
    "x.to_out.0",
]
KEYS = [
    "q_proj",
    "self_attn.q_proj",
    "^q_proj",
    "^layers.0.q_proj",
    "layers.0.q_proj",
    "proj_out",
    "^proj_out",
    "to_out.0",
    r"model\.layers\.0\.self_attn\.q_proj",
    r"layers\.\d+\.self_attn\.\w+",
    r".*\.mlp\..*",
    r"layers\.[01]\..*",
    r"^model\.layers\.(?:0|3)\.mlp\.up_proj$",
    "(?:q|up)_proj",
    r"q_proj$",
    "attn",
    "roj",
    r"^.*\.q_proj",
    "q_proj|proj_out",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", KEYS)
def test_one_pattern_means_what_it_means_to_peft(key: str, path: str) -> None:
    assert Patterns.of({key: 4.0}).value(path, 1.0) == pefts({key: 4.0}, path, 1.0)
    assert path_matches(key, path) == (pefts({key: 4.0}, path, 1.0) == 4.0)


@given(st.lists(st.sampled_from(KEYS), unique=True, max_size=6), st.sampled_from(PATHS))
def test_the_first_of_several_decides(keys: list[str], path: str) -> None:
    patterns = {key: float(number + 2) for number, key in enumerate(keys)}
    assert Patterns.of(patterns).value(path, 1.0) == pefts(patterns, path, 1.0)


def test_thousands_of_paths_are_looked_up_not_tried() -> None:
    patterns = Patterns.of({f"^model.layers.{n}.q_proj": float(n + 1) for n in range(5000)})
    start = time.process_time()
    found = [patterns.value(f"model.layers.{n}.q_proj", 0.0) for n in range(5000)]
    assert found == [float(n + 1) for n in range(5000)]
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "key",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a*)*",
        "(a|b)(a|b)(a|b)(a|b)c",
        ".*.*.*.*x",
        "a?a?a?a?aaaa",
        "x{2}y{3}z{4}w{5}",
        "[y]" * 667,
        "(",
        "[z-a]",
    ],
)
def test_what_could_take_for_ever_or_is_no_expression_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"could match in too many ways|is no regular expression"):
        Patterns.of({key: 1.0})


@pytest.mark.parametrize("key", [".*a.*a.*b", r"\w+a\w+a\w+b", "(a|aa)(a|aa)(a|aa)b", "^.*a.*a.*b"])
def test_what_is_taken_ends_soon_on_a_long_name(key: str) -> None:
    start = time.process_time()
    assert Patterns.of({key: 2.0}).value("a" * 300, 1.0) == 1.0
    assert time.process_time() - start < 2.0
