"""Did you mean."""

from __future__ import annotations

import pytest

from lorapipe.recipe.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("word", "choices", "also", "meant"),
    [
        ("rnak", ["rank", "conv-rank"], {}, "rank"),
        ("conv_rank", ["rank", "conv-rank"], {}, "conv-rank"),
        ("Rank", ["rank"], {}, "rank"),
        ("float16", ["fp16", "bf16"], {"float16": "fp16"}, "fp16"),
        ("flaot16", ["fp16", "bf16"], {"float16": "fp16"}, "fp16"),
        ("zzz", ["rank"], {}, None),
        ("", ["rank"], {}, None),
        ("rank", [], {"rank": "gone"}, None),
        ("r" * 10_000, ["r" * 9_999], {}, None),
    ],
)
def test_the_nearest_word_is_found_or_none(
    word: str, choices: list[str], also: dict[str, str], meant: str | None
) -> None:
    assert nearest(word, choices, also) == meant


def test_a_word_known_exactly_wins_over_a_likeness() -> None:
    assert nearest("merge", ["merge-x", "concat"], {"merge": "concat"}) == "concat"


def test_a_likeness_to_a_choice_wins_over_one_to_another_name() -> None:
    assert nearest("sede", ["seed", "rank"], {"sed": "rank"}) == "seed"


def test_the_hint_reads_as_a_question() -> None:
    assert did_you_mean("rnak", ["rank"]) == "did you mean 'rank'?"
    assert did_you_mean("zzz", ["rank"]) is None
