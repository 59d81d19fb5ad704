"""Steps in the variants that they have."""

from __future__ import annotations

from lorapipe.recipe.parsing import parse

from .test_matrix import SWEEP


def test_a_step_stands_once_for_each_combination_of_the_axes_that_it_depends_on() -> None:
    recipe = parse(SWEEP)
    assert [name for name in recipe.steps if name.startswith(("a", "both", "lora"))] == [
        "a",
        "both[strength=0.4]",
        "lora[strength=0.4,rank=4]",
        "lora[strength=0.4,rank=8]",
        "both[strength=0.8]",
        "lora[strength=0.8,rank=4]",
        "lora[strength=0.8,rank=8]",
        "lora[strength=0.8,rank=16]",
        "both[strength=1.2]",
        "lora[strength=1.2,rank=64]",
    ]
    small = recipe.steps["small[strength=0.8,rank=16]"]
    assert (small.written, dict(small.axes)) == ("small", {"strength": 0.8, "rank": 16})
    assert small.params == {"rank": 16}
    assert [term.step for term in small.terms()] == ["both[strength=0.8]"]
    assert recipe.steps["both[strength=0.8]"].inputs["concat"][0].weight == 0.8
